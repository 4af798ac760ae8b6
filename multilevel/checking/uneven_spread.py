"""Do line items vary as much in one level of a factor as in another? Families with one sigma, or one shape, say so.

Every cell has a sum of squares or of deviances q_c, of which the model knows mean and variance. Of a linear model it is RSS_c / sigma^2,
chi-squared with n_c degrees of freedom, RSS_c being its expectation over the joint distribution of the coefficients; of gamma outcomes it
is the deviance (McCullagh and Nelder 1989, chapter 8), what fitting used up added. With r_l the sum of q_c less its mean over the cells
of level l,

    T = sum_l d_l r_l^2

is the score test of a variance between the levels' log-variances (Smyth 1989), weighted and compared with chance as in ``score_test``. Its
scale is how much cells of one level differ in q_c, if that is more than the model says: heavy tails, or another factor's levels that vary
differently, are then not taken for differences between these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma

from multilevel.arrays import Floats, Integers
from multilevel.checking.omitted_terms import FALSE_ALARMS, probability_words
from multilevel.checking.score_test import FEWEST_FREE, Chance
from multilevel.design.model import Factor
from multilevel.design.nesting import Nesting
from multilevel.design.reduction import coefficient_matrix, reduce_design
from multilevel.fit.container import Check, Fit
from multilevel.fit.residuals import expected_residual_ss, linear_predictor

MATERIAL = 0.1
"""Sd of the levels' log standard deviations below which intervals are wrong by less than a tenth."""

FEWEST_ROWS = 2
"""Rows of a level whose spread is looked at."""

GROWS, FEWEST_GROWING = 0.5, 4
"""Correlation of log spread and log mean above which the spread is said to grow with the mean, and levels that it takes."""


@dataclass(frozen=True)
class _Spread:
    """Of C cells: the sum of squares or deviances, its mean, variance and fourth cumulant under the model; ``slope`` is the derivative of
    the mean in the log-variance, over the mean."""

    found: Floats
    mean: Floats
    variance: Floats
    fourth: Floats
    slope: float


def uneven_spread(fit: Fit, tree: Nesting, omitted: Sequence[Check] = ()) -> list[Check]:
    """``uneven_spread[g]`` for every factor of a fit with a sigma or a shape; reported, never a gate.

    The value is the sd between levels of the log standard deviation of a line item, beyond chance; it fails above what chance explains, at
    least 0.1. Without a value where the rows cannot tell; empty under ``se()``, where nothing of it is estimated. ``omitted`` : checks of
    terms that may be missing, which spread the residuals of some levels more than of others.
    """
    if fit.design.cells.known_sigma or (spread := _spread(fit)) is None:
        return []
    missing = [check.check for check in omitted if not check.passed]
    return [_check(fit, spread, factor, len(tree.factors), missing) for factor in tree.factors.values()]


def _spread(fit: Fit) -> _Spread | None:
    cells = fit.design.cells
    n = cells.n.astype(np.float64)
    if cells.has_moments:
        assert fit.sigma is not None
        return _Spread(expected_residual_ss(fit.design, fit.joint) / fit.sigma**2, n, 2.0 * n, 48.0 * n, 1.0)
    if cells.log_total is None or fit.dispersion is None:
        return None
    shape = fit.dispersion
    eta = linear_predictor(fit.design, fit.joint.mean)
    used = fit.joint.combine(coefficient_matrix(reduce_design(fit.design)), fit.interval).std_error ** 2
    found = 2.0 * (n * eta - cells.log_total + cells.total * np.exp(-eta) - n) + n * used
    # deviance 2 (-log t + t - 1) of t ~ Gamma(shape, shape): cumulants from E t^(-2s) exp(2s (t - 1))
    gap, curve = float(np.log(shape) - digamma(shape)), float(polygamma(1, shape) - 1.0 / shape)
    fourth = 16.0 * float(polygamma(3, shape) - 2.0 / shape**3)
    return _Spread(found, 2.0 * n * gap, 4.0 * n * curve, n * fourth, curve * shape / gap)


