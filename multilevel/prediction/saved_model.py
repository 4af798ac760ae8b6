"""The joint distribution of a fit as it is kept: draws or a root of the covariance, and what is needed to make rows for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.fit.container import Engine
from multilevel.fit.interval_estimates import ONE, Moments
from multilevel.fit.theta_spread import ThetaMixture


@dataclass(frozen=True)
class SavedFactor:
    """Levels of a grouping factor.

    keys : per column of the factor (L,) labels. levels, parents : as in ``Factor``. log_variances : (L,) effects on log sigma^2 under
    ``log(y)`` with their errors, ``log_variance_sd`` the sd between levels; empty and 0 for other outcomes.
    """

    name: str
    columns: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    levels: tuple[str, ...]
    parents: tuple[str, ...] | None
    log_variances: tuple[float, ...] = ()
    log_variance_errors: tuple[float, ...] = ()
    log_variance_sd: float = 0.0


@dataclass(frozen=True)
class SavedMeans:
    """Means of ``between(x, g)`` by level: ``keys`` per column of g (L,), ``values`` (L,)."""

    label: str
    columns: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class SavedModel:
    """One fitted model, or one part of a two-part one.

    Attributes
    ----------
    part : "occurrence" or "amount" of a two-part model, else None.
    formula : its text. family, log_outcome : as in ``CellStatistics``. interval : probability of the study's intervals.
    population : labels of beta. labels : categorical predictor -> its values in coding order.
    moments : expression inside ``center()`` or ``scale()`` -> mean, sd. means : what ``within`` and ``between`` refer to.
    factors : by name. blocks : the factor's name of each block.
    log_variance, log_variance_error : log sigma^2 of an average level under ``log(y)`` and its standard error, else None and 0.
    fills : column -> the mean that stands for a missing value there (``<column>_missing`` is its indicator).
    mean : (p + q,). deviations : (S, p + q), draws about the mean or a root of the covariance: its cross-product over S - 1 is that.
    covariances : per block (k, k). covariance_draws : per block (S, k, k) beside the draws, or None (likelihood engine).
    covariance_points : per block (T, k, k) at points of theta with ``point_weights`` (T,) (likelihood engine), or None.
    point_means, point_roots : (T, p + q) and (p + q, T, r), the conditional distributions of the unit-free coefficients at those points,
        where a table's intervals are of their mixture; None where they are normal, or too many numbers to keep.
    contrasts : (factor, term) -> (L, p + q) rows of a level's coefficient, group-level predictors included.
    matrix, maps : from the unit-free coefficients, which ``deviations`` and the covariances are of, to (beta, b), and per block (k, k).
    """

    part: str | None
    formula: str
    family: str
    log_outcome: bool
    engine: Engine
    interval: float
    population: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    moments: Mapping[str, tuple[float, float]]
    means: tuple[SavedMeans, ...]
    factors: Mapping[str, SavedFactor]
    blocks: tuple[str, ...]
    log_variance: float | None
    log_variance_error: float
    fills: Mapping[str, float]
    mean: Floats
    deviations: NDArray[np.float32]
    covariances: tuple[Floats, ...]
    covariance_points: tuple[Floats, ...] | None
    point_weights: Floats | None
    point_means: Floats | None
    point_roots: NDArray[np.float32] | None
    covariance_draws: tuple[NDArray[np.float32], ...] | None
    contrasts: Mapping[tuple[str, str], csr_array]
    matrix: csr_array
    maps: tuple[Floats, ...]

    @property
    def has_draws(self) -> bool:
        """Whether ``deviations`` are those of posterior draws."""
        return self.covariance_draws is not None

    def spread(self, rows: csr_array) -> Floats:
        """(m, S) deviations of ``rows @ (beta, b)`` from their means."""
        return np.asarray(csr_array(rows @ self.matrix) @ self.deviations.T.astype(np.float64))

    def conditional(self, rows: csr_array) -> Moments:
        """Of ``rows @ (beta, b)``, where there are no draws."""
        mean = np.asarray(rows @ self.mean)
        if self.point_means is None or self.point_roots is None or self.point_weights is None:
            return Moments(mean[:, None], self.std_error(rows)[:, None] ** 2, ONE)
        kept = ThetaMixture(self.point_means, self.point_roots.astype(np.float64), (), self.point_weights, self.matrix)
        return Moments(np.asarray(rows @ kept.locations.T), kept.variances(rows), self.point_weights)

    def std_error(self, rows: csr_array) -> Floats:
        """(m,) standard errors of ``rows @ (beta, b)``."""
        return np.sqrt(np.sum(self.spread(rows) ** 2, axis=1) / (len(self.deviations) - 1))
