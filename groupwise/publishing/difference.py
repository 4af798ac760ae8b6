"""What changed between two published versions of a study."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from groupwise.publishing.layout import Layout
from groupwise.publishing.target import LocalFolder, Target
from groupwise.publishing.version import Version, find_version
from groupwise.report.changes import Changes, Published, changes_between
from groupwise.study.moved import Threshold
from multilevel.errors import PublishError


@dataclass(frozen=True)
class CoefficientMove:
    """A population coefficient (partial pooling) in two versions; ``standard_errors``: its move over the larger of the two."""

    term: str
    before: float
    after: float
    standard_errors: float


@dataclass(frozen=True)
class CheckChange:
    """A check of ``diagnostics`` that passed in one version only, or exists in one only (None)."""

    check: str
    before: bool | None
    after: bool | None
    message: str


@dataclass(frozen=True)
class Difference:
    """What changed from one version to another."""

    earlier: Version
    later: Version
    groups: Changes
    coefficients: tuple[CoefficientMove, ...]
    terms_gone: tuple[str, ...]
    terms_new: tuple[str, ...]
    checks: tuple[CheckChange, ...]


def find(target: Target | Layout, run_id: str) -> Version:
    """The version that a run published; PublishError lists those there are."""
    target = _opened(target)
    return find_version(_published(target), target.study, run_id)


def difference(
    target: Target | Layout,
    earlier: str | None = None,
    later: str | None = None,
    most: int | None = 12,
    threshold: Threshold | None = None,
    sampled: Collection[str] = (),
) -> Difference:
    """What changed between two runs' versions.

    Parameters
    ----------
    target : where the study publishes.
    later : a run id; None: the version that the pointer names. earlier : a run id; None: the newest version before ``later``.
    most, threshold, sampled : as of ``changes_between``.

    Raises
    ------
    PublishError
        A version does not exist, or there is none before.
    """
    target = _opened(target)
    known = _published(target)
    after = find(target, later) if later else next((version for version in known if version.is_latest), known[0])
    if earlier:
        before = find(target, earlier)
    else:
        older = known[known.index(after) + 1 :]
        if not older:
            raise PublishError(f"{target.study}: {after.run_id} is the first version; there is none before it to compare with.")
        before = older[0]
    first, second = (Published(target.tables(version), target.average_cells(version)) for version in (before, after))
    old, new = first.tables, second.tables
    moves, gone, added = _coefficients(old["population_coefficients"], new["population_coefficients"])
    groups = changes_between(first, second, threshold, most, sampled)
    if before.model and after.model and before.model != after.model:
        note = f"The model changed from {before.model} to {after.model}: what that changes counts as behaviour."
        groups = replace(groups, notes=(note, *groups.notes))
    return Difference(before, after, groups, moves, gone, added, _checks(old["diagnostics"], new["diagnostics"]))


def _opened(target: Target | Layout) -> Target:
    return LocalFolder(target) if isinstance(target, Layout) else target


def _published(target: Target) -> list[Version]:
    known = target.versions()
    if not known:
        raise PublishError(f"{target.study}: nothing is published in {target.place} yet; run groupwise estimate first.")
    return known


def _coefficients(old: pa.Table, new: pa.Table) -> tuple[tuple[CoefficientMove, ...], tuple[str, ...], tuple[str, ...]]:
    before, after = _partial(old), _partial(new)
    moves = [CoefficientMove(term, before[term][0], after[term][0], _scaled(before[term], after[term])) for term in after if term in before]
    return tuple(moves), tuple(sorted(set(before) - set(after))), tuple(sorted(set(after) - set(before)))


def _partial(table: pa.Table) -> dict[str, tuple[float, float]]:
    rows = [row for row in table.to_pylist() if row["pooling"] == "partial" and row["estimate"] is not None]
    return {_term(row): (row["estimate"], row["std_error"]) for row in rows}


def _term(row: Mapping[str, Any]) -> str:
    """The term, with its part in a two-part model."""
    part = row.get("part")
    return str(row["term"]) if part is None else f"{row['term']} ({part})"


def _scaled(before: tuple[float, float], after: tuple[float, float]) -> float:
    """The move over the larger of the two standard errors."""
    distance, error = after[0] - before[0], np.fmax(before[1] or np.nan, after[1] or np.nan)
    return 0.0 if distance == 0 else float(distance / error)


def _checks(old: pa.Table, new: pa.Table) -> tuple[CheckChange, ...]:
    before, after = _states(old), _states(new)
    changed = []
    for check in sorted(before.keys() | after.keys()):
        was, now = before.get(check), after.get(check)
        if (was and was[0]) != (now and now[0]):
            message = now[1] if now is not None else was[1] if was is not None else ""
            changed.append(CheckChange(check, None if was is None else was[0], None if now is None else now[0], message))
    return tuple(changed)


def _states(table: pa.Table) -> Mapping[str, tuple[bool, str]]:
    """A check that stands several times passed where all of them did; the message is that of the first that did not."""
    states: dict[str, tuple[bool, str]] = {}
    for row in table.select(["check", "passed", "message"]).to_pylist():
        state = (bool(row["passed"]), str(row["message"] or ""))
        if row["check"] not in states or (states[row["check"]][0] and not state[0]):
            states[row["check"]] = state
    return states