def _check(fit: Fit, spread: _Spread, factor: Factor, n_tests: int, missing: Sequence[str]) -> Check:
    name = f"uneven_spread[{factor.name}]"

    def by_level(values: Floats) -> Floats:
        return np.bincount(factor.codes, values, factor.n_levels)

    rows, mean = by_level(fit.design.cells.n.astype(np.float64)), by_level(spread.mean)
    kept = np.flatnonzero(rows >= FEWEST_ROWS)
    if len(kept) < 2 or rows.sum() - len(fit.joint.mean) < FEWEST_FREE:
        return Check(name, None, MATERIAL, passed=True, message="not calculated: too few line items in a level to know how they vary")
    ratio = by_level(spread.found)[kept] / mean[kept]
    found = _dispersion(spread, factor)
    if found is None:
        message = "not calculated: levels are single cells, so that heavy tails look like differences between levels"
        return Check(name, None, MATERIAL, passed=True, message=message)
    spare, dispersion = found
    variance = by_level(spread.variance)[kept] * dispersion
    d = 1.0 / (1.0 + variance / np.median(variance))
    excess = mean[kept] * (ratio - 1.0)
    first, second, third = _traces(variance, d)
    fourth = float(d**2 @ by_level(spread.fourth)[kept]) * dispersion**2
    enlarged = 2.0 * second + fourth + 2.0 * first**2 / spare
    chance = Chance(first, enlarged, 8.0 * third * (enlarged / (2.0 * second)) ** 2)
    weight = 4.0 * float(d @ (mean[kept] * spread.slope) ** 2)

    def sd(statistic: float) -> float:
        return float(np.sqrt(max(statistic - first, 0.0) / weight))

    statistic = float(d @ excess**2)
    threshold = max(MATERIAL, sd(chance.quantile(FALSE_ALARMS / n_tests)))
    low, high = np.sqrt(np.quantile(ratio, [0.05, 0.95]))
    numbers = (
        f"line items of most levels of {factor.name} vary between {low:.2g} and {high:.2g} times as much as the model's one standard "
        f"deviation ({probability_words(chance.probability(statistic))})"
    )
    value = sd(statistic)
    passed = value <= threshold
    if passed:
        return Check(name, value, threshold, passed, numbers)
    advice = _advice(fit, factor, np.sqrt(ratio), kept, missing)
    narrow = f"intervals of the levels of {factor.name} whose line items vary most are too narrow"
    return Check(name, value, threshold, passed, f"{narrow}; {advice}. In detail: {numbers}")


def _traces(variance: Floats, d: Floats) -> tuple[float, float, float]:
    """Of the first three powers of the covariance of sqrt(d) r: the scale is estimated, so the r_l add up to nothing, and it is that of
    independent ones less an outer product, diag(a) - b b'."""
    a, b = variance * d, variance * np.sqrt(d / variance.sum())
    one, two, three = float(b @ b), float(b @ (a * b)), float(b @ (a**2 * b))
    return float(a.sum()) - one, float(a @ a) - 2.0 * two + one**2, float(np.sum(a**3)) - 3.0 * three + 3.0 * two * one - one**3


def _dispersion(spread: _Spread, factor: Factor) -> tuple[float, float] | None:
    """Spare cells and how much more than by chance cells differ from their level, at least 1; None where there are too few."""
    mean = np.bincount(factor.codes, spread.mean, factor.n_levels)
    total = np.bincount(factor.codes, spread.found, factor.n_levels)
    used = spread.variance > 0
    spare = float(used.sum() - np.count_nonzero(mean))
    if spare < FEWEST_FREE:
        return None
    level = (total / np.where(mean > 0, mean, 1.0))[factor.codes]
    about = (spread.found / np.where(level > 0, level, 1.0) - spread.mean)[used]
    return spare, max(1.0, float(np.sum(about**2 / spread.variance[used])) / spare)


def _advice(fit: Fit, factor: Factor, sds: Floats, kept: Integers, missing: Sequence[str]) -> str:
    """What to write: another scale where the spread grows with the mean, a term that is missing, precisions, or studies of their own."""
    if _grows(fit, factor, sds, kept):
        return "levels vary more the larger their mean; write log(y) ~, or family: gamma"
    if missing:
        return f"mend {missing[0]} first"
    cells = fit.design.cells
    apart = f"write a study for each group of levels of {factor.name} that vary alike (where)"
    if not cells.has_moments:
        return apart
    if cells.log_outcome:
        return f"natural-scale means have a sigma for every level all the same; {apart}"
    return f"write y | weights(w) ~ with w = 1 / (residual variance of the row's level of {factor.name}), or {apart}"


def _grows(fit: Fit, factor: Factor, sds: Floats, kept: Integers) -> bool:
    """Whether levels of a positive outcome vary more the larger their mean."""
    cells = fit.design.cells
    if not cells.has_moments or cells.log_outcome or len(kept) < FEWEST_GROWING or not (cells.mean[:, -1] > 0).all():
        return False
    total = np.bincount(factor.codes, cells.weight * cells.mean[:, -1], factor.n_levels)[kept]
    mean = total / np.bincount(factor.codes, cells.weight, factor.n_levels)[kept]
    return bool(np.corrcoef(np.log(mean), np.log(sds))[0, 1] > GROWS)
