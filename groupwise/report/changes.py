"""What changed since the last published version: groups that moved, came or went."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from groupwise.report.subject import Subject
from multilevel.catalogue.headline import population_factors, with_headline

KEYS = ("grouping_factor", "parent_level", "level")


@dataclass(frozen=True)
class Move:
    """One group whose estimate moved, by how many standard errors of the difference's larger side."""

    factor: str
    level: str
    before: float
    after: float
    standard_errors: float


@dataclass(frozen=True)
class Changes:
    """The difference between two versions: ``since`` is the earlier as_of; ``moves`` the largest first; ``new`` and ``gone`` levels.

    ``notes`` say what cannot be compared as it is told.
    """

    since: str
    moves: tuple[Move, ...]
    n_compared: int
    n_moved: int
    new: tuple[str, ...]
    gone: tuple[str, ...]
    notes: tuple[str, ...] = ()


def changes(subject: Subject, most: int = 12) -> Changes | None:
    """Compare with the previous version; None where there is none. A move of more than two standard errors counts as moved."""
    if subject.previous is None:
        return None
    return changes_between(subject.previous, subject.tables, most)


def changes_between(earlier: Mapping[str, pa.Table], later: Mapping[str, pa.Table], most: int = 12) -> Changes:
    """Compare the group estimates of two versions' tables: headline against headline, members where the headlines differ."""
    told, tells = (population_factors(tables["group_estimates"]) for tables in (earlier, later))
    before, after = (_estimates(tables["group_estimates"], told & tells) for tables in (earlier, later))
    both = before.join(after, keys=list(KEYS), join_type="inner", left_suffix="_before", right_suffix="_after")
    moved = _standard_errors(both)
    largest = np.argsort(-np.abs(moved), kind="stable")[:most]
    return Changes(
        since=str(earlier["diagnostics"].column("as_of")[0]),
        moves=tuple(_move(both.slice(int(i), 1).to_pylist()[0], float(moved[i])) for i in largest),
        n_compared=both.num_rows,
        n_moved=int(np.sum(np.abs(moved) > 2)),
        new=_names(after.join(before, keys=list(KEYS), join_type="left anti")),
        gone=_names(before.join(after, keys=list(KEYS), join_type="left anti")),
        notes=tuple(
            f"{factor}: one of the versions speaks of new members of a level, the other of the members that it has; compared is the latter."
            for factor in sorted(told ^ tells)
        ),
    )


def _estimates(table: pa.Table, population: Collection[str]) -> pa.Table:
    table = with_headline(table, population)
    seen = table.filter(~pc.field("is_new") & pc.field("estimate").is_valid())
    # a join never matches a null with a null
    parents = seen.column("parent_level").fill_null(pa.scalar(""))
    return seen.select(["grouping_factor", "level", "estimate", "std_error"]).append_column("parent_level", parents)


def _standard_errors(both: pa.Table) -> NDArray[np.float64]:
    columns = {name: both.column(name).to_numpy().astype(float) for name in both.column_names if name not in KEYS}
    error = np.fmax(columns["std_error_before"], columns["std_error_after"])
    distance = columns["estimate_after"] - columns["estimate_before"]
    with np.errstate(divide="ignore", invalid="ignore"):
        moved: NDArray[np.float64] = np.where(distance == 0, 0.0, distance / error)
    return moved


def _names(table: pa.Table) -> tuple[str, ...]:
    columns = (table.column(name).to_pylist() for name in ("grouping_factor", "level"))
    return tuple(sorted(f"{factor}: {level}" for factor, level in zip(*columns, strict=True)))


def _move(row: dict[str, Any], standard_errors: float) -> Move:
    return Move(row["grouping_factor"], row["level"], row["estimate_before"], row["estimate_after"], standard_errors)
