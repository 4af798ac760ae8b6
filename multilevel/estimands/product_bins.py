"""Bins for averages of a two-part outcome: alike in both linear predictors, with the product's own correction for what differs within.

As in ``binning``, but what is averaged is p(eta1) mean(eta2): bins are cut on both linear predictors, and each carries the ratio of its
average product to the product at its averaged row. Averages are exact at the estimates, up to what other levels do to the slope of p
within a bin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.estimands.binning import MOST_PAIRS, MOST_ROWS, CommonBins, OwnBins, level_bins, reference_predictor
from multilevel.estimands.bins import MOST_BINS, MOST_CROSSED, MOST_PATTERNS, distinct_rows, patterns, quantile_bins
from multilevel.estimands.mix_parts import Sides, averaging
from multilevel.estimands.two_responses import TwoResponses

_DIGITS = 9
"""Decimal places of a linear predictor that tell two cells apart."""


def own_bins(
    both: TwoResponses,
    sides: Sides,
    side: int,
    level: Integers,
    inner: Sequence[Integers],
    most_leaves: int,
    weight: Floats | None = None,
) -> OwnBins:
    """A level's leaves; where they are many, put together by quantiles of both linear predictors."""
    n = both.design.cells.line_items if weight is None else weight
    n_levels = int(level.max()) + 1
    codes = distinct_rows([level.astype(float), *[code.astype(float) for code in inner]], len(level)) if inner else level
    ratio = None
    if int(codes.max()) + 1 > max(most_leaves, n_levels):
        first, second = _side_predictors(both, sides, side)
        codes = _cut_both(level, first, second, n, max(1, min(MOST_BINS, 2 * most_leaves // n_levels)))
        ratio = _ratio(both, codes, first, second, n)
    n_bins = int(codes.max()) + 1
    return level_bins(codes, level, n, (np.ones(n_bins) if ratio is None else ratio, np.zeros(n_bins)))


def common_bins(both: TwoResponses, sides: Sides, n_own: int, *, own_part: Floats, common_part: Floats) -> CommonBins:
    """Patterns of own slopes, cut on both linear predictors of what is common; every distinct value a bin where they are few."""
    n, mix = both.design.cells.line_items, both.design.cells.common_weight
    first, second = _side_predictors(both, sides, sides.n_sides)
    sigma2 = float(np.average(own_part, weights=n))
    spread = sigma2 * common_part
    interacting = patterns(sides, np.iinfo(np.int64).max).astype(float)
    exact = distinct_rows([interacting, np.round(first, _DIGITS), np.round(second + spread / 2.0, _DIGITS)], len(n))
    if (int(exact.max()) + 1) * n_own <= (MOST_ROWS if sides.crossings else MOST_PAIRS):
        codes = exact
    else:
        groups = patterns(sides, int(np.clip(MOST_ROWS // n_own, 1, MOST_CROSSED if sides.crossings else MOST_PATTERNS)))
        most = int(np.clip(MOST_PAIRS // (n_own * (int(groups.max()) + 1)), 1, MOST_BINS**2))
        codes = _cut_both(groups, first, second + spread / 2.0, mix, most)
    return bins_of_codes(both, sides, codes, own_part=own_part, common_part=common_part)


def bins_of_codes(both: TwoResponses, sides: Sides, codes: Integers, *, own_part: Floats, common_part: Floats) -> CommonBins:
    """Bins of the common side from the code (C,) of each cell's bin, corrected for what differs within them."""
    n, mix = both.design.cells.line_items, both.design.cells.common_weight
    first, second = _side_predictors(both, sides, sides.n_sides)
    sigma2 = float(np.average(own_part, weights=n))
    spread = sigma2 * common_part
    n_bins = int(codes.max()) + 1
    average = averaging(codes, n_bins, mix)
    ratio = _ratio(both, codes, first, second, mix, spread)
    # the shared part of sigma^2 returns with each pair of bins, as a level has its own sigma
    ratio = ratio / np.exp(sigma2 * np.asarray(average @ common_part) / 2.0)
    return CommonBins(codes, np.bincount(codes, mix, n_bins) / mix.sum(), ratio, np.zeros(n_bins))


def _side_predictors(both: TwoResponses, sides: Sides, side: int) -> tuple[Floats, Floats]:
    """(C,), (C,): both linear predictors as one side varies, the others averaged."""
    width = len(sides.design.population) + sides.design.n_effects
    first, second = (reference_predictor(sides, part.mean(width), side) for part in both.parts)
    return first, second


def _cut_both(groups: Integers, first: Floats, second: Floats, weights: Floats, most: int) -> Integers:
    """At most ``most`` bins a group: quantiles of the first predictor, within each of them quantiles of the second."""
    along_second = max(1, int(np.sqrt(most)))
    codes = quantile_bins(groups, first, weights, max(1, most // along_second))
    return quantile_bins(codes, second, weights, along_second)


def _ratio(both: TwoResponses, codes: Integers, first: Floats, second: Floats, n: Floats, spread: Floats | float = 0.0) -> Floats:
    """(B,) average product in each bin over the product at the bin's averaged predictors."""
    average = averaging(codes, int(codes.max()) + 1, n)
    centre = both.product(np.asarray(average @ first), np.asarray(average @ second))
    return np.asarray(average @ both.product(first, second + spread / 2.0)) / centre
