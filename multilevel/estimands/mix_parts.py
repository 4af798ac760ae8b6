"""The two sides of a standardised average: a level's own part, kept at its own mix, and the mix common to all levels.

Each side is a matrix that averages cells into bins, weighted by line items. What a column of the design contributes is a product of its
parts, each part belonging to the side within whose grouping factors it is constant, so that the row of coefficients of any pairing of an
own bin with a common bin is a Kronecker product of two averages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, eye_array, hstack, kron

from multilevel.arrays import Codes, Floats, Integers
from multilevel.design.group_predictors import GROUP_KINDS, column_values, part_values, parts
from multilevel.design.model import Design, DesignColumn
from multilevel.design.nesting import is_constant_within
from multilevel.estimands.crossings import Crossing, crossing_pieces
from multilevel.fit.shared_rows import SharedRows, stacked


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
    ones = np.ones(design.cells.n_cells)
    population = tuple(_split(design, column, owned, ones) for column in design.population)
    effects = tuple(tuple(_split(design, column, owned, ones) for column in block.columns) for block in design.blocks)
    joint = {crossing.block for crossing in crossed}
    home = tuple(-1 if index in joint else _home(block.factor.name, owned) for index, block in enumerate(design.blocks))
    return Sides(design, population, effects, home, len(owned), crossed)


def averaging(codes: Codes | Integers, n_bins: int, weights: Floats) -> csr_array:
    """(B, C) averages cells into bins with ``weights`` (C,); a bin without weight is a row of zeros."""
    totals = np.bincount(codes, weights=weights, minlength=n_bins)
    totals = np.where(totals > 0.0, totals, 1.0)
    if n_bins == 1:
        return csr_array(
            (weights / totals[0], np.arange(len(codes), dtype=np.int32), np.array([0, len(codes)], np.int32)), shape=(1, len(codes))
        )
    starts = np.arange(len(codes) + 1, dtype=np.int32)
    return csr_array((weights / totals[codes], codes.astype(np.int32, copy=False), starts), shape=(len(codes), n_bins)).T.tocsr()


def bin_means(codes: Codes | Integers, n_bins: int, weights: Floats, values: Floats) -> Floats:
    """(B,) means of ``values`` (C,) in each bin, as ``averaging`` gives them; 0 of a bin without weight."""
    totals = np.bincount(codes, weights, n_bins)
    return np.asarray(np.bincount(codes, weights * values, n_bins) / np.where(totals > 0.0, totals, 1.0))


def pair_rows(sides: Sides, averages: Sequence[csr_array], leave_out: frozenset[int] = frozenset()) -> csr_array:
    """Rows of coefficients for every pairing of bins: first own side slowest, common side fastest.

    ``averages``: one (B_s, C) averaging matrix per side, the common one last. ``leave_out``: blocks that contribute nothing.
    Returns (B_1 * ... * B_common, p + q).
    """
    design = sides.design
    pieces = _population_pieces(sides, averages, range(len(design.population)))
    for index, home in enumerate(sides.home):
        if index not in leave_out and home >= 0:
            pieces += [_effect_piece(sides, averages, index, column) for column in range(len(design.blocks[index].columns))]
    return _joined(design, _n_rows(averages), pieces + _crossing_pieces(sides, averages, leave_out))


def shared_pair_rows(sides: Sides, averages: Sequence[csr_array], leave_out: frozenset[int] = frozenset()) -> SharedRows:
    """As ``pair_rows``; what the common side brings is kept once for every common bin, and once more for every own value that scales it."""
    design, common = sides.design, averages[-1]
    n_own, n_common = _n_rows(averages[:-1]), common.shape[0]
    own: list[_Piece] = []
    groups: dict[bytes, tuple[Floats, list[_Piece]]] = {}

    def share(scale: Floats, piece: _Piece) -> None:
        groups.setdefault(scale.tobytes(), (scale, []))[1].append(piece)

    for place, split in enumerate(sides.population):
        scale = _outer([np.asarray(average @ part) for average, part in zip(averages[:-1], split[:-1], strict=True)])
        if np.ptp(scale) == 0.0:
            values = scale[0] * np.asarray(common @ split[-1])
            share(np.ones(n_own), (values, np.arange(n_common), np.full(n_common, place)))
        else:
            own += _population_pieces(sides, averages, [place])
    for index, home in enumerate(sides.home):
        if index in leave_out or home < 0:
            continue
        for column, split in enumerate(sides.effects[index]):
            if home < sides.n_sides:
                own.append(_effect_piece(sides, averages, index, column))
                continue
            scale = _outer([np.asarray(average @ part) for average, part in zip(averages[:-1], split[:-1], strict=True)])
            found = coo_array(_by_level(design, index, common, split[-1]))
            row, level = (np.asarray(at, np.int64) for at in found.coords)
            alike = np.ptp(scale) == 0.0
            values = np.asarray(found.data) * (scale[0] if alike else 1.0)
            share(np.ones(n_own) if alike else scale, (values, row, _places(design, index, column, level)))
    bins = eye_array(n_common, format="csr")
    weights = [csr_array(kron(csr_array(scale.reshape(-1, 1)), bins, format="csr")) for scale, _ in groups.values()]
    return SharedRows(
        _joined(design, n_own * n_common, own + _crossing_pieces(sides, averages, leave_out)),
        csr_array(hstack(weights, format="csr")) if weights else csr_array((n_own * n_common, 0)),
        stacked([_joined(design, n_common, pieces) for _, pieces in groups.values()] or [_joined(design, 0, [])]),
    )


def pair_values(sides: Sides, averages: Sequence[csr_array], at: Floats, leave_out: frozenset[int] = frozenset()) -> Floats:
    """(rows,) the product of ``pair_rows`` with ``at`` (p + q,), without the rows."""
    design = sides.design
    total = np.zeros(_n_rows(averages))
    for place, split in enumerate(sides.population):
        total += at[place] * _outer([np.asarray(average @ part) for average, part in zip(averages, split, strict=True)])
    for index, home in enumerate(sides.home):
        if index in leave_out or home < 0:
            continue
        codes = design.blocks[index].factor.codes.astype(np.int64)
        for column, split in enumerate(sides.effects[index]):
            effects = at[_places(design, index, column, codes)]
            parts = [part * effects if side == home else part for side, part in enumerate(split)]
            total += _outer([np.asarray(average @ part) for average, part in zip(averages, parts, strict=True)])
    for values, rows, places in _crossing_pieces(sides, averages, leave_out):
        total += np.bincount(rows, values * at[places], len(total))
    return total


type _Piece = tuple[Floats, Integers, Integers]
"""Values with their rows and their places in (beta, b)."""


def _joined(design: Design, n_rows: int, pieces: Sequence[_Piece]) -> csr_array:
    nothing = (np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    data, rows, columns = (np.concatenate([piece[i] for piece in (nothing, *pieces)]) for i in range(3))
    return csr_array(coo_array((data, (rows, columns)), shape=(n_rows, len(design.population) + design.n_effects)))


def _n_rows(averages: Sequence[csr_array]) -> int:
    return int(np.prod([average.shape[0] for average in averages]))


def _population_pieces(sides: Sides, averages: Sequence[csr_array], places: Sequence[int]) -> list[_Piece]:
    pieces = []
    for place in places:
        values = _outer([np.asarray(average @ part) for average, part in zip(averages, sides.population[place], strict=True)])
        kept = np.flatnonzero(values)
        pieces.append((values[kept], kept, np.full(len(kept), place)))
    return pieces


def _crossing_pieces(sides: Sides, averages: Sequence[csr_array], leave_out: frozenset[int]) -> list[_Piece]:
    pieces: list[_Piece] = []
    for crossing in sides.crossings:
        if crossing.block not in leave_out:
            pieces += crossing_pieces(sides.design, crossing, averages, scales(sides, averages, crossing.block))
    return pieces


def scales(sides: Sides, averages: Sequence[csr_array], block: int) -> Floats:
    """(rows, k) what multiplies a block's effects in each row of ``pair_rows``: its z."""
    columns = [
        _outer([np.asarray(average @ part) for average, part in zip(averages, split, strict=True)]) for split in sides.effects[block]
    ]
    return np.column_stack(columns)


