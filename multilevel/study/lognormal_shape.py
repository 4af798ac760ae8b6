"""Do natural-scale means of ``log(y)`` rest on the right shape? exp(mu + sigma^2 / 2) is the mean of a lognormal outcome and of no other.

With t = exp(r - sigma^2 / 2) for the residual r of log y, the cells give for every level of the data

    D = sum of  t - 1 - r - (r^2 - sigma^2) / 2,

what is left of observed over fitted means when what the logarithms themselves say of mu and sigma is taken off. Of lognormal outcomes its
mean is zero, its variance exp(sigma^2) - 1 - sigma^2 - sigma^4 / 2 a line item, and errors in mu and sigma do not move it to first order
(Neyman 1959): the estimates may be those of either engine, pooled or not. It is judged by what it does to published means: against their
standard errors.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from multilevel.arrays import Floats
from multilevel.cells.statistics import CellStatistics
from multilevel.checking.omitted_terms import FALSE_ALARMS, probability_words
from multilevel.checking.score_test import Chance
from multilevel.design.nesting import Nesting
from multilevel.estimands.level_variance import LevelVariance
from multilevel.fit.container import Check, Fit
from multilevel.fit.residuals import cell_residual_ss, linear_predictor, predictor_variance

NAME = "lognormal_shape"

MATERIAL = 0.5
"""Gap in published standard errors up to which intervals of 95 % still hold more than 92 %."""

FEWEST_ROWS = 200
"""Line items that a shape is seen in."""

MOST_WITHIN = 0.1
"""Variance of the linear predictor within cells up to which what it does to a mean is known from its variance."""

WIDEST = 1.5
"""Sigma above which no realistic number of line items gives the mean of lognormal outcomes a normal distribution."""

NODES = np.linspace(-9.0, 15.0, 2_401)


def lognormal_shape(fit: Fit, tree: Nesting, variance: LevelVariance | None, published: pa.Table, *, is_part: bool = False) -> list[Check]:
    """``lognormal_shape``: gap between observed and fitted natural-scale means that the shape makes, in published standard errors.

    Empty unless ``log y``; fails above 0.5 where chance does not explain it. ``published`` : ``group_estimates``. ``is_part`` : of a
    two-part study, which has another family to write.
    """
    if variance is None:
        return []
    cells, factors = fit.design.cells, dict(tree.factors)
    sigma2 = np.exp(variance.constant + variance.part(factors, frozenset(factors)))
    within = predictor_variance(fit.design, fit.joint.mean)
    n = cells.n.astype(np.float64)
    error = _typical_error(published)
    reason = _reason(cells, sigma2, within)
    if reason or error is None:
        return [Check(NAME, None, MATERIAL, passed=True, message=f"not calculated: {reason or 'no level has a standard error'}")]
    eta = linear_predictor(fit.design, fit.joint.mean)
    ratio = cells.total * np.exp(-eta - (sigma2 + within) / 2.0)
    moved = n * (cells.mean[:, -1] - eta) + (cell_residual_ss(fit.design, fit.joint.mean) - n * sigma2) / 2.0
    # errors of the levels' sigmas add to t what they do not take off elsewhere, to second order
    spare = float(np.average(sigma2**2, weights=n)) / 4.0 * sum(factor.n_levels for factor in factors.values())
    whole = float(np.sum(ratio - n - moved))
    left = float(np.copysign(max(abs(whole) - spare, 0.0), whole))
    chance = _chance(sigma2, n)
    probability = min(1.0, 2.0 * (chance.probability(left) if left > 0 else 1.0 - chance.probability(left)))
    gap = left / float(n.sum())
    limit = max(abs(chance.quantile(FALSE_ALARMS / 2.0)), abs(chance.quantile(1.0 - FALSE_ALARMS / 2.0))) / float(n.sum())
    value, threshold = abs(gap) / error, max(MATERIAL, limit / error)
    passed = value <= threshold
    numbers = (
        f"means of y are {abs(gap):.2%} {'above' if gap > 0 else 'below'} those of a lognormal outcome with the same logarithms, "
        f"{value:.2g} standard errors of a published mean ({probability_words(probability)})"
    )
    # the fitted means of these follow the observed ones whatever the shape
    other = "hurdle_gamma" if is_part else "gamma, with y for log(y)"
    advice = "" if passed else f": natural-scale means are off by as much; write family: {other}"
    return [Check(NAME, value, threshold, passed, numbers + advice)]


def _reason(cells: CellStatistics, sigma2: Floats, within: Floats) -> str:
    """Why the shape cannot be seen; empty where it can."""
    n = cells.n
    if n.sum() < FEWEST_ROWS:
        return "too few line items to see a shape"
    if not np.array_equal(n, cells.weight):
        return "line items have weights"
    if abs(n @ cells.mean[:, -1] + cells.once.get("log_jacobian", 0.0)) > 1e-6 * n.sum():
        return "the formula has an offset"
    if float(sigma2[n > 0].max()) > WIDEST**2:
        return f"a sigma above {WIDEST:g} leaves the mean to a few line items"
    if float(np.average(within, weights=n)) > MOST_WITHIN:
        return "predictors vary too much within cells"
    return ""


def _typical_error(published: pa.Table) -> float | None:
    """Median over levels of the relative standard error of a published mean."""
    estimate, error = (published[name].to_numpy().astype(np.float64) for name in ("estimate", "std_error"))
    known = np.isfinite(estimate) & np.isfinite(error) & (estimate > 0) & (error > 0)
    return float(np.median(error[known] / estimate[known])) if known.any() else None


def _chance(sigma2: Floats, n: Floats) -> Chance:
    """Moments of the sum over all line items, of lognormal outcomes."""
    variance = float(n @ (np.expm1(sigma2) - sigma2 - sigma2**2 / 2.0))
    # the third moment, by quadrature at some sigmas and in between them
    grid = np.linspace(np.sqrt(sigma2.min()), np.sqrt(sigma2.max()) + 1e-9, 24)
    residual = grid[:, None] * NODES
    left = np.exp(residual - grid[:, None] ** 2 / 2.0) - 1.0 - residual - (residual**2 - grid[:, None] ** 2) / 2.0
    density = np.exp(-(NODES**2) / 2.0) / np.sqrt(2.0 * np.pi) * (NODES[1] - NODES[0])
    third = float(n @ np.interp(np.sqrt(sigma2), grid, left**3 @ density))
    return Chance(0.0, variance, third)
