"""Do the outcomes vary as much as their family says? Pearson's statistic over cells, for families without a free residual variance."""

from __future__ import annotations

import numpy as np

from multilevel.families.registry import family_named
from multilevel.fit.container import Check, Fit
from multilevel.fit.residuals import linear_predictor

MATERIAL = 1.2
"""Variance of the outcomes over that of the family beyond which intervals are materially too narrow (10 %)."""

CERTAIN = 3.0
"""Standard errors of the statistic that it must exceed 1 by."""


FEWEST_FREE = 0.1
"""Share of cells that must be left as degrees of freedom: their count is an approximation, too rough for a small remainder."""


def dispersion_check(fit: Fit) -> list[Check]:
    """Variance of the cells' sums about their fitted means over what the family says; empty for linear models.

    Sums keep the rows' overdispersion: the variance of a sum of n rows grows by the same factor as that of each row. The residual degrees
    of freedom leave out the coefficients and, of every group-level effect, the share that is not pooled (McCullagh and Nelder 1989, section
    4.5; Hodges and Sargent 2001).
    """
    if fit.design.cells.has_moments:
        return []
    eta = linear_predictor(fit.design, fit.joint.mean)
    mean, variance = family_named(fit.family).moments(fit.design.cells.size, eta, np.inf if fit.dispersion is None else fit.dispersion)
    used = variance > 0
    # at another zero of a predictor an intercept is pooled by another share: what effects use up is counted where they were fitted
    pooled = fit.shrinkage if fit.unit_free is None or fit.unit_free.shrinkage is None else fit.unit_free.shrinkage
    free = float(used.sum()) - len(fit.design.population) - sum(float(np.sum(1.0 - shrinkage)) for shrinkage in pooled)
    if free < FEWEST_FREE * float(used.sum()):
        message = "nearly every cell has an effect of its own, which carries the dispersion: none is left to judge"
        return [Check("dispersion_ratio", None, None, passed=True, message=message)]
    statistic = float(np.sum((fit.design.cells.total - mean)[used] ** 2 / variance[used]) / free)
    error = float(np.sqrt(2.0 / free))
    threshold = 1.0 + max(MATERIAL - 1.0, CERTAIN * error)
    message = (
        f"cells vary {statistic:.3g} times as much about their fitted means as {fit.family} outcomes would, "
        f"{(statistic - 1.0) / error:+.1f} standard errors from one"
    )
    if statistic > threshold:
        message += ": intervals are too narrow; add an effect for the cell, or use a family with a dispersion"
    return [Check("dispersion_ratio", statistic, threshold, passed=statistic <= threshold, message=message)]
