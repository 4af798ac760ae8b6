"""How (beta, b) varies once the variance parameters theta vary too: a mixture over theta, or the first terms of an expansion in it.

Given theta, (beta, b) is normal about conditional means. What is unknown of theta moves the means and changes the covariance; both spreads
here say what ``conditionals`` of any rows are, and every published interval of the likelihood engine is made from those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, Self

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.fit.shared_rows import Rows, as_csr, mapped

type ThetaMethod = Literal["expansion", "integration", "posterior"]

VALUES_AT_ONCE = 20_000_000
"""Doubles of rows times roots that are held at once: 0.16 GB."""


class Conditional(Protocol):
    """A normal distribution of (beta, b) at one theta."""

    def variance(self, rows: Rows) -> Floats:
        """(m,) variances of ``rows @ (beta, b)``."""

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,) sds of ``(rows - centre) @ (beta, b)``, ``centre`` (1, p + q)."""

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m) covariance of the same."""

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q) draws."""

    def covariance_root(self) -> Floats:
        """(m, p + q) A with A'A the covariance."""

    @property
    def mean(self) -> Floats:
        """(p + q,) conditional means."""


class ThetaSpread(Protocol):
    """The distribution of (beta, b) with theta's uncertainty in it, at K points (K = 1: one normal distribution).

    method : how theta was dealt with. covariances : per block (T, k, k) Sigma at T points of theta, in the coordinates of the fit; T is K,
    or any number where K is 1. weights : (T,) of those points, summing to one.
    """

    @property
    def method(self) -> ThetaMethod:
        """How theta was dealt with."""

    @property
    def covariances(self) -> tuple[Floats, ...]:
        """Per block (T, k, k)."""

    @property
    def weights(self) -> Floats:
        """(T,)."""

    @property
    def n_points(self) -> int:
        """K."""

    @property
    def mean(self) -> Floats:
        """(p + q,) over all points."""

    @property
    def locations(self) -> Floats:
        """(K, p + q) means of (beta, b) at each point."""

    def predictors(self, rows: Rows) -> Floats:
        """(m, K) means of ``rows @ (beta, b)`` at each point."""

    def variances(self, rows: Rows) -> Floats:
        """(m, K) variances of ``rows @ (beta, b)`` at each point."""

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,) sds of ``(rows - centre) @ (beta, b)`` over all points, ``centre`` (1, p + q)."""

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m) covariance of the same."""

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q) draws, each point as often as it weighs."""

    def covariance_root(self) -> Floats:
        """(m, p + q) A with A'A the covariance of (beta, b) over all points; not in other coordinates."""

    def mapped(self, matrix: csr_array) -> Self:
        """The distribution of ``matrix`` (beta, b)."""

    def unmapped(self) -> Self:
        """The distribution in the coordinates of the fit."""


