"""A posterior that is kept as points of theta, drawn from: for the few questions that are asked of joint draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack

from multilevel.arrays import Floats, Integers
from multilevel.errors import FitError
from multilevel.fit.container import Fit
from multilevel.fit.joint_draws import DrawsJoint
from multilevel.fit.theta_points import ThetaPoints
from multilevel.fit.theta_spread import ThetaMixture

JOINT_DRAWS = 1_000
"""Drawn where a question needs them."""

FEWEST_DRAWS = 100

MOST_BYTES = 1_000_000_000
"""Of joint draws that are held at once: of many coefficients there are fewer than ``JOINT_DRAWS``."""


def drawn_fit(fit: Fit, size: int | None = None, seed: int = 0) -> Fit:
    """The same posterior as ``size`` independent joint draws, variances in step; a fit with draws as it is.

    Without ``size`` there are ``JOINT_DRAWS``, or as many as ``MOST_BYTES`` hold.

    Raises
    ------
    FitError
        The fit is no posterior, or fewer than ``FEWEST_DRAWS`` of its draws can be held.
    """
    if fit.has_draws:
        return fit
    points = _points(fit)
    n_coefficients = len(fit.design.population) + fit.design.n_effects
    most = MOST_BYTES // (8 * n_coefficients)
    asked = min(JOINT_DRAWS, most) if size is None else size
    if asked > most or asked < min(FEWEST_DRAWS, asked if size else FEWEST_DRAWS):
        raise FitError(
            f"Joint draws of {n_coefficients:,} coefficients are too many to hold. This posterior is kept as points of the variance "
            "parameters: use the published tables, contrasts and predictions, which need no draws, or write draws: null."
        )
    return _drawn(fit, points, DrawsJoint(points.draws(asked, seed)), points.points_of_draws(asked, seed))


def parameter_draws(fit: Fit, size: int, seed: int = 0) -> Fit:
    """As ``drawn_fit``, of the population coefficients and variances alone: nothing of the size of the effects is made."""
    points, p = _points(fit), len(fit.design.population)
    assert fit.unit_free is not None
    plain = points.unmapped()
    picks = csr_array(hstack([eye_array(p), csr_array((p, fit.design.n_effects))], format="csr"))
    which = points.points_of_draws(size, seed)
    noise = np.random.default_rng([seed, 1]).standard_normal((size, p))
    located, roots = plain.means[:, :p], _roots(plain, picks)
    values = located[which] + np.einsum("sij,sj->si", roots[which], noise)
    return _drawn(fit, points, DrawsJoint(values @ fit.unit_free.form.maps.population.T), which)


def _points(fit: Fit) -> ThetaPoints | ThetaMixture:
    if not fit.is_posterior or not isinstance(fit.theta, ThetaPoints | ThetaMixture):
        raise FitError("This fit has no posterior to draw from.")
    return fit.theta


def _roots(points: ThetaPoints | ThetaMixture, picks: csr_array) -> Floats:
    """(K, p, p) roots of the covariance of ``picks`` (p, p + q) of the coefficients at every point."""
    p = picks.shape[0]
    pairs = [(i, j) for i in range(p) for j in range(i)]
    dense = np.eye(p)
    # Cov(i, j) = (Var(i + j) - Var(i) - Var(j)) / 2
    sums = csr_array(np.vstack([dense, *(dense[[i]] + dense[[j]] for i, j in pairs)]))
    variances = points.variances(csr_array(sums @ picks))
    covariance = np.zeros((len(points.weights), p, p))
    covariance[:, np.arange(p), np.arange(p)] = variances[:p].T
    for own, (i, j) in zip(variances[p:], pairs, strict=True):
        covariance[:, i, j] = covariance[:, j, i] = (own - variances[i] - variances[j]) / 2.0
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])


def _drawn(fit: Fit, points: ThetaPoints | ThetaMixture, joint: DrawsJoint, which: Integers) -> Fit:
    assert fit.unit_free is not None
    inner = tuple(own[which] for own in points.covariances)
    point = fit.sigma if fit.dispersion is None else fit.dispersion
    scale = None if point is None else np.full(len(which), point) if points.scales is None else points.scales[which]
    return replace(
        fit,
        joint=joint,
        theta=None,
        covariance_draws=fit.unit_free.form.maps.covariances(inner),
        sigma_draws=None if fit.sigma is None else scale,
        dispersion_draws=None if fit.dispersion is None else scale,
        unit_free=replace(fit.unit_free, covariance_draws=inner),
    )
