"""What single levels' integrals add to the log posterior of theta, as a quadratic fitted to it around the mode.

The sum over levels of log integrals less Laplace's approximations is smooth in theta, while each value takes as long as several
factorisations. It vanishes with the fourth power of a standard deviation, and is nearly linear in the logarithm of a large one: the
quadratic is in log(1 + (sd / sd at the mode)^2), tanh of partial correlations and the log dispersion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from multilevel.arrays import Floats
from multilevel.bayesian.collapsed import FARTHEST
from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed
from multilevel.bayesian.level_integrals import (
    LevelFactor,
    LevelNormals,
    exact_moments,
    integral_ratios,
    largest,
    level_normals,
    weight_scales,
)
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.split_t import SplitT
from multilevel.bayesian.variational_normal import LevelsNotNormalError, variational_normal
from multilevel.errors import FitError
from multilevel.fit.theta_points import in_order
from multilevel.generalised.pirls import Mode
from multilevel.generalised.reweighting import Coordinates

PER_TERM = 1.3
"""Points for every coefficient of the quadratic, fewer than which it has no products of two features."""

FIRST = 16
"""Points of the first quadratic, at least."""

WORTH = 0.02
"""Size of what a factor's levels add to the log density at the mode, below which it is left out: it hardly changes with theta."""

WIDTH = 1.3
"""Standard deviation of the points in those of the posterior."""

RIDGE = 1e-6


@dataclass(frozen=True)
class LevelCorrection:
    """The quadratic in features of theta about ``centre`` (d,); ``coefficients`` (r,) of one, features and products of two.

    Outside ``lowest`` to ``highest`` (d,), the range of the features that it was fitted to, it goes on along its tangent at the nearest
    place inside: it has no bends there that no value has shown, and what it corrects does not come back. ``error`` : root mean square of
    what it misses, each value left out of its fit.
    """

    layout: Layout
    centre: Floats
    lowest: Floats
    highest: Floats
    coefficients: Floats
    error: float

    def __call__(self, thetas: Floats) -> Floats:
        """(S,) at (S, d) thetas."""
        z = _between(features(self.layout, self.centre, thetas), self.lowest, self.highest)
        inside = np.clip(z, -1.0, 1.0)
        slopes = _slopes(inside, self.coefficients)
        return np.asarray(_terms(inside, len(self.coefficients)) @ self.coefficients + np.sum(slopes * (z - inside), axis=1))

    def slope(self, theta: Floats, step: float = 1e-5) -> Floats:
        """(d,) derivative at theta (d,)."""
        moves = step * np.eye(len(theta))
        return np.asarray((self(theta + moves) - self(theta - moves)) / (2.0 * step))


