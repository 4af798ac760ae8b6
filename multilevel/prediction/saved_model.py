"""A fit as it is kept: the joint distribution of its coefficients, and what is needed to make rows for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.fit.container import Engine
from multilevel.fit.interval_estimates import Moments
from multilevel.prediction.saved_joint import SavedJoint


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
    factors : by name. blocks : the factor's name of each block. terms : its terms.
    scale, log_scale_error : sigma, phi or shape, and the sd of what is unknown of its logarithm; None where the family has none, and in
        versions from before it was kept. scale_draws : (S,) beside the draws, or None.
    log_variance, log_variance_error : log sigma^2 of an average level under ``log(y)`` and its standard error, else None and 0.
    fills : column -> the mean that stands for a missing value there (``<column>_missing`` is its indicator).
    mean : (p + q,). joint : how they vary about it.
    covariances : per block (k, k). covariance_draws : per block (S, k, k) beside the draws, or None (likelihood engine).
    covariance_points : per block (T, k, k) at points of theta with ``point_weights`` (T,) (likelihood engine), or None.
    contrasts : (factor, term) -> (L, p + q) rows of a level's coefficient, group-level predictors included.
    population_map, maps : from the unit-free coefficients, which the covariances are of, to beta (p, p) and per block (k, k).
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
    terms: tuple[tuple[str, ...], ...]
    scale: float | None
    log_scale_error: float
    scale_draws: NDArray[np.float32] | None
    log_variance: float | None
    log_variance_error: float
    fills: Mapping[str, float]
    mean: Floats
    joint: SavedJoint
    covariances: tuple[Floats, ...]
    covariance_points: tuple[Floats, ...] | None
    point_weights: Floats | None
    covariance_draws: tuple[NDArray[np.float32], ...] | None
    contrasts: Mapping[tuple[str, str], csr_array]
    population_map: Floats
    maps: tuple[Floats, ...]

    @property
    def has_draws(self) -> bool:
        """Whether the joint distribution is posterior draws."""
        return self.joint.has_draws

    def spread(self, rows: csr_array) -> Floats:
        """(m, S) deviations of ``rows @ (beta, b)`` from their means."""
        return self.joint.spread(rows)

    def conditional(self, rows: csr_array) -> Moments:
        """Of ``rows @ (beta, b)``."""
        return self.joint.moments(rows, np.asarray(rows @ self.mean))

    def std_error(self, rows: csr_array) -> Floats:
        """(m,) standard errors of ``rows @ (beta, b)``."""
        return np.sqrt(self.conditional(rows).total)
