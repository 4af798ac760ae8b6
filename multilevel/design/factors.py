"""Grouping factors over cells, and how they nest: as written (``a/b``), and as the data show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from multilevel.arrays import Codes, Integers
from multilevel.cells.statistics import CellStatistics
from multilevel.design.model import Factor
from multilevel.errors import FitError
from multilevel.formula.tree import GroupTerm


def build_factors(groups: Sequence[GroupTerm], cells: CellStatistics) -> dict[tuple[str, ...], Factor]:
    """One factor per combination of columns, nesting found in the data included.

    Raises
    ------
    FitError
        If the cells lack a grouping column.
    """
    written = {group.columns: _factor(group.columns, cells) for group in groups}
    named = {columns: _with_written_parent(factor, set(written)) for columns, factor in written.items()}
    return {columns: _with_found_parent(factor, list(named.values())) for columns, factor in named.items()}


def parent_levels(child: Factor, parent: Factor) -> Integers | None:
    """(L,) the parent's level of each of the child's levels, or None where a level of the child is within several."""
    of_child = np.zeros(child.n_levels, dtype=np.int64)
    of_child[child.codes] = parent.codes
    return of_child if np.array_equal(of_child[child.codes], parent.codes) else None


def full_labels(factor: Factor) -> np.ndarray:
    """(L,) levels with their parents as written, joined by colons: ``GROCERY:SOUP``."""
    if factor.parents is None or len(factor.columns) == 1:
        return factor.levels
    return np.asarray(factor.parents + ":" + factor.levels)


def _factor(columns: tuple[str, ...], cells: CellStatistics) -> Factor:
    missing = [column for column in columns if column not in cells.groups]
    if missing:
        raise FitError(f"The cells carry no grouping column `{missing[0]}`; they carry {', '.join(cells.groups)}.")
    name = ":".join(columns)
    labels = [cells.groups[column] for column in columns]
    if len(columns) == 1:
        return Factor(name, columns, labels[0].codes, labels[0].values)
    codes, first = combine_codes([label.codes for label in labels], [len(label.values) for label in labels])
    levels = labels[-1].values[labels[-1].codes[first]]
    outer = [label.values[label.codes[first]] for label in labels[:-1]]
    parents = outer[0]
    for part in outer[1:]:
        parents = parents + ":" + part
    return Factor(name, columns, codes, levels, np.asarray(parents, dtype=object))


def combine_codes(codes: Sequence[Codes], sizes: Sequence[int]) -> tuple[Codes, Integers]:
    """Codes of the combinations that occur, in lexicographic order, and the first cell of each."""
    combined = codes[0].astype(np.int64)
    for part, size in zip(codes[1:], sizes[1:], strict=True):
        combined = combined * size + part
        found, distinct = pd.factorize(combined)
        order = np.argsort(distinct)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        combined = rank[found]
    n_levels = int(combined.max()) + 1
    first = np.zeros(n_levels, dtype=np.int64)
    first[combined[::-1]] = np.arange(len(combined) - 1, -1, -1)
    return combined.astype(np.int32), first


def _with_written_parent(factor: Factor, written: set[tuple[str, ...]]) -> Factor:
    outer = factor.columns[:-1]
    return replace(factor, parent_name=":".join(outer)) if outer in written else factor


def _with_found_parent(factor: Factor, others: Sequence[Factor]) -> Factor:
    """A single-column factor whose levels are each within one level of another factor: the closest such factor is its parent."""
    if len(factor.columns) > 1:
        return factor
    coarser = [other for other in others if 1 < other.n_levels < factor.n_levels and factor.columns[0] not in other.columns]
    for parent in sorted(coarser, key=lambda other: -other.n_levels):
        within = parent_levels(factor, parent)
        if within is not None:
            return _sorted_by_parent(factor, parent, within)
    return factor


def _sorted_by_parent(factor: Factor, parent: Factor, within: Integers) -> Factor:
    order = np.lexsort((np.arange(factor.n_levels), within))
    rank = np.empty(factor.n_levels, dtype=np.int32)
    rank[order] = np.arange(factor.n_levels, dtype=np.int32)
    return replace(
        factor,
        codes=rank[factor.codes],
        levels=factor.levels[order],
        parents=full_labels(parent)[within[order]],
        parent_name=parent.name,
    )
