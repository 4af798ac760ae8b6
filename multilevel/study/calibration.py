"""Do the fitted natural-scale means agree with the observed ones? A check on means that rest on more than the averages of the cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr, bdtrik

from multilevel.arrays import Flags, Floats, distinct
from multilevel.checking.omitted_terms import FALSE_ALARMS
from multilevel.design.nesting import Nesting
from multilevel.estimands.fitted_part import FittedPart
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.response import response_of
from multilevel.fit.container import Check, Fit
from multilevel.fit.residuals import linear_predictor, predictor_variance

TOLERANCE = 0.1
"""A level's fitted mean may differ from its observed one by this share, or by twice its sampling error where that is more."""

MOST_OUTSIDE = 0.1
"""Line items that may be in levels outside the tolerance, as a share, unless chance explains how many levels are."""

BEYOND_TWO = 0.05
"""Probability that a level is outside by chance."""


def calibration_of_logarithms(fit: Fit, tree: Nesting, variance: LevelVariance | None) -> list[Check]:
    """Per factor the share of line items in levels whose fitted mean of y misses the observed one; empty unless ``log y``."""
    if variance is None:
        return []
    cells = fit.design.cells
    sigma2 = _sigma2(variance, tree)
    spread = sigma2 + predictor_variance(fit.design, fit.joint.mean)
    fitted = cells.n * np.exp(linear_predictor(fit.design, fit.joint.mean) + spread / 2.0)
    # Relative variance of one lognormal outcome about its mean.
    scatter = cells.n * np.expm1(np.minimum(sigma2, 50.0))
    found = []
    for name, factor in tree.factors.items():
        # of a two-part outcome some levels have no amounts
        _, codes = distinct(factor.codes)
        n, observed, expected, noise = (np.bincount(codes, values) for values in (cells.n, cells.total, fitted, scatter))
        error = np.abs(expected - observed) / observed
        outside = error > np.maximum(TOLERANCE, 2.0 * np.sqrt(noise) / n)
        typical = float(np.sum(n * error) / n.sum())
        found.append(_check(name, outside, n, f"{typical:.1%} on average (weighted by line items)"))
    return found


def calibration_of_products(parts: Sequence[FittedPart], tree: Nesting) -> list[Check]:
    """The same of both parts together, zeros included; empty where there is one part."""
    if len(parts) == 1:
        return []
    occurrence, amount = parts
    n, total = occurrence.design.cells.n.astype(float), amount.design.cells.total
    first, second = (linear_predictor(occurrence.design, part.fit.joint.mean) for part in (occurrence, amount))
    dispersion = amount.fit.dispersion
    sigma2 = np.zeros(len(n)) if amount.variance is None else _sigma2(amount.variance, tree)
    p = response_of(occurrence.fit.design.cells).mean(first)
    mean = response_of(amount.fit.design.cells).mean(second + sigma2 / 2.0)
    relative = np.expm1(np.minimum(sigma2, 50.0)) if dispersion is None else np.full(len(n), 1.0 / dispersion)
    # Var(y) of a hurdle: p E[a^2] - p^2 E[a]^2
    noise = n * mean**2 * (p * (1.0 + relative) - p**2)
    found = []
    for name, factor in tree.factors.items():
        rows, observed, expected, scatter = (
            np.bincount(factor.codes, values, factor.n_levels) for values in (n, total, n * p * mean, noise)
        )
        error = np.abs(expected - observed)
        outside = error > np.maximum(TOLERANCE * expected, 2.0 * np.sqrt(scatter))
        typical = error.sum() / observed.sum()
        found.append(_check(name, outside, rows, f"{typical:.1%} on average (weighted by outcome)"))
    return found


def _sigma2(variance: LevelVariance, tree: Nesting) -> Floats:
    """(C,) of log y in each cell."""
    factors = dict(tree.factors)
    return np.asarray(np.exp(variance.constant + variance.part(factors, frozenset(factors))))


def _check(name: str, outside: Flags, n: Floats, typical: str) -> Check:
    share = float(np.sum(n[outside]) / n.sum())
    # a level is outside twice its sampling error by chance in one of twenty
    by_chance = most_outside_by_chance(len(n))
    message = (
        f"{name}: fitted means of y differ from the observed ones by {typical}; "
        f"{int(outside.sum())} of {len(n)} levels by more than {TOLERANCE:.0%} and twice their sampling error"
    )
    return Check(f"calibration_of_means[{name}]", share, MOST_OUTSIDE, share <= MOST_OUTSIDE or int(outside.sum()) <= by_chance, message)


def most_outside_by_chance(n_levels: int) -> float:
    """How many of so many levels are outside by chance; more are with a probability of at most ``FALSE_ALARMS``.

    The quantile of a binomial distribution, by the functions that ``scipy.stats`` calls: that package takes longer to load than
    the fit of a small study.
    """
    near = np.ceil(bdtrik(1.0 - FALSE_ALARMS, n_levels, BEYOND_TWO))
    below = max(near - 1.0, 0.0)
    return float(below if bdtr(below, n_levels, BEYOND_TWO) >= 1.0 - FALSE_ALARMS else near)
