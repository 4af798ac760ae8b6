"""A few of the weighted points of theta, chosen and weighed so that they stand for all of them where thousands of levels are summarised.

Given theta every level is normal, so its posterior is a mixture over points, and few points do: how conditional means and variances vary
with theta is nearly linear in theta and its squares. The points are the best of many systematic samples; their weights are moved as little
as makes the means and mean squares of theta those of all points (calibration, Deville and Saerndal 1992). The Monte Carlo error has two
parts, that of all points for what is linear in those moments, and that of the few for the rest (two-phase sampling, Saerndal, Swensson and
Wretman 1992, section 9.7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, ndtr

from multilevel.arrays import Floats, Integers
from multilevel.fit.interval_estimates import Moments

LEVEL_POINTS = 48
"""Points for the levels, at least; ``PER_MOMENT`` for each moment that they are held to."""

PER_MOMENT = 3

CANDIDATES = 500
"""Systematic samples among which the best is taken."""

RIDGE = 1e-4
"""How much a moment may be missed for weights that differ less."""

SMALLEST_SHARE = 1e-6
"""Weight, of all, below which a point is left out."""

LEVELS_AT_ONCE = 20_000


@dataclass(frozen=True)
class LevelPoints:
    """places (K,) of the points among all S; weights (K,), summing to one; moments (S, r) of all points, ``all_weights`` (S,) theirs;
    ess: how many independent points those are worth."""

    places: Integers
    weights: Floats
    moments: Floats
    all_weights: Floats
    ess: float

    @property
    def are_all(self) -> bool:
        """Whether no point was left out."""
        return len(self.places) == len(self.all_weights)

    def errors(self, values: Floats) -> Floats:
        """(m,) Monte Carlo standard errors of the means of ``values`` (K, m) over the points."""
        own = self.moments[self.places]
        design = np.hstack([np.ones((len(own), 1)), own])
        scaled = np.sqrt(self.weights)[:, None]
        slopes = np.linalg.lstsq(scaled * design, scaled * values, rcond=None)[0]
        left = values - design @ slopes
        spare = len(own) - design.shape[1]
        of_few = self.weights**2 @ left**2 * (0.0 if self.are_all else len(own) / spare)
        about = self.moments - self.all_weights @ self.moments
        covariance = about.T @ (self.all_weights[:, None] * about)
        of_all = np.einsum("rm,rs,sm->m", slopes[1:], covariance, slopes[1:], optimize=True)
        if self.are_all:
            of_all = of_all + self.weights @ left**2
        return np.sqrt(of_few + of_all / self.ess)


def choose_points(thetas: Floats, weights: Floats, ess: float, most: int, rng: np.random.Generator) -> LevelPoints:
    """All S points where there are at most ``most``, else as many as the moments of ``thetas`` (S, d) need."""
    moments = _moments(thetas, weights)
    size = number_of_points(thetas.shape[1])
    if len(thetas) <= most:
        return LevelPoints(np.arange(len(thetas)), weights, moments, weights, ess)
    size = max(size, most)
    places, counts = _best_sample(moments, weights, size, rng)
    own = calibrated(moments[places], counts / size, weights @ moments)
    kept = own > SMALLEST_SHARE
    return LevelPoints(places[kept], own[kept] / own[kept].sum(), moments, weights, ess)


def number_of_points(d: int) -> int:
    """How many points stand for all in d dimensions."""
    return max(LEVEL_POINTS, PER_MOMENT * 2 * d)


def calibrated(moments: Floats, weights: Floats, target: Floats) -> Floats:
    """(K,) the weights nearest to ``weights`` in relative entropy with which ``moments`` (K, r) have the means ``target`` (r,)."""
    away = moments - target
    logs = np.log(weights)

    def dual(tilt: Floats) -> tuple[float, Floats]:
        exponents = logs + away @ tilt
        total = logsumexp(exponents)
        return float(total + 0.5 * RIDGE * tilt @ tilt), np.exp(exponents - total) @ away + RIDGE * tilt

    tilt = minimize(dual, np.zeros(away.shape[1]), jac=True, method="BFGS").x
    exponents = logs + away @ tilt
    return np.asarray(np.exp(exponents - logsumexp(exponents)))


def bound_errors(points: LevelPoints, means: Floats, sds: Floats, interval: float) -> tuple[Floats, Floats, Floats]:
    """(m,) sd of m mixtures, and over it the Monte Carlo errors of their means and of their bounds; ``means`` and ``sds`` are (K, m).

    A bound moves by the error of the probability below it over the density there.
    """
    pieces = []
    for at in range(0, means.shape[1], LEVELS_AT_ONCE):
        mean, sd = means[:, at : at + LEVELS_AT_ONCE], sds[:, at : at + LEVELS_AT_ONCE]
        mixture = Moments(mean.T, sd.T**2, points.weights)
        total = np.sqrt(mixture.total)
        worst = np.zeros(mean.shape[1])
        safe = np.maximum(sd, np.finfo(float).tiny)
        for bound in mixture.bounds(interval):
            z = (bound - mean) / safe
            density = points.weights @ (np.exp(-0.5 * z**2) / (np.sqrt(2.0 * np.pi) * safe))
            worst = np.maximum(worst, points.errors(ndtr(z)) / density)
        pieces.append((total, points.errors(mean) / total, worst / total))
    found = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    return found[0], found[1], found[2]


def _moments(thetas: Floats, weights: Floats) -> Floats:
    """(S, 2 d) theta and its squares, standardised."""
    mean = weights @ thetas
    sd = np.sqrt(weights @ (thetas - mean) ** 2)
    scaled = (thetas - mean) / np.where(sd > 0, sd, 1.0)
    squares = scaled**2
    middle = weights @ squares
    spread = np.sqrt(weights @ (squares - middle) ** 2)
    return np.hstack([scaled, (squares - middle) / np.where(spread > 0, spread, 1.0)])


def _best_sample(moments: Floats, weights: Floats, size: int, rng: np.random.Generator) -> tuple[Integers, Floats]:
    """Places, and how often each was drawn, of the systematic sample whose moments are nearest to those of all points."""
    target = weights @ moments
    best, smallest = np.zeros(0, np.int64), np.inf
    for _ in range(CANDIDATES):
        order = rng.permutation(len(weights))
        ends = np.cumsum(weights[order])
        drawn = order[np.minimum(np.searchsorted(ends, (rng.uniform() + np.arange(size)) / size * ends[-1]), len(order) - 1)]
        distance = float(np.sum((moments[drawn].mean(axis=0) - target) ** 2))
        if distance < smallest:
            best, smallest = drawn, distance
    places, counts = np.unique(best, return_counts=True)
    return places, counts.astype(np.float64)
