"""The gradient of the collapsed density in the unconstrained variance parameters, from one factorisation.

With Sigma = T T', Lambda = T / sigma and the criterion c = log|M| + r^2 / sigma^2 of ``multilevel.linear.effects_gradient`` (its prior of
beta in M and r^2), log p(y | theta) = -1/2 (c + (N - p) log sigma^2) + constant. sigma moves it through Lambda, and through the prior
precision of beta, P0 = sigma^2 P, whose part is -tr(Var(beta) P) - (beta - m)'P (beta - m).
"""

from __future__ import annotations

import math

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.collapsed import FARTHEST, Collapsed
from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.errors import FitError
from multilevel.linear.effects_gradient import criterion_gradient
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.uncertainty import coefficient_covariance

PRIOR_STEP = 1e-5
"""Of the central differences of the prior, which costs nothing beside a factorisation and is smooth at this scale."""


def value_and_gradient(density: Collapsed, theta: Floats) -> tuple[float, Floats]:
    """log p(theta | y) + constant and its derivative (d,); minus infinity and zeros where the factorisation breaks down."""
    nowhere = -math.inf, np.zeros(len(theta))
    if np.any(np.abs(theta) > FARTHEST):
        return nowhere
    try:
        factor = density.factorise(theta)
        assert isinstance(factor, BlockedFactor)
        value = density.of_factor(factor, theta)
        slope = _likelihood_gradient(density, theta, factor) + prior_gradient(density.layout, density.priors, theta)
    except (FitError, np.linalg.LinAlgError, OverflowError):
        return nowhere
    return (value, slope) if math.isfinite(value) and np.all(np.isfinite(slope)) else nowhere


def _likelihood_gradient(density: Collapsed, theta: Floats, factor: BlockedFactor) -> Floats:
    layout, sigma = density.layout, float(density.layout.scale(theta))
    by_lambda = criterion_gradient(factor, sigma**2, reml=True)
    result = np.zeros(len(theta))
    for block, own in enumerate(by_lambda):
        start, k = layout.starts[block], layout.widths[block]
        root = layout.factor(theta, block)
        moved = -0.5 * np.tril(own) / sigma
        for at, direction in enumerate(root_directions(layout, theta, block, root)):
            result[start + at] = np.sum(moved * direction)
        if layout.with_scale:
            result[-1] -= float(np.sum(result[start : start + k]))
    if layout.with_scale:
        away = factor.beta - density.priors.beta_location
        precision = density.priors.beta_precision
        prior_part = np.sum(coefficient_covariance(factor, sigma) * precision) + away @ precision @ away
        result[-1] += factor.penalised_rss / sigma**2 - density.system.n_rows + density.system.n_population - float(prior_part)
    return result


def root_directions(layout: Layout, theta: Floats, block: int, root: Floats) -> list[Floats]:
    """Derivatives (k, k) of a block's root with respect to each of its parameters: log sds, then partial correlations."""
    k = layout.widths[block]
    found = []
    for sd in range(k):
        moved = np.zeros((k, k))
        moved[sd] = root[sd]
        found.append(moved)
    partials = layout.partials(theta, block)
    for at, (row, column) in enumerate(zip(*np.tril_indices(k, -1), strict=True)):
        moved, value = np.zeros((k, k)), math.tanh(partials[at])
        # columns after this one carry sqrt(1 - p^2), whose logarithm falls by p for each step of Fisher's z
        moved[row, column + 1 :] = -value * root[row, column + 1 :]
        left = float(np.sum(root[row, column:] ** 2))
        moved[row, column] = math.sqrt(left) * (1.0 - value**2)
        found.append(moved)
    return found


def prior_gradient(layout: Layout, priors: ResolvedPriors, theta: Floats) -> Floats:
    """(d,) derivative of ``log_prior``."""
    moves = PRIOR_STEP * np.eye(len(theta))
    above, below = (log_prior(theta + sign * moves, layout, priors) for sign in (1.0, -1.0))
    return np.asarray((above - below) / (2.0 * PRIOR_STEP))
