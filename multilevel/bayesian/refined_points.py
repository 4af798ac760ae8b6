"""The same importance sample with less noise: what a polynomial says of the density, taken from thousands of points that cost nothing.

The log density of a few variance parameters is smooth. A polynomial fitted to its values at the points (quadratic, with third and fourth
powers along each axis) predicts it within a few tenths where the posterior is. Weighed by the polynomial, any number of draws from the same
proposals costs no factorisation; the points that were factorised then correct what the polynomial gets wrong. That is a control variate:
the expectation is the importance sample's own, and its error is that of the correction (Owen 2013, section 8.9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Flags, Floats
from multilevel.bayesian.importance_points import ThetaPosterior

FREE_POINTS = 20_000

PER_TERM = 3
"""Points for every coefficient of the polynomial, below which none is fitted."""

COVERED = 0.99
"""Share of the posterior where the polynomial is used; beyond, points count as they did."""

LEAST_GAIN = 1.5
"""Times as many effective points as without, below which the sample is left as it is."""


@dataclass(frozen=True)
class WeightedPoints:
    """thetas (n, d); weights (n,), summing to one, some of them below zero; errors (n,): the Monte Carlo variance of a mean of f is
    sum errors^2 (f - mean)^2."""

    thetas: Floats
    weights: Floats
    errors: Floats

    @property
    def ess(self) -> float:
        """How many independent points of the posterior know a mean as well."""
        return float(1.0 / np.sum(self.errors**2))


def plain_points(theta: ThetaPosterior) -> WeightedPoints:
    """The points as they are: states of Markov chains count for as many as their bulk ESS says."""
    errors = theta.weights if theta.chains is None else np.full(len(theta.thetas), (len(theta.thetas) * theta.ess) ** -0.5)
    return WeightedPoints(theta.thetas, theta.weights, errors)


def refined(theta: ThetaPosterior, rng: np.random.Generator) -> WeightedPoints:
    """The points beside ``FREE_POINTS`` that the polynomial weighs, or as they are where it would not help."""
    plain = plain_points(theta)
    if theta.chains is not None or len(theta.thetas) < PER_TERM * _n_terms(theta.thetas.shape[1]):
        return plain
    size = len(theta.thetas)
    terms = _terms(theta.standardised(theta.thetas))
    kept = np.isfinite(theta.log_densities)
    importance = np.sqrt(theta.weights[kept] * size + 1.0 / size)
    top = float(theta.log_densities[kept].max())
    fitted = np.linalg.lstsq(importance[:, None] * terms[kept], importance * (theta.log_densities[kept] - top), rcond=None)[0]
    which = rng.choice(len(theta.proposals), size=FREE_POINTS, p=np.array(theta.sizes) / size)
    free = np.concatenate([each.sample(int(np.sum(which == at)), rng) for at, each in enumerate(theta.proposals)])
    within = _region(theta)
    own_logs = np.where(kept, theta.log_densities - top, -np.inf) - theta.log_mixture(theta.thetas)

    def told_by(points: Floats) -> Floats:
        # no density is above that at the mode, and far from the points a polynomial says nothing
        logs = np.minimum(_terms(theta.standardised(points)) @ fitted, 0.0) - theta.log_mixture(points)
        return np.where(within(points), np.exp(np.minimum(logs, float(own_logs.max()))), 0.0)

    of_free, told = told_by(free) / FREE_POINTS, told_by(theta.thetas)
    correction = (np.exp(own_logs) - told) / size
    total = float(of_free.sum() + correction.sum())
    if not total > 0:
        return plain
    # residuals of a fit are smaller than its errors
    honest = size / (size - terms.shape[1])
    found = WeightedPoints(
        np.concatenate([free, theta.thetas]),
        np.concatenate([of_free, correction]) / total,
        np.concatenate([of_free, honest * np.abs(correction)]) / total,
    )
    return found if found.ess > LEAST_GAIN * plain.ess else plain


def _region(theta: ThetaPosterior) -> Callable[[Floats], Flags]:
    """Which points are inside the ellipsoid that holds ``COVERED`` of the posterior."""
    mean = theta.weights @ theta.thetas
    root = np.linalg.cholesky((theta.thetas - mean).T @ (theta.weights[:, None] * (theta.thetas - mean)))

    def distance(points: Floats) -> Floats:
        return np.asarray(np.sum(np.linalg.solve(root, (points - mean).T) ** 2, axis=0))

    own = distance(theta.thetas)
    order = np.argsort(own)
    farthest = own[order][min(int(np.searchsorted(np.cumsum(theta.weights[order]), COVERED)), len(own) - 1)]
    return lambda points: distance(points) <= farthest


def _n_terms(d: int) -> int:
    return 1 + d + d * (d + 1) // 2 + 2 * d


def _terms(z: Floats) -> Floats:
    """(n, r) one, z, products of two, third and fourth powers."""
    i, j = np.triu_indices(z.shape[1])
    return np.hstack([np.ones((len(z), 1)), z, z[:, i] * z[:, j], z**3, z**4])
