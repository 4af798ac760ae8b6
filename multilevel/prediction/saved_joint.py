"""The joint distribution of (beta, b) as it is kept: posterior draws, or normal distributions at one point of theta or at several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.fit.arrow_form import ArrowForm
from multilevel.fit.interval_estimates import ONE, Moments
from multilevel.fit.theta_spread import ThetaMixture
from multilevel.linear.joint_normal import square_root


class SavedJoint(Protocol):
    """What contrasts and predictions ask of it; rows are of (beta, b) as written."""

    @property
    def has_draws(self) -> bool:
        """Whether ``spread`` are deviations of posterior draws."""

    @property
    def row_values(self) -> int:
        """Doubles that one row takes."""

    def spread(self, rows: csr_array) -> Floats:
        """(m, S) deviations of ``rows @ (beta, b)`` from their means: draws, or a root; the cross-product over S - 1 is the covariance."""

    def moments(self, rows: csr_array, mean: Floats) -> Moments:
        """Of ``rows @ (beta, b)``, whose estimates are ``mean`` (m,)."""


@dataclass(frozen=True)
class KeptDeviations:
    """deviations : (S, v) of posterior draws, or a root of the covariance, in the coordinates of the fit; ``matrix`` (p + q, v) leads from
    those to (beta, b). Before the joint distribution was kept as tables every fit's was kept so."""

    deviations: NDArray[np.float32]
    matrix: csr_array
    has_draws: bool

    @property
    def row_values(self) -> int:
        """S."""
        return len(self.deviations)

    def spread(self, rows: csr_array) -> Floats:
        """(m, S)."""
        return np.asarray(csr_array(rows @ self.matrix) @ self.deviations.T.astype(np.float64))

    def moments(self, rows: csr_array, mean: Floats) -> Moments:
        """One normal distribution, or draws' first two moments."""
        return Moments(mean[:, None], (np.sum(self.spread(rows) ** 2, axis=1) / (len(self.deviations) - 1))[:, None], ONE)


@dataclass(frozen=True)
class KeptArrow:
    """One normal distribution. form : of v coordinates of the fit, with ``location`` (v,). directions : (v, d), what theta moves; their
    product with their transpose is added to the covariance. matrix : (p + q, v) from those coordinates to (beta, b)."""

    form: ArrowForm
    location: Floats
    directions: Floats
    matrix: csr_array
    has_draws: bool = False

    @property
    def row_values(self) -> int:
        """The core's size."""
        return max(len(self.form.core), 1)

    def spread(self, rows: csr_array) -> Floats:
        """(m, max(m, 2)) a root of the covariance."""
        return root_of(self.covariance(csr_array(rows @ self.matrix)))

    def covariance(self, inner: csr_array) -> Floats:
        """(m, m) of rows (m, v) in the coordinates of the fit."""
        moved = np.asarray(inner @ self.directions)
        return np.asarray(self.form.covariance_of(inner) + moved @ moved.T)

    def moments(self, rows: csr_array, mean: Floats) -> Moments:
        """One normal distribution."""
        inner = csr_array(rows @ self.matrix)
        variance = self.form.variance(inner) + np.sum(np.asarray(inner @ self.directions) ** 2, axis=1)
        return Moments(np.asarray(inner @ self.location)[:, None], np.maximum(variance, 0.0)[:, None], ONE)


@dataclass(frozen=True)
class KeptMixture:
    """Normal distributions at points of theta."""

    points: ThetaMixture
    has_draws: bool = False

    def inner(self, rows: csr_array) -> csr_array:
        """Rows of (beta, b) in the coordinates of the fit."""
        return rows if self.points.matrix is None else csr_array(rows @ self.points.matrix)

    @property
    def row_values(self) -> int:
        """Entries of a row of all roots."""
        return int(np.prod(self.points.roots.shape[1:]))

    def spread(self, rows: csr_array) -> Floats:
        """(m, max(m, 2)) a root of the covariance over all points."""
        return root_of(self.points.covariance_about(rows, csr_array((1, rows.shape[1]))))

    def moments(self, rows: csr_array, mean: Floats) -> Moments:
        """(m, K)."""
        return Moments(np.asarray(rows @ self.points.locations.T), self.points.variances(rows), self.points.weights)

    def conditionals(self, rows: csr_array) -> tuple[Floats, Floats]:
        """Of ``rows @ (beta, b)``: means (m, K) at the points, and roots (m, K, m) of the covariances there."""
        w, n_points, r = self.points.roots.shape
        inner = rows if self.points.matrix is None else csr_array(rows @ self.points.matrix)
        moved = np.asarray(inner @ self.points.roots.reshape(w, n_points * r)).reshape(-1, n_points, r)
        roots = [square_root(moved[:, point] @ moved[:, point].T) for point in range(n_points)]
        return np.asarray(rows @ self.points.locations.T), np.stack(roots, axis=1)


def root_of(covariance: Floats) -> Floats:
    """(m, max(m, 2)) whose cross-product over its columns less one is ``covariance`` (m, m)."""
    root = square_root(covariance)
    if len(root) < 2:
        root = np.hstack([root, np.zeros((len(root), 2 - len(root)))])
    return root * np.sqrt(root.shape[1] - 1)
