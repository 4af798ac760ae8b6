"""Adaptive Gauss-Hermite quadrature of the likelihood for one scalar factor, with its analytic gradient.

For level j the integral over u is taken at nodes u_j + sqrt(2 / M_j) x_k, M_j the curvature at the mode u_j (Pinheiro and Bates 1995, eq.
2.6). One node is Laplace's approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.families.likelihood import Likelihood
from multilevel.generalised.objective import Gradient
from multilevel.generalised.pirls import Mode
from multilevel.generalised.reweighting import Reweighting


@dataclass(frozen=True)
class _Nodes:
    """K nodes of each of L levels.

    at : (L, K) values of u. x : (K,) the rule's own nodes. predictors : K linear predictors (R,). share : (L, K) of the integral, by node.
    log_integral : (L,). precision : (L,) the curvature M at the mode; spread : (L,) its inverse root.
    """

    at: Floats
    x: Floats
    predictors: list[Floats]
    share: Floats
    log_integral: Floats
    precision: Floats
    spread: Floats


def quadrature_deviance(
    layout: Reweighting, likelihood: Likelihood, mode: Mode, theta: float, log_dispersion: float, points: int
) -> tuple[float, Gradient]:
    """-2 log-likelihood of the line items and its gradient, the nodes moving with the parameters."""
    nodes = _nodes(layout, likelihood, mode, theta, log_dispersion, points)
    value = -2.0 * (float(nodes.log_integral.sum()) + likelihood.constant(log_dispersion))
    p, has_dispersion = layout.basis.shape[1], likelihood.has_dispersion
    mode_moves, spread_moves = _moves(layout, likelihood, mode, theta, log_dispersion, nodes)
    gradient = np.sum(spread_moves / nodes.spread[:, None], axis=0)
    codes, z, levels = *_only_factor(layout), len(nodes.at)
    for k, predictor in enumerate(nodes.predictors):
        share = nodes.share[:, k]
        score = likelihood.curvature(predictor, log_dispersion).score
        score_by_level = np.bincount(codes, z * score, levels)
        pull = theta * score_by_level - nodes.at[:, k]
        gradient += (share * pull) @ (mode_moves + np.sqrt(2.0) * nodes.x[k] * spread_moves)
        gradient[0] += float((share * nodes.at[:, k]) @ score_by_level)
        gradient[1 : 1 + p] += layout.basis.T @ (share[codes] * score)
        if has_dispersion:
            gradient[-1] += float(share[codes] @ likelihood.by_dispersion(predictor, log_dispersion).terms)
    if has_dispersion:
        gradient[-1] += likelihood.by_dispersion(mode.eta, log_dispersion).constant
    gradient *= -2.0
    return value, Gradient(gradient[:1], gradient[1 : 1 + p], float(gradient[-1]) if has_dispersion else 0.0)


def _only_factor(layout: Reweighting) -> tuple[Integers, Floats]:
    """(R,) levels and values of the one scalar factor."""
    rows = layout.eliminated[0]
    return rows.codes, rows.values[:, 0]


def _nodes(layout: Reweighting, likelihood: Likelihood, mode: Mode, theta: float, log_dispersion: float, points: int) -> _Nodes:
    codes, z, levels = *_only_factor(layout), len(layout.template.own)
    x, weights = np.polynomial.hermite.hermgauss(points)
    u = mode.spherical.own[:, 0]
    precision = 1.0 + theta**2 * np.bincount(codes, mode.curvature.weight * z**2, levels)
    spread = 1.0 / np.sqrt(precision)
    fixed = mode.eta - theta * z * u[codes]
    at = u[:, None] + np.sqrt(2.0) * spread[:, None] * x
    log_terms, predictors = np.empty((levels, points)), []
    for k in range(points):
        eta = fixed + theta * z * at[codes, k]
        predictors.append(eta)
        terms = np.bincount(codes, likelihood.terms(eta, log_dispersion), levels)
        log_terms[:, k] = terms - at[:, k] ** 2 / 2.0 + x[k] ** 2 + np.log(weights[k])
    top = log_terms.max(axis=1)
    scaled = np.exp(log_terms - top[:, None])
    total = scaled.sum(axis=1)
    log_integral = top + np.log(total) + np.log(spread) - 0.5 * np.log(np.pi)
    return _Nodes(at, x, predictors, scaled / total[:, None], log_integral, precision, spread)


def _moves(
    layout: Reweighting, likelihood: Likelihood, mode: Mode, theta: float, log_dispersion: float, nodes: _Nodes
) -> tuple[Floats, Floats]:
    """(L, n), (L, n): derivatives of each level's mode and spread; the n columns are theta, gamma, log dispersion."""
    codes, z, levels = *_only_factor(layout), len(nodes.at)
    u, curvature, p = mode.spherical.own[:, 0], mode.curvature, layout.basis.shape[1]
    at_mode = likelihood.by_dispersion(mode.eta, log_dispersion)
    n = 1 + p + int(likelihood.has_dispersion)

    def by_level(values: Floats) -> Floats:
        return np.bincount(codes, values, levels)

    mode_moves, spread_moves = np.zeros((levels, n)), np.zeros((levels, n))
    for i in range(n):
        by_eta = z * u[codes] if i == 0 else layout.basis[:, i - 1] if i <= p else np.zeros(len(z))
        push = by_level(z * curvature.score) if i == 0 else np.zeros(levels)
        push = push - theta * by_level(curvature.weight * z * by_eta)
        if i > p:
            push = push + theta * by_level(z * at_mode.score)
        mode_moves[:, i] = push / nodes.precision
        full = by_eta + theta * z * mode_moves[codes, i]
        change = theta**2 * by_level(z**2 * curvature.weight_slope * full)
        if i == 0:
            change = change + 2.0 * theta * by_level(z**2 * curvature.weight)
        if i > p:
            change = change + theta**2 * by_level(z**2 * at_mode.weight)
        spread_moves[:, i] = -0.5 * nodes.spread * change / nodes.precision
    return mode_moves, spread_moves
