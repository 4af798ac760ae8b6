"""What changed since the last published version: groups that moved and why, came or went."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import ndtr

from groupwise.report.labelled import parent_columns
from groupwise.report.subject import Subject
from groupwise.study.moved import DEFAULT, Threshold, read_threshold
from groupwise.study.study_labels import Labels
from multilevel.catalogue.headline import population_factors, with_headline
from multilevel.errors import DataError

if TYPE_CHECKING:
    from multilevel.prediction.change_parts import ChangeParts
    from multilevel.prediction.saved_cells import SavedCells

type Floats = NDArray[np.float64]

KEYS = ("grouping_factor", "parent_level", "level")

POSTERIOR = "bayesian"
"""The engine whose tables are of posteriors."""

SURE = 0.9
"""Moves of at least this probability are ordered by size; those that are less sure follow, the surest first."""


@dataclass(frozen=True)
class Move:
    """One group whose estimate moved, in units of the outcome.

    of : members as they are, or new ones. has_moved : by more than the threshold; probability : of that. parts : of the change, adding up
    to it; None where it cannot be split. is_relative : every estimate of its factor is above zero, so that changes are told in percent of
    ``before``. is_sampled : it is one of a sample, such as a customer.
    """

    factor: str
    parent: str | None
    level: str
    before: float
    after: float
    of: Literal["members", "population"]
    has_moved: bool
    probability: float
    parts: ChangeParts | None
    is_relative: bool
    is_sampled: bool

    @property
    def change(self) -> float:
        """The difference of the two published estimates."""
        return self.after - self.before


@dataclass(frozen=True)
class Level:
    """A level that one version has alone."""

    factor: str
    parent: str | None
    level: str
    estimate: float

    def __str__(self) -> str:
        return f"{self.factor}: {self.level}"


@dataclass(frozen=True)
class Count:
    """How many levels of a factor were compared, and moved."""

    factor: str
    n_compared: int
    n_moved: int
    is_sampled: bool


@dataclass(frozen=True)
class Changes:
    """The difference between two versions: ``since`` is the earlier as_of; ``new`` and ``gone`` levels.

    moves : of the levels that changed by more than ``threshold`` those that surely did, largest first, then the others; levels that are a
    sample come after all that are not. counts : by factor. is_posterior : both versions are posteriors. notes : what cannot be compared,
    or not as it is told.
    """

    since: str
    moves: tuple[Move, ...]
    counts: tuple[Count, ...]
    threshold: Threshold
    is_posterior: bool
    new: tuple[Level, ...]
    gone: tuple[Level, ...]
    notes: tuple[str, ...] = ()

    @property
    def n_compared(self) -> int:
        """Levels that both versions have."""
        return sum(count.n_compared for count in self.counts)

    @property
    def n_moved(self) -> int:
        """Those of them that moved."""
        return sum(count.n_moved for count in self.counts)


@dataclass(frozen=True)
class Published:
    """One version: its tables by name, and the cells of its averages, None where it keeps none."""

    tables: Mapping[str, pa.Table]
    cells: pa.Table | None = None

    def constant(self, name: str) -> str:
        """A value that every published row carries."""
        return str(self.tables["diagnostics"].column(name)[0])


def changes(subject: Subject, most: int = 12) -> Changes | None:
    """Compare with the previous version; None where there is none."""
    if subject.previous is None:
        return None
    given, sampled = subject.study.get("diff"), subject.study.get("sampled")
    moved = given.get("moved", DEFAULT) if isinstance(given, Mapping) else DEFAULT
    published = subject.published or subject.tables
    earlier, later = Published(subject.previous, subject.previous_cells), Published(published, subject.cells)
    found = changes_between(earlier, later, read_threshold(moved), most, sampled if isinstance(sampled, list | tuple) else ())
    return _with_labels(found, subject.labels, parent_columns(published["group_estimates"]))


def _with_labels(found: Changes, labels: Labels, around: Mapping[str, str]) -> Changes:
    """The changes under the study's labels of levels."""
    if not (labels.levels or labels.names):
        return found

    def named(one: Move | Level) -> dict[str, Any]:
        parent = labels.parent_of(one.factor, one.parent, around=around.get(one.factor))
        return {"parent": parent, "level": str(labels.level_of(one.factor, one.level))}

    counts = tuple(replace(count, factor=labels.factor(count.factor)) for count in found.counts)
    moves = tuple(replace(one, **named(one)) for one in found.moves)
    new, gone = (tuple(replace(one, **named(one)) for one in each) for each in (found.new, found.gone))
    return replace(found, counts=counts, moves=moves, new=new, gone=gone)


