"""Interactions in a standardised average: grouping factors ``a:b`` whose levels join a level of one side to a level of another.

When a level of a meets the common mix of b, the effect that goes with each pairing is that of this very combination; where it was never
seen, its effect is unknown, with mean zero and the factor's covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array

from multilevel.arrays import Floats, Integers, distinct
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting


@dataclass(frozen=True)
class Crossing:
    """One block over an interaction.

    block : its place in the design. codes : per side (the common one last) the (C,) code of its ancestors there, zeros where it has none.
    members : (U_1 * ... * U_common, L) which level each combination of codes is; a row of zeros where it was never seen.
    """

    block: int
    codes: tuple[Integers, ...]
    members: csr_array


def crossings(design: Design, nesting: Nesting, owned: Sequence[frozenset[str]]) -> tuple[Crossing, ...]:
    """Blocks whose factor has ancestors on more than one side and one level for each combination of them."""
    sides = ancestors_by_side(nesting, owned)
    found = []
    for index, block in enumerate(design.blocks):
        homes = [[nesting.factors[name].codes.astype(np.int64) for name in names] for names in sides[block.factor.name]]
        if sum(bool(home) for home in homes) < 2:
            continue
        codes = tuple(_joint_code(home, design.cells.n_cells) for home in homes)
        place = _place(codes)
        if len(distinct(place)[0]) == block.factor.n_levels:
            size = int(np.prod([code.max() + 1 for code in codes]))
            level, first = np.unique(block.factor.codes, return_index=True)
            members = csr_array(coo_array((np.ones(len(level)), (place[first], level)), shape=(size, block.factor.n_levels)))
            found.append(Crossing(index, codes, members))
    return tuple(found)


def ancestors_by_side(nesting: Nesting, owned: Sequence[frozenset[str]]) -> dict[str, list[list[str]]]:
    """Per factor and side (the common one last) its ancestors there, those left out that join several sides themselves."""
    found: dict[str, list[list[str]]] = {}
    for name in sorted(nesting.factors, key=lambda factor: nesting.factors[factor].n_levels):
        homes: list[list[str]] = [[] for _ in range(len(owned) + 1)]
        for ancestor in nesting.ancestors[name]:
            if sum(bool(home) for home in found[ancestor]) < 2:
                homes[next((side for side, names in enumerate(owned) if ancestor in names), len(owned))].append(ancestor)
        found[name] = homes
    return found


def chosen_levels(crossing: Crossing, averages: Sequence[csr_array]) -> csr_array:
    """(rows, L) the weight of each level in every pairing of bins; a row sums to less than one by what was never seen."""
    places = coo_array(crossing.members)
    place, level = (np.asarray(index, np.int64) for index in places.coords)
    sizes = [int(code.max()) + 1 for code in crossing.codes]
    of_sides = np.unravel_index(place[np.argsort(level)], sizes)
    found = csc_array(np.ones((1, len(level))))
    for code, size, own, average in zip(crossing.codes, sizes, of_sides, averages, strict=True):
        indicator = csr_array((np.ones(len(code)), (np.arange(len(code)), code)), shape=(len(code), size))
        found = _column_products(found, csc_array(csc_array(average @ indicator)[:, own]))
    return csr_array(found)


def _column_products(left: csc_array, right: csc_array) -> csc_array:
    """(m n, L) for ``left`` (m, L) and ``right`` (n, L): the Kronecker product of each column with its own (Khatri and Rao 1968)."""
    n, (first, second) = right.shape[0], (np.diff(each.indptr).astype(np.int64) for each in (left, right))
    counts = first * second
    ends = np.cumsum(counts)
    column = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(column)) - (ends - counts)[column]
    i, j = left.indptr[column] + within // second[column], right.indptr[column] + within % second[column]
    rows = left.indices[i].astype(np.int64) * n + right.indices[j]
    return csc_array((left.data[i] * right.data[j], rows, np.concatenate([[0], ends])), shape=(left.shape[0] * n, len(counts)))


def crossing_pieces(
    design: Design, crossing: Crossing, averages: Sequence[csr_array], z: Floats
) -> list[tuple[Floats, Integers, Integers]]:
    """(values, rows, places) of the block's effects in every pairing of bins, one entry a column; ``z`` (rows, k) multiplies them."""
    picked = coo_array(chosen_levels(crossing, averages))
    row, level = (np.asarray(index, np.int64) for index in picked.coords)
    first = len(design.population) + design.starts[crossing.block]
    width = len(design.blocks[crossing.block].columns)
    return [(picked.data * z[row, column], row, first + level * width + column) for column in range(width)]


def unseen_share(crossing: Crossing, averages: Sequence[csr_array]) -> Floats:
    """(rows,) share of combinations that were never seen: of z'Sigma z it is the variance of the linear predictor that they bring."""
    share = np.clip(1.0 - np.asarray(chosen_levels(crossing, averages).sum(axis=1)).ravel(), 0.0, 1.0)
    return np.where(share > 1e-12, share, 0.0)


def _joint_code(columns: Sequence[Integers], n_cells: int) -> Integers:
    code = np.zeros(n_cells, dtype=np.int64)
    for column in columns:
        _, code = distinct(code * (int(column.max()) + 1) + column)
    return code


def _place(codes: Sequence[Integers]) -> Integers:
    place = np.zeros(len(codes[0]), dtype=np.int64)
    for code in codes:
        place = place * (int(code.max()) + 1) + code
    return place
