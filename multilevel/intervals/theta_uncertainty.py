"""What is unknown of the variance parameters, given to a fit of the likelihood engine: ``Fit.theta``.

Where every standard deviation is at least ``TRUSTED`` of its standard errors from zero and every factor has at least ``MANY_LEVELS``
levels, the conditional means are expanded about the estimate (Kass and Steffey 1989; Booth and Hobert 1998); their first-order variance
counts twice, the second time for the conditional variance at the estimate, which is too small by as much (Prasad and Rao 1990, eq. 2.5).
Elsewhere theta is integrated over points drawn from its distribution. Models with more than ``MOST_EFFECTS`` effects are expanded always.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from multilevel.arrays import Floats, Integers
from multilevel.errors import FitError
from multilevel.fit.container import Check, Fit, fact
from multilevel.fit.theta_spread import ThetaExpansion, ThetaMixture, ThetaSpread
from multilevel.intervals.theta_coordinates import Coordinates
from multilevel.intervals.theta_models import Estimated, LaplaceTheta, LinearTheta
from multilevel.intervals.theta_sampling import evenly, sample
from multilevel.linear.joint_normal import NormalJoint

TRUSTED = 3.0

MANY_LEVELS = 10

POINTS = 64
"""Points at which a new effect's variance is taken where theta is expanded."""

DENSE_EFFECTS = 250
"""Coefficients and effects up to which every point keeps its own covariance."""

MOST_INTEGRATED = 1_000
"""Coefficients and effects up to which points are weighed by the density; above, hundreds of evaluations would take longer than the fit."""

POINTS_APART = 32
"""Points of larger models."""

MOST_EFFECTS = 5_000
"""Coefficients and effects from which theta is not integrated: a point would cost what a step of the fit costs."""

NEGLIGIBLE = 1e-3
"""Share of the distribution that points of the least weight may hold together: they are left out."""

LARGEST_STEP = 0.5
"""Standard error of a logarithm above which an expansion would leave the range where it holds."""

SCAN = np.arange(-3.0, 3.01, 0.75)
"""Logarithms about the smallest sd that can be told from zero, or the estimate, at which a first look at the density is taken."""


def with_theta(fit: Fit, *, quadrature_points: int = 1, seed: int = 0) -> Fit:
    """The same fit of the likelihood engine with ``theta``; a fit without variance parameters is returned as it is."""
    plain = fit.unit_free
    if plain is None or not isinstance(plain.joint, NormalJoint) or plain.parameters is None or not fit.design.blocks:
        return fit
    model = LinearTheta.of(fit, plain.joint) if fit.design.cells.has_moments else LaplaceTheta(fit, quadrature_points)
    found = model.estimated(plain)
    width = len(plain.joint.mean)
    try:
        if width > MOST_EFFECTS or _is_trusted(fit, model.coordinates, found):
            spread: ThetaSpread = _expanded(model, found, plain.joint, seed)
        else:
            spread = _integrated(model, found, width, seed)
    except (FitError, np.linalg.LinAlgError) as error:
        message = f"intervals hold the variance parameters at their estimates: {str(error).rstrip('.')}"
        return replace(fit, checks=(*fit.checks, Check("theta_uncertainty", None, None, False, message)))
    maps = plain.form.maps
    return replace(fit, theta=spread if maps.is_identity else spread.mapped(maps.matrix), checks=(*fit.checks, _said(spread, found)))


def _said(spread: ThetaSpread, found: Estimated) -> Check:
    if spread.method == "integration":
        return fact("theta_uncertainty", float(spread.n_points), "points of the variances that intervals are integrated over")
    held = int(np.sum(~np.isfinite(found.errors)))
    message = "intervals are expanded to second order in the variance parameters"
    return fact("theta_uncertainty", float(held), f"{message}; {held} at their boundary are held" if held else message)


def _is_trusted(fit: Fit, coordinates: Coordinates, found: Estimated) -> bool:
    places = [place for place, _, _ in coordinates.sd_places()]
    return (
        not fit.singular
        and min(coordinates.levels) >= MANY_LEVELS
        and bool(np.all(found.errors[places] <= 1.0 / TRUSTED))
        and bool(np.all(np.isfinite(found.errors)))
    )


def _expanded(model: LinearTheta | LaplaceTheta, found: Estimated, joint: NormalJoint, seed: int) -> ThetaExpansion:
    free = np.flatnonzero(np.isfinite(found.errors))
    errors = found.errors[free]
    shrunk = np.minimum(1.0, LARGEST_STEP / errors)
    covariance = found.covariance[np.ix_(free, free)] * np.outer(shrunk, shrunk)
    values, vectors = np.linalg.eigh(covariance)
    # the symmetric root: eigenvectors have no sign of their own, and rounding would choose another set of points
    steps = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    directions = [np.zeros((len(joint.mean), 0))]
    for step in steps.T:
        away = np.zeros(len(found.x))
        away[free] = step
        directions.append(((model.joint(found.x + away).mean - model.joint(found.x - away).mean) / 2.0)[:, None])
    centre = model.joint(found.x) if not np.all(np.isfinite(found.x)) or not isinstance(model, LinearTheta) else joint
    points = found.x + _normal_points(steps, free, len(found.x), seed)
    covariances = _covariances(model.coordinates, points)
    return ThetaExpansion(centre, joint.mean, math.sqrt(2.0) * np.hstack(directions), covariances, np.full(len(points), 1.0 / len(points)))


