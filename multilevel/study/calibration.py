"""Do the fitted natural-scale means agree with the observed ones? A check on ``log(y)`` studies, whose means rest on sigma as well."""

from __future__ import annotations

import numpy as np

from multilevel.design.nesting import Nesting
from multilevel.estimands.level_variance import LevelVariance
from multilevel.fit.container import Check, Fit
from multilevel.fit.residuals import linear_predictor, predictor_variance

TOLERANCE = 0.1
"""A level's fitted mean may differ from its observed one by this share, or by twice its sampling error where that is more."""

MOST_OUTSIDE = 0.1
"""Line items that may be in levels outside the tolerance, as a share."""


def calibration_of_means(fit: Fit, tree: Nesting, variance: LevelVariance | None) -> list[Check]:
    """Per factor the share of line items in levels whose fitted mean of y misses the observed one; empty unless ``log(y)``."""
    if variance is None:
        return []
    cells = fit.design.cells
    factors = dict(tree.factors)
    sigma2 = np.exp(variance.constant + variance.part(factors, frozenset(factors)))
    spread = sigma2 + predictor_variance(fit.design, fit.joint.mean)
    fitted = cells.n * np.exp(linear_predictor(fit.design, fit.joint.mean) + spread / 2.0)
    # Relative variance of one lognormal outcome about its mean.
    scatter = cells.n * np.expm1(np.minimum(sigma2, 50.0))
    found = []
    for name, factor in factors.items():
        n, observed, expected, noise = (
            np.bincount(factor.codes, values, factor.n_levels) for values in (cells.n, cells.total, fitted, scatter)
        )
        error = np.abs(expected - observed) / observed
        outside = error > np.maximum(TOLERANCE, 2.0 * np.sqrt(noise) / n)
        share = float(np.sum(n[outside]) / n.sum())
        typical = float(np.sum(n * error) / n.sum())
        message = (
            f"{name}: fitted means of y differ from the observed ones by {typical:.1%} on average (weighted by line items); "
            f"{int(outside.sum())} of {factor.n_levels} levels by more than {TOLERANCE:.0%} and twice their sampling error"
        )
        found.append(Check(f"calibration_of_means[{name}]", share, MOST_OUTSIDE, passed=share <= MOST_OUTSIDE, message=message))
    return found