def changes_between(
    earlier: Published, later: Published, threshold: Threshold | None = None, most: int | None = 12, sampled: Collection[str] = ()
) -> Changes:
    """Compare the group estimates of two versions: headline against headline, members where the headlines differ.

    Parameters
    ----------
    threshold : the change above which a level moved; None: 2 % of the earlier estimate. most : moves to name and to split; None: all
        levels that both versions have, moved or not. sampled : columns whose levels are a sample.
    """
    threshold = threshold or read_threshold(DEFAULT)
    told, tells = (population_factors(version.tables["group_estimates"]) for version in (earlier, later))
    before, after = (_estimates(version.tables["group_estimates"], told & tells) for version in (earlier, later))
    both = before.join(after, keys=list(KEYS), join_type="inner", left_suffix="_before", right_suffix="_after").sort_by(
        [(name, "ascending") for name in KEYS]
    )
    numbers = {name: both.column(name).to_numpy().astype(float) for name in both.column_names if name not in KEYS}
    changed = numbers["estimate_after"] - numbers["estimate_before"]
    limit = threshold.of(numbers["estimate_before"])
    error = np.hypot(numbers["std_error_before"], numbers["std_error_after"])
    probability, has_moved = probability_moved(changed, error, limit), np.abs(changed) > limit
    factors = np.array(both.column("grouping_factor").to_pylist(), dtype=object)
    of_sample = {factor for factor in factors if not set(sampled).isdisjoint(factor.split(":"))}
    is_sampled = np.array([factor in of_sample for factor in factors], dtype=bool)
    order = _surest_first(is_sampled, ~has_moved, probability, np.abs(changed), limit)
    shown = order if most is None else order[has_moved[order]][:most]
    rows = both.take(shown).to_pylist()
    parts, notes = _parts(earlier, later, rows, told & tells)
    relative = _positive_factors(both)
    moves = [
        Move(
            row["grouping_factor"],
            row["parent_level"] or None,
            row["level"],
            row["estimate_before"],
            row["estimate_after"],
            "population" if row["grouping_factor"] in told & tells else "members",
            bool(has_moved[at]),
            float(probability[at]),
            parts.get((row["grouping_factor"], row["parent_level"], row["level"])),
            row["grouping_factor"] in relative,
            bool(is_sampled[at]),
        )
        for row, at in zip(rows, shown, strict=True)
    ]
    counts = [
        Count(factor, int(np.sum(factors == factor)), int(np.sum(has_moved[factors == factor])), factor in of_sample)
        for factor in sorted(set(factors), key=lambda factor: (factor in of_sample, factor))
    ]
    return Changes(
        since=earlier.constant("as_of"),
        moves=tuple(moves),
        counts=tuple(counts),
        threshold=threshold,
        is_posterior=all(version.constant("engine") == POSTERIOR for version in (earlier, later)),
        new=_levels(after.join(before, keys=list(KEYS), join_type="left anti")),
        gone=_levels(before.join(after, keys=list(KEYS), join_type="left anti")),
        notes=(*_of_tables(earlier, later), *_of_engines(earlier, later), *_of_headlines(earlier, later, told ^ tells), *notes),
    )


