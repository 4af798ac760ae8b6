"""What changed between two versions' averages: range + mix + behaviour.

Over the cells that both versions have, with weights w renormalised among them and fitted values h (Kitagawa 1955, J. Am. Stat. Assoc. 50,
the symmetric form): behaviour = sum (w0 + w1) / 2 (h1 - h0), mix = sum (w1 - w0) (h0 + h1) / 2. Range is the rest: cells that came or went.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.prediction.matched_cells import matched_cells
from multilevel.prediction.saved_cells import Key, Level, SavedCells


@dataclass(frozen=True)
class ChangeParts:
    """The parts of one level's change, in units of the outcome; they add up to it."""

    range: float
    mix: float
    behaviour: float


def change_parts(before: SavedCells, after: SavedCells, changes: Mapping[Level, float]) -> dict[Level, ChangeParts]:
    """The parts of ``changes``, the differences of the published estimates, of every level that both versions have.

    Parameters
    ----------
    before, after : the cells of one factor's averages in the two versions.
    """
    old, new = matched_cells(before, after)
    here, there = _matched(old.mix.keys, new.mix.keys)
    shared = [(old, here), (new, there)]
    weights = [cells.mix.weight[places] for cells, places in shared]
    if any(weight.sum() <= 0.0 for weight in weights):
        return {level: ChangeParts(change, 0.0, 0.0) for level, change in changes.items()}
    # the averages of each version's fitted values over each version's mix, for every own cell
    over = [[cells.over(_placed(weight / weight.sum(), places, len(cells.mix.weight))) for weight in weights] for cells, places in shared]
    own_here, own_there = _matched(_own_keys(old), _own_keys(new))
    names = [old.levels[at] for at in old.level[own_here]]
    found: dict[Level, ChangeParts] = {}
    rows: dict[Level, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    for level, change in changes.items():
        at = np.array(rows.get(level, []), dtype=np.int64)
        split = _split(old, new, over, own_here[at], own_there[at])
        found[level] = ChangeParts(change - split[0] - split[1], *split)
    return found


def _split(old: SavedCells, new: SavedCells, over: Sequence[Sequence[Floats]], here: Integers, there: Integers) -> tuple[float, float]:
    """Mix and behaviour of one level, whose shared own cells are ``here`` and ``there``."""
    a0, a1 = old.own.weight[here], new.own.weight[there]
    if a0.sum() <= 0.0 or a1.sum() <= 0.0:
        return 0.0, 0.0
    a0, a1 = a0 / a0.sum(), a1 / a1.sum()
    (h00, h01), (h10, h11) = ([values[places] for values in of] for of, places in zip(over, (here, there), strict=True))
    behaviour = 0.5 * (a0 @ (h10 - h00) + a1 @ (h11 - h01))
    mix = 0.5 * (a1 @ (h01 + h11) - a0 @ (h00 + h10))
    return float(mix), float(behaviour)


def _own_keys(cells: SavedCells) -> list[tuple[Level, Key]]:
    return [(cells.levels[at], key) for at, key in zip(cells.level.tolist(), cells.own.keys, strict=True)]


def _matched[T](before: Sequence[T], after: Sequence[T]) -> tuple[Integers, Integers]:
    """Where the keys that both have are in each."""
    place = {key: at for at, key in enumerate(after)}
    pairs = [(at, place[key]) for at, key in enumerate(before) if key in place]
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _placed(weight: Floats, places: Integers, size: int) -> Floats:
    """(size,) ``weight`` at ``places``, else zero."""
    whole = np.zeros(size)
    whole[places] = weight
    return whole
