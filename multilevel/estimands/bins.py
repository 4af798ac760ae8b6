"""Bins for standardised averages: which cells stand together on the common side, which leaves on a level's own side.

Under the identity link one bin per level and one common bin are exact. Under other links cells are put together that share the values by
which the level's own coefficients are multiplied and lie close on the rest of the linear predictor; the inverse link then runs over bins,
never over levels x cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.arrays import Codes, Floats, Integers, distinct
from multilevel.estimands.mix_parts import Sides

MOST_BINS = 32
MOST_PATTERNS = 64
MOST_CROSSED = 2_000
"""Patterns where own levels meet levels of the common side in an interaction: each of those is a pattern of its own."""


def distinct_rows(columns: Sequence[Floats | Codes | Integers], n_cells: int) -> Integers:
    """(C,) code of each cell's combination of values."""
    codes = np.zeros(n_cells, dtype=np.int64)
    for column in columns:
        values, place = distinct(column)
        _, codes = distinct(codes * len(values) + place)
    return codes


def patterns(sides: Sides, most: int = MOST_PATTERNS) -> Integers:
    """(C,) code of the common values that multiply own coefficients: exact up to ``most`` of them, else coarsened to that many at most."""
    columns = _interacting(sides)
    weights = sides.design.cells.common_weight
    codes = distinct_rows(columns, len(weights))
    steps = most
    while codes.max(initial=0) >= most:
        codes = distinct_rows([_coarse(column, weights, steps) for column in columns], len(weights)) if steps > 1 else np.zeros_like(codes)
        steps //= 2
    return codes


def quantile_bins(groups: Integers, values: Floats, weights: Floats, most: int | Integers) -> Integers:
    """(C,) code of (group, quantile of ``values`` within the group): at most ``most`` bins a group (a number, or one per group), by weight.

    Equal values stay together; codes are consecutive, ordered by group.
    """
    order = np.lexsort((values, groups))
    group, value, weight = groups[order], values[order], weights[order]
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    running = np.cumsum(weight)
    before = np.repeat(running[starts] - weight[starts], np.diff([*starts, len(group)]))
    total = np.repeat(np.add.reduceat(weight, starts), np.diff([*starts, len(group)]))
    total = np.where(total > 0.0, total, 1.0)  # a group without weight is one bin
    limit = most if isinstance(most, int) else most[group]
    step = np.minimum(np.floor((running - before - weight / 2.0) / total * limit), np.asarray(limit) - 1)
    # A run of equal values takes the bin of its first member.
    is_first = np.r_[True, (np.diff(value) != 0) | (np.diff(group) != 0)]
    step = step[np.maximum.accumulate(np.where(is_first, np.arange(len(step)), 0))]
    changes = np.r_[True, (np.diff(step) != 0) | (np.diff(group) != 0)]
    codes = np.empty(len(groups), dtype=np.int64)
    codes[order] = np.cumsum(changes) - 1
    return codes


def _interacting(sides: Sides) -> list[Floats]:
    """Common-side factors of columns that also have an own part, and of the slopes of own blocks."""
    found = []
    for split in sides.population:
        if any(_varies(part) for part in split[:-1]) and _varies(split[-1]):
            found.append(split[-1])
    for home, block in zip(sides.home, sides.effects, strict=True):
        if home != sides.n_sides:
            found += [split[-1] for split in block if _varies(split[-1])]
    found += [crossing.codes[-1].astype(float) for crossing in sides.crossings if _varies(crossing.codes[-1].astype(float))]
    unique: list[Floats] = []
    for column in found:
        if not any(np.array_equal(column, other) for other in unique):
            unique.append(column)
    return unique


def _varies(values: Floats) -> bool:
    return bool(np.any(values != values[0]))


def _coarse(values: Floats, weights: Floats, steps: int) -> Floats:
    """Codes of intervals cut both at quantiles and at even distances: the middle of the data is resolved, and so are long tails."""
    half = max(1, steps // 2)
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    at_quantiles = values[order][np.minimum(np.searchsorted(share, np.arange(1, half) / half), len(values) - 1)]
    evenly = np.linspace(values.min(), values.max(), steps - half + 2)[1:-1]
    return np.searchsorted(np.unique([*at_quantiles, *evenly]), values, side="right").astype(float)
