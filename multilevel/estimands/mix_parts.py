"""The two sides of a standardised average: a level's own part, kept at its own mix, and the mix common to all levels.

Each side is a matrix that averages cells into bins, weighted by line items. What a column of the design contributes is a product of its
parts, each part belonging to the side within whose grouping factors it is constant, so that the row of coefficients of any pairing of an
own bin with a common bin is a Kronecker product of two averages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array, kron

from multilevel.arrays import Floats, Integers
from multilevel.design.group_predictors import GROUP_KINDS, column_values, part_values, parts
from multilevel.design.model import Design, DesignColumn
from multilevel.design.nesting import is_constant_within
from multilevel.estimands.crossings import Crossing, crossing_pieces
from multilevel.fit.residuals import one_hot


@dataclass(frozen=True)
class Sides:
    """Which side each column and block of a design lies on: S own sides (one for a group, two for a combination) and the common one.

    population : per population column S + 1 arrays (C,), the common one last, whose product is the column.
    effects : per block and column the same.
    home : per block the side of its factor (S for the common side), or -1 where two sides share it.
    crossings : the blocks whose levels join a level of one side to a level of another.
    """

    design: Design
    population: tuple[tuple[Floats, ...], ...]
    effects: tuple[tuple[tuple[Floats, ...], ...], ...]
    home: tuple[int, ...]
    n_sides: int
    crossings: tuple[Crossing, ...] = ()


def split_sides(design: Design, owned: Sequence[frozenset[str]], crossed: tuple[Crossing, ...] = ()) -> Sides:
    """Assign every part of every column; ``owned`` names the grouping factors of each own side, ``crossed`` the interactions."""
    population = tuple(_split(design, column, owned) for column in design.population)
    effects = tuple(tuple(_split(design, column, owned) for column in block.columns) for block in design.blocks)
    joint = {crossing.block for crossing in crossed}
    home = tuple(-1 if index in joint else _home(block.factor.name, owned) for index, block in enumerate(design.blocks))
    return Sides(design, population, effects, home, len(owned), crossed)


def averaging(codes: Integers, n_bins: int, weights: Floats) -> csr_array:
    """(B, C) averages cells into bins with ``weights`` (C,); a bin without weight is a row of zeros."""
    totals = np.bincount(codes, weights=weights, minlength=n_bins)
    totals = np.where(totals > 0.0, totals, 1.0)
    return csr_array((weights / totals[codes], (codes, np.arange(len(codes)))), shape=(n_bins, len(codes)))


def pair_rows(sides: Sides, averages: Sequence[csr_array], leave_out: frozenset[int] = frozenset()) -> csr_array:
    """Rows of coefficients for every pairing of bins: first own side slowest, common side fastest.

    ``averages``: one (B_s, C) averaging matrix per side, the common one last. ``leave_out``: blocks that contribute nothing.
    Returns (B_1 * ... * B_common, p + q).
    """
    design = sides.design
    n_rows = int(np.prod([average.shape[0] for average in averages]))
    shape = (n_rows, len(design.population) + design.n_effects)
    pieces: list[tuple[Floats, Integers, Integers]] = []
    for place, split in enumerate(sides.population):
        values = _outer([np.asarray(average @ part) for average, part in zip(averages, split, strict=True)])
        kept = np.flatnonzero(values)
        pieces.append((values[kept], kept, np.full(len(kept), place)))
    for index, home in enumerate(sides.home):
        if index not in leave_out and home >= 0:
            pieces += [_effect_piece(sides, averages, index, column) for column in range(len(design.blocks[index].columns))]
    for crossing in sides.crossings:
        if crossing.block not in leave_out:
            pieces += crossing_pieces(design, crossing, averages, scales(sides, averages, crossing.block))
    data, rows, columns = (np.concatenate([piece[i] for piece in pieces]) for i in range(3))
    return csr_array(coo_array((data, (rows, columns)), shape=shape))


def scales(sides: Sides, averages: Sequence[csr_array], block: int) -> Floats:
    """(rows, k) what multiplies a block's effects in each row of ``pair_rows``: its z."""
    columns = [
        _outer([np.asarray(average @ part) for average, part in zip(averages, split, strict=True)]) for split in sides.effects[block]
    ]
    return np.column_stack(columns)


def _effect_piece(sides: Sides, averages: Sequence[csr_array], block: int, column: int) -> tuple[Floats, Integers, Integers]:
    design, home = sides.design, sides.home[block]
    split = sides.effects[block][column]
    members = one_hot(design, block)
    piece: coo_array | csr_array = csr_array(np.ones((1, 1)))
    for side, (average, part) in enumerate(zip(averages, split, strict=True)):
        factor = csr_array(average @ diags_array(part) @ members) if side == home else csr_array(np.asarray(average @ part).reshape(-1, 1))
        piece = kron(piece, factor, format="coo")
    found = coo_array(piece)
    row, level = (np.asarray(index, np.int64) for index in found.coords)
    width = len(design.blocks[block].columns)
    return np.asarray(found.data), row, len(design.population) + design.starts[block] + level * width + column


def _outer(vectors: Sequence[Floats]) -> Floats:
    result = np.ones(1)
    for vector in vectors:
        result = np.outer(result, vector).ravel()
    return result


def _home(name: str, owned: Sequence[frozenset[str]]) -> int:
    holders = [side for side, names in enumerate(owned) if name in names]
    if len(holders) > 1:
        return -1
    return holders[0] if holders else len(owned)


def _split(design: Design, column: DesignColumn, owned: Sequence[frozenset[str]]) -> tuple[Floats, ...]:
    ones = np.ones(design.cells.n_cells)
    whole = column_values(design, column)
    result = [ones] * (len(owned) + 1)
    side = _side(design, _constant_within(design, column), owned)
    if side is not None and column.kind != "cross_level":
        result[side] = whole
        return tuple(result)
    names = parts(column.label)
    pieces = [part_values(design, name) for name in names]
    if len(names) > 1 and all(piece is not None for piece in pieces):
        for name, piece in zip(names, pieces, strict=True):
            if piece is not None:
                at = _part_side(design, name, piece, owned)
                result[at] = result[at] * piece
        if np.allclose(np.prod(result, axis=0), whole, rtol=1e-9, atol=1e-12):
            return tuple(result)
        result = [ones] * (len(owned) + 1)
    result[len(owned)] = whole
    return tuple(result)


def _constant_within(design: Design, column: DesignColumn) -> str | None:
    """Of a slope, what the population column of that label says."""
    same = next((other for other in design.population if other.label == column.label), column)
    return column.constant_within or same.constant_within


def _part_side(design: Design, name: str, values: Floats, owned: Sequence[frozenset[str]]) -> int:
    for column in design.population:
        if column.label == name:
            side = _side(design, column.constant_within, owned) if column.kind in GROUP_KINDS else None
            return len(owned) if side is None else side
    for block in design.blocks:
        side = _side(design, block.factor.name, owned)
        if side is not None and is_constant_within(values, block.factor.codes, block.factor.n_levels):
            return side
    return len(owned)


def _side(design: Design, factor: str | None, owned: Sequence[frozenset[str]]) -> int | None:
    return next((side for side, names in enumerate(owned) if factor in names), None)
