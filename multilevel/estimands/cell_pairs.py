"""The study's pair of columns, customer group x product group: which grouping factors go with which of the two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Integers
from multilevel.cells.statistics import Labels
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting, first_cell
from multilevel.errors import StudyError

MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class CellPair:
    """The two columns over cells, the factors of each side, and the factors inside combinations of the two (``a:b``)."""

    first: Labels
    second: Labels
    owned: tuple[frozenset[str], frozenset[str]]
    joint: frozenset[str]

    @property
    def shape(self) -> tuple[int, int]:
        """How many levels each column has."""
        return len(self.first.values), len(self.second.values)


def cell_pair(design: Design, nesting: Nesting, columns: tuple[str, str]) -> CellPair:
    """Resolve the study's ``cells``; StudyError for a column that does not group, nested columns, and more than a million combinations."""
    first, second = (_labels(design, column) for column in columns)
    n_rows = len(first.values) * len(second.values)
    if n_rows > MOST_ROWS:
        raise StudyError(
            f"cells: {columns[0]} x {columns[1]} has {n_rows:,} combinations, more than {MOST_ROWS:,}; "
            "choose coarser groups, or set cells to null."
        )
    if columns[0] == columns[1] or _is_inside(first, second) or _is_inside(second, first):
        raise StudyError(f"cells: {columns[0]} and {columns[1]} lie inside one another; name one customer group and one product group.")
    inside = [{name for name in nesting.factors if _is_factor_inside(nesting, name, labels)} for labels in (first, second)]
    joint = frozenset(inside[0] & inside[1])
    sides = zip(columns, (first, second), inside, strict=True)
    one, two = (_owned(nesting, column, labels, names - joint) - joint for column, labels, names in sides)
    return CellPair(first, second, (frozenset(one), frozenset(two - one)), joint)


def _labels(design: Design, column: str) -> Labels:
    if column not in design.cells.groups:
        known = ", ".join(design.cells.groups) or "none"
        raise StudyError(f"cells: {column!r} is not a grouping column of the formula; these are: {known}.")
    return design.cells.groups[column]


def _owned(nesting: Nesting, column: str, labels: Labels, inside: set[str]) -> set[str]:
    """Factors inside the column's levels, those around them, and whatever else lies inside the latter."""
    around = {name for name in nesting.factors if _is_inside(labels, _as_labels(nesting, name))}
    line = inside | around
    if not inside & around:
        # The column alone is no factor (categories under several departments share a name): its factors bring their parents along.
        innermost = {name for name in inside if nesting.factors[name].columns[-1] == column}
        line |= {other for name in innermost for other in nesting.ancestors[name]}
    return line | {name for name in nesting.factors if set(nesting.ancestors[name]) & line}


def _as_labels(nesting: Nesting, name: str) -> Labels:
    factor = nesting.factors[name]
    return Labels(factor.codes, factor.levels)


def _is_factor_inside(nesting: Nesting, name: str, labels: Labels) -> bool:
    return _is_inside(_as_labels(nesting, name), labels)


def _is_inside(inner: Labels, outer: Labels) -> bool:
    codes: Integers = inner.codes.astype(np.int64)
    return bool(np.array_equal(outer.codes[first_cell(codes, len(inner.values))][codes], outer.codes))
