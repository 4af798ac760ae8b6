"""Levels never seen: one per parent without a name, and those a study names in ``predict_for``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Factor
from multilevel.design.nesting import Nesting
from multilevel.errors import StudyError
from multilevel.fit.container import Fit, Summary
from multilevel.fit.joint_draws import summary_about


@dataclass(frozen=True)
class NewLevel:
    """A level to estimate although it was never seen: of which factor, its name, and under which parent (None where not nested)."""

    grouping_factor: str
    level: str
    parent_level: str | None = None


@dataclass(frozen=True)
class NewLevels:
    """M rows for levels never seen of one factor.

    level, parent : (M,) labels or None. sibling : (M,) a seen level with the same parent. ancestors : ancestor -> (M,) its level, for
    the ancestors that the parent settles.
    """

    level: NDArray[np.object_]
    parent: NDArray[np.object_]
    sibling: Integers
    ancestors: Mapping[str, Integers]

    def __len__(self) -> int:
        return len(self.level)


def new_levels(nesting: Nesting, name: str, named: Sequence[NewLevel]) -> NewLevels:
    """One unnamed level per parent (one in all where the factor is not nested), then the named ones that were never seen."""
    factor = nesting.factors[name]
    parents, sibling, group = _parents(factor)
    wanted = [level for level in named if level.grouping_factor == name and not _is_seen(factor, level)]
    places = np.array([_place(parents, level) for level in wanted], dtype=np.int64)
    row = np.concatenate([np.arange(len(parents)), places])
    settled = {
        other: levels[sibling][row] for other, levels in nesting.ancestors[name].items() if np.array_equal(levels, levels[sibling][group])
    }
    labels = np.array([*[None] * len(parents), *[level.level for level in wanted]], dtype=object)
    return NewLevels(labels, parents[row], sibling[row], settled)


def check_named(nesting: Nesting, named: Sequence[NewLevel]) -> None:
    """Refuse a ``predict_for`` that names a factor the model does not have, or a level twice."""
    repeated = next((level for level in named if named.count(level) > 1), None)
    if repeated is not None:
        raise StudyError(f"predict_for names the level {repeated.level!r} of {repeated.grouping_factor} twice; write it once.")
    for level in named:
        if level.grouping_factor not in nesting.factors:
            known = ", ".join(nesting.factors) or "none"
            raise StudyError(f"predict_for names the grouping factor {level.grouping_factor!r}; the formula's are: {known}.")


def new_effect(fit: Fit, block: int, column: int, base: Summary | None, draws: Floats | None, *, seed: int) -> Summary:
    """``base`` + a new b ~ N(0, Sigma): (M,) summaries; without ``base`` the new effect alone, (1,).

    ``draws`` (M, S): the draws of ``base``, aligned with ``Fit.covariance_draws``, where the engine keeps draws; its quantiles are then
    those of the mixture over Sigma. Otherwise normal: variances add.
    """
    variance = fit.covariances[block][column, column]
    zero = Summary(*(np.zeros(1) for _ in range(4)))
    start = base if base is not None else zero
    if fit.covariance_draws is None:
        std_error = np.sqrt(start.std_error**2 + variance)
        reach = ndtri(0.5 + fit.interval / 2.0) * std_error
        return Summary(start.estimate, std_error, start.estimate - reach, start.estimate + reach)
    spread = np.sqrt(fit.covariance_draws[block][:, column, column])
    new = spread * np.random.default_rng(seed).standard_normal(len(spread))
    values = (draws if draws is not None else np.zeros((1, 1))) + (new - new.mean())
    return summary_about(start.estimate, values, fit.interval)


def _parents(factor: Factor) -> tuple[NDArray[np.object_], Integers, Integers]:
    """Distinct parents, a level of each, and the parent's place for every level."""
    if factor.parents is None:
        return np.array([None], dtype=object), np.zeros(1, np.int64), np.zeros(factor.n_levels, np.int64)
    labels, first, group = np.unique(factor.parents.astype(str), return_index=True, return_inverse=True)
    return labels.astype(object), first.astype(np.int64), group.astype(np.int64)


def _is_seen(factor: Factor, level: NewLevel) -> bool:
    same = factor.levels == level.level
    if factor.parents is not None:
        same &= factor.parents == level.parent_level
    return bool(np.any(same))


def _place(parents: NDArray[np.object_], level: NewLevel) -> int:
    match = np.flatnonzero(parents == level.parent_level)
    if len(match) == 0:
        shown = ", ".join(str(parent) for parent in parents[:5])
        raise StudyError(
            f"predict_for: level {level.level!r} of {level.grouping_factor} needs a parent_level that was seen; "
            f"{level.parent_level!r} was not (seen: {shown}{', ...' if len(parents) > 5 else ''})."
        )
    return int(match[0])