def features(layout: Layout, centre: Floats, thetas: Floats) -> Floats:
    """(S, d)."""
    found = thetas - centre
    for block, (start, k) in enumerate(zip(layout.starts, layout.widths, strict=True)):
        found[:, start : start + k] = np.logaddexp(0.0, 2.0 * found[:, start : start + k])
        found[:, start + k : start + k * (k + 1) // 2] = np.tanh(layout.partials(thetas, block))
    return found


def _between(values: Floats, lowest: Floats, highest: Floats) -> Floats:
    """As shares of the range, from -1 to 1."""
    return np.asarray((2.0 * values - lowest - highest) / np.maximum(highest - lowest, 1e-12))


def _terms(z: Floats, most: int) -> Floats:
    """(S, r) one, z, squares and, where they are no more than ``most``, products of two."""
    d = z.shape[1]
    i, j = np.triu_indices(d, 1)
    found = np.hstack([np.ones((len(z), 1)), z, z**2])
    return found if found.shape[1] + len(i) > most else np.hstack([found, z[:, i] * z[:, j]])


def _slopes(z: Floats, coefficients: Floats) -> Floats:
    """(S, d) derivatives at z (S, d) of ``_terms`` times ``coefficients`` (r,)."""
    d = z.shape[1]
    linear, square, products = coefficients[1 : 1 + d], coefficients[1 + d : 1 + 2 * d], coefficients[1 + 2 * d :]
    mixed = np.zeros((d, d))
    if len(products):
        mixed[np.triu_indices(d, 1)] = products
    return np.asarray(linear + z @ (2.0 * np.diag(square) + mixed + mixed.T))


def quadratic(layout: Layout, centre: Floats, thetas: Floats, values: Floats, weights: Floats) -> LevelCorrection:
    """Fitted to ``values`` (S,) at ``thetas`` (S, d) with ``weights`` (S,), those that are not finite left out. Raises LevelsNotNormalError
    where too few are left."""
    known = np.isfinite(values)
    if known.sum() <= 1 + 2 * layout.size:
        raise LevelsNotNormalError("Levels have too few line items: at most points no normal distribution is near them.")
    thetas, values, weights = thetas[known], values[known], weights[known]
    own = features(layout, centre, thetas)
    lowest, highest = own.min(axis=0), own.max(axis=0)
    most = int(len(values) / PER_TERM)
    terms, root = _terms(_between(own, lowest, highest), most), np.sqrt(weights / weights.max())[:, None]
    weighted = root * terms
    inverse = np.linalg.inv(weighted.T @ weighted + RIDGE * np.eye(terms.shape[1]))
    coefficients = inverse @ (weighted.T @ (root[:, 0] * values))
    leverage = np.sum((weighted @ inverse) * weighted, axis=1)
    left = (values - terms @ coefficients) / np.maximum(1.0 - leverage, 0.05)
    error = float(np.sqrt(np.average(left**2, weights=weights)))
    return LevelCorrection(layout, centre, lowest, highest, coefficients, error)


def correction_at(density: LaplaceCollapsed, factors: tuple[LevelFactor, ...], theta: Floats, mode: Mode) -> float:
    """What is missing from Laplace's approximation at theta (d,), whose ``mode`` is given, up to a constant."""
    leaves = largest(factors)
    missing = leaves_integrated(density, leaves, theta, mode) - density.likelihood_at(mode)
    return missing + sum(_missing_of(density, factor, theta, mode) for factor in factors if factor is not leaves)


def leaves_integrated(density: LaplaceCollapsed, leaves: LevelFactor, theta: Floats, mode: Mode) -> float:
    """log p(y | theta) with the effects of the factor ``leaves`` integrated level by level, and Laplace's approximation for all others.

    Given the others the leaves' integrals are exact. The others' curvature is that of the integrated likelihood (see ``weight_scales``); it
    is taken at the means of the nearest normal distribution, since at the joint mode the leaves are not where their mass is.
    """
    rows, log_dispersion = density.coordinates, density.log_dispersion(theta)
    found = variational_normal(density, theta, mode)
    normals = normals_about(density, leaves, theta, found.effects, found.weights, found.eta)
    moments = exact_moments(normals, density.likelihood, log_dispersion)
    weights = found.weights * weight_scales(normals, moments)[leaves.codes]
    matched = normals_about(density, leaves, theta, found.effects, weights, found.eta)
    factor = rows.system(weights).factorise(density.lambdas(theta), density.prior.precision, density.prior.location)
    log_det = factor.log_det_effects + factor.log_det_population - matched.log_det_precision
    value = float(np.sum(moments.log_integrals)) + density.likelihood.constant(log_dispersion)
    spherical = rows.by_block(density.spherical(theta, found.effects))
    others = sum(float(np.sum(own**2)) for at, own in enumerate(spherical) if at not in leaves.blocks)
    return value - 0.5 * (others + density.prior.penalty(found.effects.basis) + log_det - density.log_det_prior)


def normals_about(
    density: LaplaceCollapsed, factor: LevelFactor, theta: Floats, effects: Coordinates, weights: Floats, eta: Floats
) -> LevelNormals:
    """The distributions of single levels of ``factor`` given everything else at ``effects``, from the rows' ``weights`` (R,)."""
    return level_normals(factor, density.lambdas(theta), density.coordinates.by_block(density.spherical(theta, effects)), weights, eta)


def worth_correcting(density: LaplaceCollapsed, factors: tuple[LevelFactor, ...], theta: Floats) -> tuple[LevelFactor, ...]:
    """The largest factor, and of the others those whose integrals are not Laplace's approximation already, at theta (d,)."""
    mode, leaves = density.mode(theta), largest(factors)
    return tuple(factor for factor in factors if factor is leaves or abs(_missing_of(density, factor, theta, mode)) > WORTH)


def _missing_of(density: LaplaceCollapsed, factor: LevelFactor, theta: Floats, mode: Mode) -> float:
    """Sum over a factor's levels of log integrals over Laplace's approximation, everything else at the ``mode``."""
    spherical = density.coordinates.by_block(mode.spherical)
    normals = level_normals(factor, density.lambdas(theta), spherical, mode.curvature.weight, mode.eta)
    return float(np.sum(integral_ratios(normals, density.likelihood, density.log_dispersion(theta))))


def corrections(density: LaplaceCollapsed, factors: tuple[LevelFactor, ...], thetas: Floats, threads: int) -> Floats:
    """(S,) the same at (S, d) thetas, NaN where no mode is found."""

    def at_point(at: int) -> float:
        if np.any(np.abs(thetas[at]) > FARTHEST):
            return math.nan
        try:
            return correction_at(density, factors, thetas[at], density.mode(thetas[at]))
        except (FitError, np.linalg.LinAlgError, OverflowError):
            return math.nan

    return np.array(list(in_order(at_point, len(thetas), threads)))


def first_points(proposal: SplitT) -> tuple[Floats, Floats]:
    """(S, d) points around the centre of ``proposal`` to fit the quadratic to, and (S,) weights."""
    d = len(proposal.location)
    size = max(FIRST, math.ceil(PER_TERM * (1 + 2 * d)))
    z = WIDTH * ndtri(qmc.Halton(d, rng=np.random.default_rng(0)).random(size))
    z[0] = 0.0
    steps = z * np.where(z > 0, proposal.above, proposal.below)
    return proposal.location + steps @ proposal.axes.T, np.exp(-0.25 * np.sum(z**2, axis=1) / d)
