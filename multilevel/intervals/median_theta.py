"""A posterior's model with its variance parameters held at their medians: what the likelihood engine would have there.

Score tests are of a model whose residuals balance exactly: given theta, about the mode of (beta, b), whose covariance is the curvature's.
Posterior means under a curved link do not balance (the mean of exp(eta) is not exp of the mean), and where a fit leaves next to nothing,
a covariance that is off by a thousandth is a false alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.fit.container import Fit
from multilevel.intervals.theta_coordinates import Coordinates
from multilevel.intervals.theta_models import LaplaceTheta, LinearTheta
from multilevel.linear.assemble import system_of
from multilevel.linear.mapped_joint import mapped_joint

MOST_DRAWS = 500
"""Of a posterior's draws, evenly spaced, that medians are taken of."""


def at_median_theta(fit: Fit) -> Fit:
    """``fit`` itself where it is no posterior; else (beta, b) given theta, with a flat prior on beta.

    Raises
    ------
    FitError
        If the likelihood has no finite mode there, so that only a prior keeps the posterior proper.
    """
    plain = fit.unit_free
    if not fit.is_posterior or plain is None:
        return fit
    if fit.design.cells.has_moments:
        scale = 1.0 if fit.sigma is None else fit.sigma
        linear = LinearTheta.of_system(fit, system_of(fit), scale)
        joint = linear.joint(_median(fit, linear.coordinates, scale))
    else:
        laplace = LaplaceTheta(fit, 1)
        scale = 1.0 if fit.dispersion is None else fit.dispersion**-0.5
        joint = laplace.joint(_median(fit, laplace.coordinates, scale))
    return replace(
        fit,
        joint=mapped_joint(joint, plain.form.maps),
        theta=None,
        covariance_draws=None,
        sigma_draws=None,
        dispersion_draws=None,
    )


def _median(fit: Fit, coordinates: Coordinates, scale: float) -> Floats:
    """(d,) medians of each of the coordinates, which are monotone in standard deviations."""
    draws = None if fit.unit_free is None else fit.unit_free.covariance_draws
    if draws is not None:
        kept = np.unique(np.linspace(0, len(draws[0]) - 1, MOST_DRAWS).astype(np.int64)) if draws else np.zeros(0, np.int64)
        covariances, weights = tuple(own[kept] for own in draws), np.full(len(kept), 1.0)
    else:
        assert fit.theta is not None
        covariances, weights = tuple(fit.theta.covariances), fit.theta.weights
    if not covariances:
        return coordinates.of([], scale)
    found = np.stack([coordinates.of(_roots([own[at] for own in covariances]), scale) for at in range(len(weights))])
    order = np.argsort(found, axis=0, kind="stable")
    below = np.cumsum(weights[order], axis=0) / weights.sum()
    places = np.argmax(below >= 0.5, axis=0)
    return np.asarray(np.take_along_axis(found, order, axis=0)[places, np.arange(found.shape[1])])


def _roots(covariances: Sequence[Floats]) -> list[Floats]:
    """Lower triangular roots, of covariances that may be singular within rounding."""
    found = []
    for covariance in covariances:
        sds = np.sqrt(np.maximum(np.diagonal(covariance), np.finfo(float).tiny))
        correlation = covariance / np.outer(sds, sds)
        found.append(sds[:, None] * np.linalg.cholesky((1.0 - 1e-12) * correlation + 1e-12 * np.eye(len(sds))))
    return found