def _effect_piece(sides: Sides, averages: Sequence[csr_array], block: int, column: int) -> _Piece:
    design, home = sides.design, sides.home[block]
    split = sides.effects[block][column]
    piece: coo_array | csr_array = csr_array(np.ones((1, 1)))
    for side, (average, part) in enumerate(zip(averages, split, strict=True)):
        factor = _by_level(design, block, average, part) if side == home else csr_array(np.asarray(average @ part).reshape(-1, 1))
        piece = kron(piece, factor, format="coo")
    found = coo_array(piece)
    row, level = (np.asarray(index, np.int64) for index in found.coords)
    return np.asarray(found.data), row, _places(design, block, column, level)


def _by_level(design: Design, block: int, average: csr_array, part: Floats) -> csr_array:
    """(B, L) what ``average`` (B, C) of ``part`` (C,) has of every level of a block's factor; costs what the bins' own cells do."""
    factor, n = design.blocks[block].factor, average.shape[1]
    spans, codes = np.diff(average.indptr), factor.codes[average.indices]
    if len(codes) and spans.all():
        first = codes[average.indptr[:-1]]
        if np.array_equal(np.repeat(first, spans), codes):  # every bin within one level
            return csr_array((np.asarray(average @ part), first, np.arange(len(first) + 1)), (len(first), factor.n_levels))
    if average.shape[0] * factor.n_levels <= len(codes):
        place = np.repeat(np.arange(len(spans)), spans) * factor.n_levels + codes
        sums = np.bincount(place, average.data * part[average.indices], average.shape[0] * factor.n_levels)
        return csr_array(sums.reshape(average.shape[0], factor.n_levels))
    # a product with indicators of the levels adds up without sorting
    levels = csr_array(
        (part, factor.codes.astype(average.indices.dtype), np.arange(n + 1, dtype=average.indptr.dtype)), (n, factor.n_levels)
    )
    return csr_array(average @ levels)


def _places(design: Design, block: int, column: int, levels: Integers) -> Integers:
    """Where the effects of one column of a block are in (beta, b)."""
    return len(design.population) + design.starts[block] + levels * len(design.blocks[block].columns) + column


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


def _split(design: Design, column: DesignColumn, owned: Sequence[frozenset[str]], ones: Floats) -> tuple[Floats, ...]:
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
