"""The normal distribution of (beta, b) at one theta that is nearest to the exact one in Kullback-Leibler divergence.

With eta_i ~ N(m_i, v_i) under it, its mean solves sum_i x_i E[score_i(eta_i)] = Q m, Q the prior's precision, and its precision is
sum_i E[weight_i(eta_i)] x_i x_i' + Q (Opper and Archambeau 2009, eqs. 10 and 15): the conditions of a mode and of the curvature there,
with expectations in place of values. Where levels have few line items the mode is not the mean, and the curvature at it not the variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed
from multilevel.errors import FitError
from multilevel.families.likelihood import Likelihood
from multilevel.generalised.pirls import Mode
from multilevel.generalised.reweighting import Coordinates, solve, undone
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.touched_covariances import TouchedCovariances

NODES = 7
"""Of the expectations over each row's linear predictor."""

STEPS = 50

SLOW = 0.5
"""Of the squared length of the step before, above which steps become shorter."""

NEAR_ENOUGH = 1e-5
"""Mean squared step of a coefficient, in standard deviations, after which no other is taken."""

SHORTEST = 0.125

LONGEST = 1e3
"""Mean squared step beyond which there is no hope."""


class LevelsNotNormalError(FitError):
    """Levels have too few line items, or too many effects, for a normal distribution of their effects."""


@dataclass(frozen=True)
class VariationalNormal:
    """effects : its means of b and gamma. weights (R,) : expected information of the rows, of which ``factor`` is. eta (R,) : means of
    the linear predictors. steps : until it was found."""

    effects: Coordinates
    weights: Floats
    factor: BlockedFactor
    eta: Floats
    steps: int


def variational_normal(density: LaplaceCollapsed, theta: Floats, mode: Mode) -> VariationalNormal:
    """At theta (d,), from the ``mode`` there. Raises LevelsNotNormalError where the steps do not end."""
    rows, lambdas, log_dispersion = density.coordinates, density.lambdas(theta), density.log_dispersion(theta)
    variance = rows.variances(TouchedCovariances.with_beta(mode.factor))
    # to first order the mean is half the skewness away from the mode
    shift, _ = solve(mode.factor, rows.transposed(-0.5 * mode.curvature.weight_slope * variance), with_basis=True)
    effects, size = mode.effects + shift, rows.template.n_effects + rows.template.n_population
    before, share = np.inf, 1.0
    for steps in range(1, STEPS + 1):
        eta = rows.offset + rows.linear(effects)
        score, weights = expected(density.likelihood, eta, variance, log_dispersion)
        factor = rows.system(weights).factorise(lambdas, density.prior.precision, density.prior.location)
        right = rows.transposed(score) - pull(density, lambdas, effects)
        step, _ = solve(factor, right, with_basis=True)
        length = step.dot(right) / size
        if not 0.0 <= length < LONGEST:
            break
        if length < NEAR_ENOUGH:
            return VariationalNormal(effects + step, weights, factor, eta + rows.linear(step), steps)
        # far from the end, means and variances may overshoot in turns
        share = max(share / 2.0, SHORTEST) if length > SLOW * before else share
        effects, before = effects + step.times(share), length
        variance = variance ** (1.0 - share) * rows.variances(TouchedCovariances.with_beta(factor)) ** share
    raise LevelsNotNormalError(
        "No normal distribution of the effects comes near the posterior: levels have too few line items for one. Write sampling: "
        "{form: nuts}."
    )


def pull(density: LaplaceCollapsed, lambdas: list[Floats], effects: Coordinates) -> Coordinates:
    """Half the derivative of the prior's penalty: Sigma^-1 b, and R (gamma - c)."""
    rows = density.coordinates
    parts = [undone(root @ root.T, own) for root, own in zip(lambdas, rows.by_block(effects), strict=True)]
    return rows.from_blocks(parts, density.prior.pull(effects.basis))


def expected(likelihood: Likelihood, eta: Floats, variance: Floats, log_dispersion: float) -> tuple[Floats, Floats]:
    """(R,), (R,) expectations of the first derivative and of minus the second over eta ~ N(``eta``, ``variance``)."""
    nodes, shares = np.polynomial.hermite_e.hermegauss(NODES)
    shares = shares / shares.sum()
    spread = np.sqrt(variance)
    score, weight = np.zeros_like(eta), np.zeros_like(eta)
    for node, share in zip(nodes, shares, strict=True):
        at = likelihood.curvature(eta + node * spread, log_dispersion)
        score += share * at.score
        weight += share * at.weight
    return score, weight
