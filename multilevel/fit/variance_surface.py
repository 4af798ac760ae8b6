"""Conditional variances at all points of theta from those at a few of them.

Given theta, the variance of a row of coefficients is a sum of products of variance parameters, so its logarithm is nearly linear in theirs:
a first-order response surface (Box and Wilson 1951). It is fitted at points that stand for all (where their means are those of all points,
so is the mean of the logarithms), and read off at the others. How well it does so for a row is measured at the points themselves, each left
out in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.fit.theta_spread import turns

PER_COORDINATE = 3
"""Points of the surface for each of its coefficients."""

FEWEST_POINTS = 24

MANY_POINTS, PER_COORDINATE_OF_FEW, FEWEST_OF_FEW = 64, 2, 12
"""The same of fewer points than so many: those of models with so many levels that theta is narrow, and logarithms are close to linear."""

WORTH = 1.5
"""Points over those of the surface, from which a surface is worth fitting."""

MOST_MISS = 0.05
"""Root mean square of a log variance's errors at points left out, up to which the surface is relied on."""

CANDIDATES = 200

LARGEST_CORRELATION = 1.0 - 1e-9


@dataclass(frozen=True)
class VarianceSurface:
    """places (M,) of the points that are asked; others (K - M,) the rest; to_all (K, M) from log variances there to those at all K points;
    leverages (M,) of the least squares."""

    places: Integers
    others: Integers
    to_all: Floats
    leverages: Floats

    def everywhere(self, variances: Floats) -> Floats:
        """(m, K) from ``variances`` (m, M) at the points that were asked, where they stay as they are."""
        found = np.exp(_logs(variances) @ self.to_all.T)
        found[~variances.any(axis=1)] = 0.0
        found[:, self.places] = variances
        return np.asarray(found)

    def misses(self, variances: Floats) -> Floats:
        """(m,) root mean square of the errors of the log variance at points left out, one at a time."""
        logs = _logs(variances)
        left_out = (logs - logs @ self.to_all[self.places].T) / (1.0 - self.leverages)
        return np.asarray(np.sqrt(np.mean(left_out**2, axis=1)))


def variance_surface(covariances: Sequence[Floats], scales: Floats | None, weights: Floats) -> VarianceSurface | None:
    """The surface over K points of theta: per block their ``covariances`` (K, k, k), ``scales`` (K,) of residuals, ``weights`` (K,).

    None where the points are too few for a surface to be worth it.
    """
    standard = _standardised(covariances, scales, weights)
    design = np.column_stack([np.ones(len(weights)), standard])
    if len(weights) < MANY_POINTS:
        size = max(FEWEST_OF_FEW, PER_COORDINATE_OF_FEW * design.shape[1])
    else:
        size = max(FEWEST_POINTS, PER_COORDINATE * design.shape[1])
    if WORTH * size > len(weights):
        return None

    def spans(places: Integers) -> bool:
        return int(np.linalg.matrix_rank(design[places])) == design.shape[1]

    places = _nearest_sample(np.hstack([standard, standard**2]), weights, size, spans)
    chosen = design[places]
    to_all = design @ np.linalg.pinv(chosen)
    leverages = np.clip(np.diagonal(to_all[places]), 0.0, 1.0 - 1e-6)
    return VarianceSurface(places, np.setdiff1d(np.arange(len(weights)), places), to_all, leverages)


def coordinates_of(covariances: Sequence[Floats], scales: Floats | None) -> Floats:
    """(K, d) of K points of theta: log sds, inverse hyperbolic tangents of correlations, and the log of the residual scale."""
    columns = []
    for covariance in covariances:
        sds = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        columns += [*_logs(sds).T]
        for i, j in zip(*np.tril_indices(sds.shape[1], -1), strict=True):
            correlation = covariance[:, i, j] / np.maximum(sds[:, i] * sds[:, j], np.finfo(float).tiny)
            columns.append(np.arctanh(np.clip(correlation, -LARGEST_CORRELATION, LARGEST_CORRELATION)))
    if scales is not None:
        columns.append(_logs(scales))
    return np.stack(columns, axis=1)


def few_for_all(covariances: Sequence[Floats], scales: Floats | None, weights: Floats, size: int) -> Integers:
    """Places of about ``size`` points, to be weighed alike, whose means of theta are nearest to those of all points."""
    standard = _standardised(covariances, scales, weights)
    return _nearest_sample(standard, weights, size, lambda places: True)


def _standardised(covariances: Sequence[Floats], scales: Floats | None, weights: Floats) -> Floats:
    """(K, d) coordinates that vary, less their means, in their sds."""
    coordinates = coordinates_of(covariances, scales)
    away = coordinates - weights @ coordinates
    sd = np.sqrt(weights @ away**2)
    return np.asarray(away[:, sd > 0] / sd[sd > 0])


def _nearest_sample(values: Floats, weights: Floats, size: int, serves: Callable[[Integers], bool]) -> Integers:
    """Places of the systematic sample of about ``size`` of K points whose means of ``values`` (K, m) are nearest to those of all, among
    those that ``serves``."""
    target = weights @ values
    best, smallest = np.arange(len(weights)), np.inf
    for seed in range(CANDIDATES):
        order = np.random.default_rng(seed).permutation(len(weights))
        places = np.sort(order[np.unique(turns(size, weights[order]))])
        distance = float(np.sum((values[places].mean(axis=0) - target) ** 2))
        if distance < smallest and serves(places):
            best, smallest = places, distance
    return best


def _logs(values: Floats) -> Floats:
    return np.log(np.maximum(values, np.finfo(float).tiny))