@dataclass(frozen=True)
class ThetaMixture:
    """K normal distributions, one at each point of theta, with their weights.

    means : (K, w) of the coordinates of the fit. roots : (w, K, r), ``roots[:, k] @ roots[:, k].T`` the covariance at point k. matrix :
    (p + q, w) from those to (beta, b), None for the identity. scales : (K,) residual sd at each point, where it is kept.
    """

    means: Floats
    roots: Floats
    covariances: tuple[Floats, ...]
    weights: Floats
    matrix: csr_array | None = None
    method: ThetaMethod = "integration"
    scales: Floats | None = None

    @property
    def n_points(self) -> int:
        """K."""
        return len(self.means)

    @property
    def mean(self) -> Floats:
        """(p + q,)."""
        return np.asarray(self.weights @ self.locations)

    @cached_property
    def locations(self) -> Floats:
        """(K, p + q)."""
        return self.means if self.matrix is None else np.asarray((self.matrix @ self.means.T).T)

    def predictors(self, rows: Rows) -> Floats:
        """(m, K)."""
        return np.asarray(rows @ self.locations.T)

    def variances(self, rows: Rows) -> Floats:
        """(m, K)."""
        inner = _inner(rows, self.matrix)
        w, n_points, r = self.roots.shape
        flat = self.roots.reshape(w, n_points * r)
        found = np.empty((inner.shape[0], n_points))
        for part in _slices(inner.shape[0], n_points * r):
            found[part] = np.sum(np.asarray(inner[part] @ flat).reshape(-1, n_points, r) ** 2, axis=2)
        return found

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,)."""
        return np.concatenate([np.linalg.norm(part, axis=1) for part in self._from_centre(rows, centre)])

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m)."""
        moved = np.concatenate(list(self._from_centre(rows, centre)))
        return np.asarray(moved @ moved.T)

    def _from_centre(self, rows: Rows, centre: csr_array) -> Iterator[Floats]:
        """Chunks (m, K r + K) of ``(rows - centre)`` times a root of the covariance over all points."""
        inner, middle = _inner(rows, self.matrix), as_csr(_inner(centre, self.matrix))
        away = self.means - self.weights @ self.means
        root = np.hstack([*(np.sqrt(self.weights)[:, None, None] * self.roots.transpose(1, 0, 2)), away.T * np.sqrt(self.weights)])
        at_centre = np.asarray(middle @ root)
        return (np.asarray(inner[part] @ root) - at_centre for part in _slices(inner.shape[0], root.shape[1]))

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q)."""
        which = self.points_of_draws(size, seed)
        rng = np.random.default_rng([seed, 1])
        noise = rng.standard_normal((size, self.roots.shape[2]))
        inner = np.empty((size, self.means.shape[1]))
        for point in np.unique(which):
            mine = which == point
            inner[mine] = self.means[point] + noise[mine] @ self.roots[:, point].T
        return inner if self.matrix is None else np.asarray((self.matrix @ inner.T).T)

    def points_of_draws(self, size: int, seed: int) -> Integers:
        """(size,) the point that each of ``draws(size, seed)`` is of."""
        return points_by_turns(size, self.weights, seed)

    def covariance_root(self) -> Floats:
        """(w, w): a root of the average covariance and of what the means vary by."""
        assert self.matrix is None
        away = self.means - self.weights @ self.means
        weighted = self.roots * self.weights[None, :, None]
        total = np.einsum("akr,bkr->ab", weighted, self.roots, optimize=True) + (away * self.weights[:, None]).T @ away
        values, vectors = np.linalg.eigh(total)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))).T)

    def mapped(self, matrix: csr_array) -> ThetaMixture:
        """The distribution of ``matrix`` (beta, b)."""
        return replace(self, matrix=matrix if self.matrix is None else csr_array(matrix @ self.matrix))

    def unmapped(self) -> ThetaMixture:
        """The distribution in the coordinates of the fit."""
        return replace(self, matrix=None)


@dataclass(frozen=True)
class ThetaExpansion:
    """One normal distribution: the conditional one at a point of theta, and what the conditional means vary by as theta does.

    inner : at that point, in the coordinates of the fit (w of them). centre : (w,) its mean. directions : (w, d), their product with their
    transpose is added to the covariance. matrix : as in ``ThetaMixture``.
    """

    inner: Conditional
    centre: Floats
    directions: Floats
    covariances: tuple[Floats, ...]
    weights: Floats
    method: ThetaMethod = "expansion"
    matrix: csr_array | None = None

    @property
    def n_points(self) -> int:
        """1."""
        return 1

    @property
    def mean(self) -> Floats:
        """(p + q,)."""
        return self.locations[0]

    @cached_property
    def locations(self) -> Floats:
        """(1, p + q)."""
        return (self.centre if self.matrix is None else np.asarray(self.matrix @ self.centre))[None, :]

    def predictors(self, rows: Rows) -> Floats:
        """(m, 1)."""
        return np.asarray(rows @ self.locations.T)

    def variances(self, rows: Rows) -> Floats:
        """(m, 1)."""
        inner = _inner(rows, self.matrix)
        moved = np.empty(inner.shape[0])
        for part in _slices(inner.shape[0], max(self.directions.shape[1], 1)):
            moved[part] = np.sum(np.asarray(inner[part] @ self.directions) ** 2, axis=1)
        return (self.inner.variance(inner) + moved)[:, None]

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,)."""
        inner, middle = _inner(rows, self.matrix), as_csr(_inner(centre, self.matrix))
        at_centre, moved = np.asarray(middle @ self.directions), np.empty(inner.shape[0])
        for part in _slices(inner.shape[0], max(self.directions.shape[1], 1)):
            moved[part] = np.sum((np.asarray(inner[part] @ self.directions) - at_centre) ** 2, axis=1)
        return np.sqrt(self.inner.spread_about(inner, middle) ** 2 + moved)

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m)."""
        inner, middle = _inner(rows, self.matrix), as_csr(_inner(centre, self.matrix))
        moved = np.asarray(inner @ self.directions) - np.asarray(middle @ self.directions)
        return np.asarray(self.inner.covariance_about(inner, middle) + moved @ moved.T)

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q)."""
        values = self.inner.draws(size, seed) + (self.centre - self.inner.mean)
        noise = np.random.default_rng([seed, 1]).standard_normal((size, self.directions.shape[1]))
        values = values + noise @ self.directions.T
        return values if self.matrix is None else np.asarray((self.matrix @ values.T).T)

    def covariance_root(self) -> Floats:
        """(m, w)."""
        assert self.matrix is None
        return np.vstack([self.inner.covariance_root(), self.directions.T])

    def mapped(self, matrix: csr_array) -> ThetaExpansion:
        """The distribution of ``matrix`` (beta, b)."""
        return replace(self, matrix=matrix if self.matrix is None else csr_array(matrix @ self.matrix))

    def unmapped(self) -> ThetaExpansion:
        """The distribution in the coordinates of the fit."""
        return replace(self, matrix=None)


def turns(size: int, weights: Floats) -> Integers:
    """(size,) which point each draw is of, as often as it weighs (T,); the same for all that is drawn together."""
    ordered = np.searchsorted(np.cumsum(weights), (np.arange(size) + 0.5) / size * np.sum(weights))
    return np.random.default_rng(size).permutation(np.minimum(ordered, len(weights) - 1))


def points_by_turns(size: int, weights: Floats, seed: int) -> Integers:
    """(size,) which point each draw is of, as often as it weighs (T,), in an order of its own for each seed."""
    return np.random.default_rng(seed).permutation(turns(size, weights))


def _inner(rows: Rows, matrix: csr_array | None) -> Rows:
    """In the coordinates of the fit."""
    return rows if matrix is None else mapped(rows, matrix)


def _slices(n_rows: int, width: int) -> Iterator[slice]:
    step = max(1, VALUES_AT_ONCE // width)
    return (slice(at, min(at + step, n_rows)) for at in range(0, n_rows, step))