def _normal_points(steps: Floats, free: Integers, d: int, seed: int) -> Floats:
    """(T, d) normal deviations, in pairs that cancel."""
    noise = np.random.default_rng(POINTS).standard_normal((POINTS // 2, steps.shape[1]))
    away = np.zeros((POINTS, d))
    away[:, free] = np.vstack([noise, -noise]) @ steps.T
    return away[_order(POINTS, seed)]


def _order(n_points: int, seed: int) -> Integers:
    """(n,) an order of the points. They are the same whatever the seed; two parts, whose seeds differ, meet theirs in pairs as if drawn."""
    return np.random.default_rng(seed).permutation(n_points)


def _covariances(coordinates: Coordinates, points: Floats) -> tuple[Floats, ...]:
    roots = [coordinates.roots(x) for x in points]
    return tuple(np.stack([own[block] @ own[block].T for own in roots]) for block in range(len(coordinates.sizes)))


def _integrated(model: LinearTheta | LaplaceTheta, found: Estimated, width: int, seed: int) -> ThetaSpread:
    coordinates = model.coordinates

    def density(x: Floats) -> float:
        return model.log_density(x) + coordinates.log_prior(x)

    look = _first_look(model, found, density)
    if width <= MOST_INTEGRATED:
        points, weights = sample(density, look.centre, look.scale, 0)
    else:
        points = _apart(look, found)
        weights = np.full(len(points), 1.0 / len(points))
    ascending = np.argsort(weights)
    kept = np.sort(ascending[np.cumsum(weights[ascending]) > NEGLIGIBLE])
    kept = kept[_order(len(kept), seed)]
    points, weights = points[kept], weights[kept] / weights[kept].sum()
    covariances = _covariances(coordinates, points)
    if width <= DENSE_EFFECTS:
        joints = [model.joint(x) for x in points]
        roots = np.stack([joint.covariance_root().T for joint in joints], axis=1)
        return ThetaMixture(np.stack([joint.mean for joint in joints]), roots, covariances, weights)
    means = np.stack([model.joint(x).mean for x in points])
    middle = model.joint(_middle(coordinates, points, covariances, weights))
    centre = weights @ means
    return ThetaExpansion(middle, centre, (means - centre).T * np.sqrt(weights), covariances, weights, "integration")


def _middle(coordinates: Coordinates, points: Floats, covariances: tuple[Floats, ...], weights: Floats) -> Floats:
    """(d,) the point whose covariances are the means of those of all points."""
    means = [np.einsum("t,tij->ij", weights, own) for own in covariances]
    roots = [np.linalg.cholesky(own + 1e-12 * np.trace(own) * np.eye(len(own))) for own in means]
    scale = float(np.sqrt(weights @ np.exp(2.0 * points[:, -1]))) if coordinates.has_scale else 1.0
    return coordinates.of(roots, scale)


@dataclass(frozen=True)
class _FirstLook:
    """centre, scale : (d,) of the coordinates. scans : of those that the curvature says little of, the points (S,) at which the density
    was taken, the others held, and its share (S,) at each."""

    centre: Floats
    scale: Floats
    scans: dict[int, tuple[Floats, Floats]]


def _apart(look: _FirstLook, found: Estimated) -> Floats:
    """(K, d) points of equal weight: coordinates that were scanned each from its own density, the others from their normal distribution."""
    d = len(look.centre)
    uniform = np.clip(evenly(POINTS_APART, d, [0]), 1e-4, 1.0 - 1e-4)
    points = np.tile(look.centre, (POINTS_APART, 1))
    for place, (at, share) in look.scans.items():
        reached = np.concatenate([[0.0], np.cumsum((share[1:] + share[:-1]) / 2.0)])
        points[:, place] = np.interp(uniform[:, place], reached / reached[-1], at)
    others = np.setdiff1d(np.arange(d), list(look.scans))
    known = np.isfinite(found.errors[others])
    covariance = np.diag(look.scale[others] ** 2)
    covariance[np.ix_(known, known)] = found.covariance[np.ix_(others[known], others[known])]
    shrunk = np.minimum(1.0, look.scale[others] / np.sqrt(np.diagonal(covariance)))
    values, vectors = np.linalg.eigh(covariance * np.outer(shrunk, shrunk))
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    points[:, others] += ndtri(uniform[:, others]) @ root
    return points


def _first_look(model: LinearTheta | LaplaceTheta, found: Estimated, density: Callable[[Floats], float]) -> _FirstLook:
    """Those coordinates that the curvature says little of are scanned one by one."""
    coordinates = model.coordinates
    errors = found.errors
    centre, scale = found.x.copy(), np.where(np.isfinite(errors), np.minimum(errors, 2.0), 0.5)
    places = coordinates.sd_places()
    smallest = model.level_errors()
    floor = {place: math.log(smallest[block][column]) - 1.0 for place, block, column in places}
    if coordinates.has_scale and not coordinates.is_flat_log:
        floor[coordinates.n - 1] = math.log(0.3)
    weak = [place for place in floor if not errors[place] < 1.0 / TRUSTED]
    for place in weak:
        centre[place] = max(centre[place], floor[place])
    scans: dict[int, tuple[Floats, Floats]] = {}
    for place in weak:
        values = []
        for step in SCAN:
            at = centre.copy()
            at[place] += step
            values.append(density(at))
        weight = np.exp(np.array(values) - np.max(values)) if np.isfinite(np.max(values)) else np.ones(len(SCAN))
        weight /= weight.sum()
        scans[place] = centre[place] + SCAN, weight
        middle = float(weight @ SCAN)
        centre[place] += middle
        scale[place] = max(math.sqrt(float(weight @ (SCAN - middle) ** 2)), 0.3)
    others = set(range(coordinates.n - coordinates.has_scale)) - {place for place, _, _ in places}
    for other in others:  # correlations
        centre[other] = float(np.clip(centre[other], -1.0, 1.0))
        scale[other] = float(np.clip(scale[other], 0.3, 1.0))
    return _FirstLook(centre, scale, scans)
