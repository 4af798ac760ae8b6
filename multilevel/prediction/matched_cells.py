"""Two versions' cells with keys that can be matched: the columns that both have, and numbers that both have.

Labels that one version has alone are members that came or went. A number that one version has alone is none: within the same labels its
cell joins that of the nearest number that both have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.estimands.mix_parts import averaging
from multilevel.prediction.saved_cells import CellSide, Key, Level, SavedCells

type Place = tuple[Level | None, Key, Key]
"""A cell's level (None in the mix), its labels and its numbers."""


def matched_cells(before: SavedCells, after: SavedCells) -> tuple[SavedCells, SavedCells]:
    """Both versions' cells of one factor, put together so far that they can be matched; sums of w h stay as they are."""
    own, mix = _columns(before.own, after.own), _columns(before.mix, after.mix)
    own_places = [_places(cells.own, own, [cells.levels[at] for at in cells.level.tolist()]) for cells in (before, after)]
    mix_places = [_places(cells.mix, mix, [None] * len(cells.mix.keys)) for cells in (before, after)]
    own_moves, mix_moves = _nearest(*own_places), _nearest(*mix_places)
    first, second = (
        _grouped(cells, own, mix, [moves.get(place, place) for place in of_own], [others.get(place, place) for place in of_mix])
        for cells, of_own, of_mix, moves, others in zip((before, after), own_places, mix_places, own_moves, mix_moves, strict=True)
    )
    return first, second


def _columns(before: CellSide, after: CellSide) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels' and the numbers' columns that both have."""
    shared = [column for column in before.columns if column in after.columns]
    numbers = {*before.numbers, *after.numbers}
    return tuple(column for column in shared if column not in numbers), tuple(column for column in shared if column in numbers)


def _places(side: CellSide, columns: tuple[tuple[str, ...], tuple[str, ...]], levels: Sequence[Level | None]) -> list[Place]:
    labels, numbers = ([side.columns.index(column) for column in of] for of in columns)
    return [
        (level, tuple(key[at] for at in labels), tuple(key[at] for at in numbers)) for level, key in zip(levels, side.keys, strict=True)
    ]


def _nearest(before: Sequence[Place], after: Sequence[Place]) -> tuple[dict[Place, Place], dict[Place, Place]]:
    """For the cells of each version whose numbers the other lacks: the cell with the same labels and the nearest numbers that both have, or
    one cell for all where they share none."""
    old, new = _by_labels(before), _by_labels(after)
    scale = _scale([*before, *after])
    moves: tuple[dict[Place, Place], dict[Place, Place]] = ({}, {})
    for labels in old.keys() & new.keys():
        shared = sorted(old[labels] & new[labels])
        grid = _values(shared) / scale
        for found, other, made in ((old[labels], new[labels], moves[0]), (new[labels], old[labels], moves[1])):
            for numbers in found - other if shared else found:
                target = shared[int(np.argmin(np.abs(grid - _values([numbers]) / scale).sum(axis=1)))] if shared else ()
                made[(*labels, numbers)] = (*labels, target)
    return moves


def _by_labels(places: Sequence[Place]) -> Mapping[tuple[Level | None, Key], set[Key]]:
    found: dict[tuple[Level | None, Key], set[Key]] = {}
    for level, labels, numbers in places:
        found.setdefault((level, labels), set()).add(numbers)
    return found


def _scale(places: Sequence[Place]) -> Floats:
    """(k,) how far each number varies."""
    reach = np.ptp(_values([numbers for _, _, numbers in places]), axis=0)
    return np.where(reach > 0.0, reach, 1.0)


def _values(keys: Sequence[Key]) -> Floats:
    return np.array([[float(text) for text in key] for key in keys], dtype=np.float64).reshape(len(keys), -1 if keys else 0)


def _grouped(
    cells: SavedCells,
    own_columns: tuple[tuple[str, ...], tuple[str, ...]],
    mix_columns: tuple[tuple[str, ...], tuple[str, ...]],
    own_places: Sequence[Place],
    mix_places: Sequence[Place],
) -> SavedCells:
    """Cells of one place put together, at their average fitted values."""
    own, own_codes = _side(cells.own, own_columns, own_places)
    mix, mix_codes = _side(cells.mix, mix_columns, mix_places)
    of_own = averaging(own_codes, len(own.keys), cells.own.weight)
    of_mix = averaging(mix_codes, len(mix.keys), cells.mix.weight)
    level = np.zeros(len(own.keys), dtype=np.int64)
    level[own_codes] = cells.level
    joint = None if cells.joint is None else np.asarray((of_mix @ (of_own @ cells.joint).T).T)
    return replace(cells, level=level, own=own, mix=mix, fitted=of_own @ cells.fitted, distance=of_mix @ cells.distance, joint=joint)


def _side(side: CellSide, columns: tuple[tuple[str, ...], tuple[str, ...]], places: Sequence[Place]) -> tuple[CellSide, Integers]:
    """The side's cells put together, in order of their first one, and the new place (n,) of each."""
    order: dict[Place, int] = {}
    codes = np.array([order.setdefault(place, len(order)) for place in places], dtype=np.int64)
    keys = tuple(labels + numbers for _, labels, numbers in order)
    return CellSide(columns[0] + columns[1], keys, np.bincount(codes, side.weight, len(order)), columns[1], side.left_out), codes
