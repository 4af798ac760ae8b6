"""A posterior of very many coefficients, kept as points of theta, as one normal distribution in arrow form.

The conditional distribution at the central point of theta gives the regressions. What the conditional means vary by from point to point
is added as a few directions, and every coefficient is stretched so that its variance is that of the posterior. What is lost is the
mixture's shape: bounds are those of a normal distribution, and conditional correlations those of one point.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.errors import FitError
from multilevel.fit.arrow_form import ArrowForm
from multilevel.fit.theta_points import ThetaPoints
from multilevel.linear.joint_arrow import arrow_form
from multilevel.linear.joint_normal import NormalJoint
from multilevel.prediction.saved_joint import KeptArrow

MOST_DIRECTIONS = 16
"""Directions that are kept of how the conditional means vary."""

KEPT_SHARE = 0.9999
"""Of what they vary by, in posterior sds, that is enough."""

COLUMNS_AT_ONCE = 100_000


def points_as_arrow(spread: ThetaPoints, matrix: csr_array) -> KeptArrow:
    """The distribution of ``spread``, which is in the coordinates of the fit; ``matrix`` leads from those to (beta, b).

    Raises FitError where the conditional distributions are not those of a factorised system.
    """
    joint = spread.conditional(spread.central)
    if not isinstance(joint, NormalJoint):
        raise FitError("This posterior cannot be kept: its conditional distributions have no arrow form.")
    of_beta, of_effects = joint.factor.variance()
    at_centre = joint.sigma**2 * np.concatenate([of_beta, *(own.ravel() for own in of_effects)])
    mean = spread.weights @ spread.means
    away = np.sqrt(spread.weights)[:, None] * (spread.means - mean)
    between = np.sum(away**2, axis=0)
    directions = _directions(away, np.sqrt(spread.variance + between))
    del away  # as large as the means
    left = spread.variance + np.maximum(between - np.sum(directions**2, axis=1), 0.0)
    stretch = np.sqrt(np.divide(left, at_centre, out=np.ones_like(left), where=at_centre > 0))
    return KeptArrow(stretched(arrow_form(joint), stretch), mean, directions, matrix)


def stretched(form: ArrowForm, by: Floats) -> ArrowForm:
    """The distribution in which every coordinate's deviation is multiplied by its entry of ``by`` (w,); 0 makes a coordinate constant."""
    back = np.divide(1.0, by, out=np.zeros_like(by), where=by > 0)

    def of_rows(given: csr_array, places: Integers) -> csr_array:
        weights = given.data * back[given.indices] * np.repeat(by[places], np.diff(given.indptr))
        return csr_array((weights, given.indices, given.indptr), shape=given.shape)

    steps = tuple(
        replace(step, given=of_rows(step.given, step.places), variance=step.variance * by[step.places] ** 2) for step in form.steps
    )
    return replace(form, steps=steps, covariance=form.covariance * np.outer(by[form.core], by[form.core]))


def _directions(away: Floats, sd: Floats) -> Floats:
    """(w, d) the principal directions of ``away`` (K, w), every coordinate in its ``sd`` (w,)."""
    unit = np.where(sd > 0, sd, 1.0)
    products = np.zeros((len(away), len(away)))
    for at in range(0, away.shape[1], COLUMNS_AT_ONCE):
        piece = away[:, at : at + COLUMNS_AT_ONCE] / unit[at : at + COLUMNS_AT_ONCE]
        products += piece @ piece.T
    values, vectors = np.linalg.eigh(products)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(values), KEPT_SHARE * values.sum())) + 1
    return np.asarray((vectors[:, : min(kept, MOST_DIRECTIONS)].T @ away).T)
