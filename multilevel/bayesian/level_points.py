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
from multilevel.bayesian.importance_points import ThetaPosterior
from multilevel.bayesian.refined_points import WeightedPoints
from multilevel.fit.interval_estimates import EXACT_VALUES, Moments
from multilevel.threads import piece_by_piece

LEVEL_POINTS = 96
"""Points for the levels, at least; ``PER_MOMENT`` for each moment that they are held to."""

MORE_POINTS, MORE_VALUES = 128, 32_000_000
"""Of a gaussian model, whose points cost one factorisation each: up to so many points, and up to so many numbers, points times
coefficients."""

FEW_POINTS, FEW_FROM = 32, 250_000
"""Points with which a gaussian model of more coefficients and effects begins: with so many levels the variance parameters are known so well
that they often do. ``number_of_points`` where the Monte Carlo errors say otherwise."""

FEW_REWEIGHTED_FROM = 50_000
"""The same of other families, whose points take a search for the nearest normal distribution each."""

PER_MOMENT = 3

CANDIDATES = 500
"""Systematic samples among which the best is taken."""

RIDGE = 1e-4
"""How much a moment may be missed for weights that differ less."""

SMALLEST_SHARE = 1e-4
"""Weight over the mean weight, below which a point is left out."""

LEVELS_AT_ONCE = 10_000


@dataclass(frozen=True)
class LevelPoints:
    """places (K,) of the points among all that were factorised; weights (K,), summing to one; moments (K, r) there, with the ``covariance``
    (r, r) that they have over the posterior; ess: how many independent points of it would know the moments as well."""

    places: Integers
    weights: Floats
    moments: Floats
    covariance: Floats
    ess: float

    def errors(self, values: Floats) -> Floats:
        """(m,) Monte Carlo standard errors of the means of ``values`` (K, m) over the points."""
        own = self.moments
        design = np.hstack([np.ones((len(own), 1)), own])
        scaled = np.sqrt(self.weights)[:, None]
        slopes = np.linalg.lstsq(scaled * design, scaled * values, rcond=None)[0]
        left = values - design @ slopes
        spare = max(len(own) - design.shape[1], 1)
        of_few = self.weights**2 @ left**2 * len(own) / spare
        of_all = np.einsum("rm,rs,sm->m", slopes[1:], self.covariance, slopes[1:], optimize=True)
        return np.sqrt(of_few + of_all / self.ess)


def choose_points(theta: ThetaPosterior, population: WeightedPoints, most: int, rng: np.random.Generator) -> LevelPoints:
    """All S points of ``theta`` where there are at most ``most``, else so many; ``population`` knows better what they stand for."""
    mean = population.weights @ population.thetas
    sd = np.sqrt(np.maximum(population.weights @ (population.thetas - mean) ** 2, 0.0))
    unit = np.where(sd > 0, sd, 1.0)
    of_population, moments = (_moments((thetas - mean) / unit) for thetas in (population.thetas, theta.thetas))
    target = population.weights @ of_population
    about = of_population - target
    covariance = about.T @ (population.weights[:, None] * about)
    places, weights = np.flatnonzero(theta.weights > 0), theta.weights[theta.weights > 0]
    if len(places) > most:
        places, weights = _best_sample(moments, theta.weights, target, most, rng)
    own = calibrated(moments[places], weights, target)
    kept = own > SMALLEST_SHARE / len(own)
    return LevelPoints(places[kept], own[kept] / own[kept].sum(), moments[places[kept]], covariance, population.ess)


def number_of_points(d: int) -> int:
    """How many points stand for all in d dimensions."""
    return max(LEVEL_POINTS, PER_MOMENT * 2 * d)


def few_points(d: int) -> int:
    """The points in d dimensions with which a model of very many levels begins."""
    return max(FEW_POINTS, PER_MOMENT * 2 * d)


def points_to_begin_with(d: int, coefficients: int) -> int:
    """How many points of a gaussian model in d dimensions, with so many coefficients and effects, are tried first."""
    if coefficients > FEW_FROM:
        return few_points(d)
    return max(number_of_points(d), more_points(coefficients))


def points_to_begin_reweighted(d: int, coefficients: int) -> int:
    """The same of another family than the gaussian."""
    return few_points(d) if coefficients > FEW_REWEIGHTED_FROM else number_of_points(d)


def more_points(coefficients: int) -> int:
    """How many points of a gaussian model with so many coefficients and effects are worth having, beyond ``number_of_points``."""
    return min(MORE_POINTS, MORE_VALUES // max(coefficients, 1))


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
    most = EXACT_VALUES if means.size <= EXACT_VALUES else 0

    def of_some(at: int) -> tuple[Floats, Floats, Floats]:
        mean, sd = means[:, at : at + LEVELS_AT_ONCE], sds[:, at : at + LEVELS_AT_ONCE]
        mixture = Moments(mean.T, sd.T**2, points.weights)
        total = np.sqrt(mixture.total)
        worst = np.zeros(mean.shape[1])
        safe = np.maximum(sd, np.finfo(float).tiny)
        for bound in mixture.bounds(interval, most):
            z = (bound - mean) / safe
            density = points.weights @ (np.exp(-0.5 * z**2) / (np.sqrt(2.0 * np.pi) * safe))
            worst = np.maximum(worst, points.errors(ndtr(z)) / density)
        return total, points.errors(mean) / total, worst / total

    pieces = list(piece_by_piece(of_some, range(0, means.shape[1], LEVELS_AT_ONCE)))
    found = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    return found[0], found[1], found[2]


def _moments(z: Floats) -> Floats:
    """(S, 2 d) standardised parameters (S, d) and their squares."""
    return np.hstack([z, z**2])


def _best_sample(moments: Floats, weights: Floats, target: Floats, size: int, rng: np.random.Generator) -> tuple[Integers, Floats]:
    """Places (K,) and weights (K,) of the systematic sample whose moments are nearest to ``target``."""
    best, smallest = np.zeros(0, np.int64), np.inf
    for _ in range(CANDIDATES):
        order = rng.permutation(len(weights))
        ends = np.cumsum(weights[order])
        drawn = order[np.minimum(np.searchsorted(ends, (rng.uniform() + np.arange(size)) / size * ends[-1]), len(order) - 1)]
        distance = float(np.sum((moments[drawn].mean(axis=0) - target) ** 2))
        if distance < smallest:
            best, smallest = drawn, distance
    places, counts = np.unique(best, return_counts=True)
    return places, counts / size