def probability_moved(change: Floats, error: Floats, limit: Floats) -> Floats:
    """(L,) P(a change that way of more than ``limit``), of changes that are normal about ``change`` with standard deviation ``error``.

    The other way does not count: what is known of a group hardly at all has moved by more than 2 % with near certainty, either way.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = ndtr((np.abs(change) - limit) / error)
    return np.asarray(np.where(error > 0, beyond, np.abs(change) > limit), dtype=np.float64)


def _surest_first(*keys: Any) -> NDArray[np.int64]:
    """Order by whether levels are sampled and whether they stayed; then the sure ones by size, the others by probability.

    ``keys`` : is_sampled, has_stayed, probability, size of the change, limit, each (L,).
    """
    is_sampled, has_stayed, probability, change, limit = keys
    is_sure = probability >= SURE
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(limit > 0, change / limit, change)
    return np.lexsort((np.where(is_sure, -size, -probability), ~is_sure, has_stayed, is_sampled))


def _estimates(table: pa.Table, population: Collection[str]) -> pa.Table:
    table = with_headline(table, population)
    seen = table.filter(~pc.field("is_new") & pc.field("estimate").is_valid())
    # a join never matches a null with a null
    parents = seen.column("parent_level").fill_null(pa.scalar(""))
    return seen.select(["grouping_factor", "level", "estimate", "std_error"]).append_column("parent_level", parents)


def _positive_factors(both: pa.Table) -> set[str]:
    lowest = both.group_by("grouping_factor").aggregate([("estimate_before", "min"), ("estimate_after", "min")]).to_pylist()
    return {row["grouping_factor"] for row in lowest if min(row["estimate_before_min"], row["estimate_after_min"]) > 0}


def _parts(
    earlier: Published, later: Published, rows: Sequence[Mapping[str, Any]], population: Collection[str]
) -> tuple[dict[tuple[str, str, str], ChangeParts], list[str]]:
    """The parts of the rows' changes by key, and what to know of them; why they are missing where they are."""
    without = [version for version in (earlier, later) if version.cells is None]
    if without:
        runs = " and ".join(f"run {version.constant('run_id')}" for version in without)
        keeps = "keeps" if len(without) == 1 else "keep"
        why = f"{runs} {keeps} no cells of the averages (published under privacy, or before groupwise kept them)"
        return {}, [f"Changes are not split into range, mix and behaviour: {why}."]
    from multilevel.prediction.change_parts import change_parts
    from multilevel.prediction.saved_cells import read_cells_table

    read = []
    for version in (earlier, later):
        try:
            assert version.cells is not None
            read.append(_by_factor(read_cells_table(version.cells), population))
        except DataError as error:
            return {}, [f"Changes are not split into range, mix and behaviour: run {version.constant('run_id')}: {error}"]
    old, new = read
    found, notes = {}, []
    for factor in dict.fromkeys(row["grouping_factor"] for row in rows):
        if factor not in old or factor not in new:
            notes.append(f"{factor}: changes are not split, since one of the versions keeps no cells of so many levels.")
            continue
        wanted = {
            (row["parent_level"] or None, row["level"]): row["estimate_after"] - row["estimate_before"]
            for row in rows
            if row["grouping_factor"] == factor
        }
        for (parent, level), parts in change_parts(old[factor], new[factor], wanted).items():
            found[factor, parent or "", level] = parts
        notes += _of_columns(factor, old[factor], new[factor])
    return found, notes


def _of_columns(factor: str, old: SavedCells, new: SavedCells) -> list[str]:
    """What does not tell cells apart: columns that were left out where there were too many cells, or that one version has alone."""
    bounded = sorted({*old.own.left_out, *old.mix.left_out, *new.own.left_out, *new.mix.left_out})
    sides = ((old.own, new.own), (old.mix, new.mix))
    alone = {column for one, other in sides for column in set(one.columns) ^ set(other.columns)} - set(bounded)
    notes = []
    if bounded:
        notes.append(
            f"{factor}: the split is coarse. There are too many cells to keep them by {', '.join(bounded)}: what changes in the mix or the "
            "range of those counts as behaviour."
        )
    if alone:
        notes.append(
            f"{factor}: only one version tells cells apart by {', '.join(sorted(alone))}: what changes in them counts as behaviour."
        )
    return notes


def _by_factor(saved: Sequence[SavedCells], population: Collection[str]) -> dict[str, SavedCells]:
    """Those that the compared estimates are averages over."""
    return {cells.factor: cells for cells in saved if cells.of == ("population" if cells.factor in population else "members")}


def _of_engines(earlier: Published, later: Published) -> list[str]:
    engines = [version.constant("engine") for version in (earlier, later)]
    if engines[0] == engines[1]:
        return []
    return [f"The engine changed from {engines[0]} to {engines[1]}: what that changes counts as behaviour."]


def _of_headlines(earlier: Published, later: Published, factors: Collection[str]) -> list[str]:
    if _of_tables(earlier, later):
        return []
    return [
        f"{factor}: one of the versions speaks of new members of a level, the other of the members that it has; compared is the latter."
        for factor in sorted(factors)
    ]


def _of_tables(earlier: Published, later: Published) -> list[str]:
    """What tables of different major versions do not share."""
    old = [version for version in (earlier, later) if "headline" not in version.tables["group_estimates"].column_names]
    if len(old) != 1:
        return []
    return [
        f"Run {old[0].constant('run_id')} has tables of version 1: no plain means and no estimates of new members to compare, and its "
        "no_pooling_estimate has another meaning. Compared are the estimates of members."
    ]


def _levels(table: pa.Table) -> tuple[Level, ...]:
    rows = table.sort_by([(name, "ascending") for name in KEYS]).to_pylist()
    return tuple(Level(row["grouping_factor"], row["parent_level"] or None, row["level"], row["estimate"]) for row in rows)
