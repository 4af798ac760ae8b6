"""Natural-scale means of ``log y``: what is unknown of their sigma, level by level."""

from __future__ import annotations

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.nesting import Nesting
from multilevel.estimands.level_variance import LevelVariance, widened
from multilevel.estimands.standardise import Standardisation
from multilevel.fit.container import Summary


def with_variance_error(
    summary: Summary, standard: Standardisation, variance: LevelVariance | None, nesting: Nesting, name: str
) -> Summary:
    """Widen natural-scale means by ``variance_error``."""
    if variance is None:
        return summary
    return widened(summary, variance_error(standard, variance, nesting, name), standard.outcome.interval)


def variance_error(standard: Standardisation, variance: LevelVariance | None, nesting: Nesting, name: str) -> Floats:
    """(L,) sd of each log mean from what is unknown of its sigma: log mean = eta + sigma^2 / 2, so sigma^2 / 2 x sd(log sigma^2)."""
    factor = nesting.factors[name]
    if variance is None:
        return np.zeros(factor.n_levels)
    n = standard.outcome.design.cells.n
    own = np.bincount(factor.codes, n * _cell_variance(standard), factor.n_levels) / np.bincount(factor.codes, n, factor.n_levels)
    squared = sum((variance.std_errors[above][levels] ** 2 for above, levels in nesting.lineage(name).items()), np.zeros(factor.n_levels))
    return np.asarray(own / 2.0 * np.sqrt(squared + variance.mean_error**2))


def _cell_variance(standard: Standardisation) -> Floats:
    return standard.own_variance[standard.own.codes] * standard.common_variance[standard.common.codes]
