"""Variance shares and intraclass correlations: how much of the outcome's variance lies at each level.

Sources: Goldstein, Browne and Rasbash (2002) for the variance partition of models with slopes (mean over rows of z'Sigma z); Nakagawa,
Johnson and Schielzeth (2017, table 1 and appendix S1) for the latent residual variances under logit and log links.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.cells.statistics import CellStatistics
from multilevel.design.model import Design, DesignColumn
from multilevel.families.registry import family_named
from multilevel.fit.container import Fit


@dataclass(frozen=True)
class VariancePartition:
    """Variances on the link scale.

    blocks : (B,) mean over line items of z'Sigma z for each block of group-level effects. residual : residual or latent residual variance.
    """

    blocks: Floats
    residual: float

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return float(self.blocks.sum() + self.residual)

    @property
    def shares(self) -> Floats:
        """(B,) each block's share of the total: for a random intercept the intraclass correlation."""
        return self.blocks / self.total

    @property
    def residual_share(self) -> float:
        """What is left within groups."""
        return self.residual / self.total


def variance_partition(fit: Fit) -> VariancePartition:
    """The variance partition at the estimates."""
    plain = fit.unit_free
    design, covariances = (fit.design, fit.covariances) if plain is None else (plain.form.design, plain.covariances)
    blocks = [
        float(np.sum(second_moments(design, block.columns) * covariance))
        for block, covariance in zip(design.blocks, covariances, strict=True)
    ]
    return VariancePartition(np.array(blocks), residual_variance(fit))


def residual_variance(fit: Fit) -> float:
    """sigma^2 (mean over rows where precisions are known), or the latent residual variance of the family's link.

    pi^2 / 3 under a logit link; log(1 + 1 / mu) for poisson, log(1 + 1 / mu + 1 / phi) for negative_binomial, log(1 + 1 / shape) for
    gamma, with mu the observed mean outcome of a row.
    """
    cells = fit.design.cells
    if fit.sigma is not None:
        return float(fit.sigma**2 * np.sum(cells.n * (cells.n / cells.weight)) / cells.n.sum())
    return family_named(fit.family).latent_variance(mean_outcome(cells), np.nan if fit.dispersion is None else fit.dispersion)


def mean_outcome(cells: CellStatistics) -> float:
    """Summed outcome over line items."""
    return float(cells.total.sum() / cells.n.sum())


def second_moments(design: Design, columns: tuple[DesignColumn, ...]) -> Floats:
    """(k, k) mean over line items of z z', within-cell variation of continuous features included."""
    cells = design.cells
    share = cells.n / cells.n.sum()
    moments = np.empty((len(columns), len(columns)))
    for i, left in enumerate(columns):
        for j, right in enumerate(columns):
            product = _feature_mean(cells, left) * _feature_mean(cells, right)
            if left.feature and right.feature:
                product = product + cells.cross[:, left.feature - 1, right.feature - 1] / cells.weight
            moments[i, j] = np.sum(share * left.multiplier * right.multiplier * product)
    return moments


def _feature_mean(cells: CellStatistics, column: DesignColumn) -> Floats:
    return np.asarray(cells.mean[:, column.feature - 1] - column.shift) if column.feature else np.ones(cells.n_cells)
