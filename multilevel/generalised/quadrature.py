"""Adaptive Gauss-Hermite quadrature of the likelihood for one scalar factor, with its analytic gradient.

For level j the integral over u is taken at nodes u_j + sqrt(2 / M_j) x_k, M_j the curvature at the mode u_j (Pinheiro and Bates 1995, eq.
2.6). One node is Laplace's approximation.
"""

from __future__ import annotations

import numpy as np

from multilevel.cells import Floats
from multilevel.generalised.families import Family
from multilevel.generalised.objective import Gradient
from multilevel.generalised.pirls import Mode
from multilevel.generalised.reweighting import Reweighting


def quadrature_deviance(
    layout: Reweighting, family: Family, mode: Mode, theta: float, log_dispersion: float, points: int
) -> tuple[float, Gradient]:
    """-2 log-likelihood of the line items and its gradient, the nodes moving with the parameters."""
    codes, z, levels = layout.own_codes, layout.own_values[:, 0], len(layout.template.own)
    nodes, weights = np.polynomial.hermite.hermgauss(points)

    def by_level(values: Floats) -> Floats:
        return np.bincount(codes, values, levels)

    u, curvature = mode.spherical.own[:, 0], mode.curvature
    precision = 1.0 + theta**2 * by_level(curvature.weight * z**2)
    spread = 1.0 / np.sqrt(precision)
    fixed = mode.eta - theta * z * u[codes]

    at_nodes = u[:, None] + np.sqrt(2.0) * spread[:, None] * nodes
    log_terms, predictors = np.empty((levels, points)), []
    for k in range(points):
        eta = fixed + theta * z * at_nodes[codes, k]
        predictors.append(eta)
        log_terms[:, k] = by_level(family.terms(eta, log_dispersion)) - at_nodes[:, k] ** 2 / 2.0 + nodes[k] ** 2 + np.log(weights[k])
    top = log_terms.max(axis=1)
    scaled = np.exp(log_terms - top[:, None])
    total = scaled.sum(axis=1)
    log_integral = top + np.log(total) + np.log(spread) - 0.5 * np.log(np.pi)
    value = -2.0 * (float(log_integral.sum()) + family.constant(log_dispersion))

    # derivatives: columns are theta, gamma, log dispersion
    p = layout.basis.shape[1]
    has_dispersion = family.dispersion is not None
    n = 1 + p + int(has_dispersion)
    at_mode = family.by_dispersion(mode.eta, log_dispersion)
    mode_moves, spread_moves = np.zeros((levels, n)), np.zeros((levels, n))
    for i in range(n):
        by_eta = z * u[codes] if i == 0 else layout.basis[:, i - 1] if i <= p else np.zeros(len(z))
        push = by_level(z * curvature.score) if i == 0 else np.zeros(levels)
        push = push - theta * by_level(curvature.weight * z * by_eta)
        if i > p:
            push = push + theta * by_level(z * at_mode.score)
        mode_moves[:, i] = push / precision
        full = by_eta + theta * z * mode_moves[codes, i]
        change = theta**2 * by_level(z**2 * curvature.weight_slope * full)
        if i == 0:
            change = change + 2.0 * theta * by_level(z**2 * curvature.weight)
        if i > p:
            change = change + theta**2 * by_level(z**2 * at_mode.weight)
        spread_moves[:, i] = -0.5 * spread * change / precision
    gradient = np.sum(spread_moves / spread[:, None], axis=0)
    for k in range(points):
        share = scaled[:, k] / total
        score = family.curvature(predictors[k], log_dispersion).score
        pull = theta * by_level(z * score) - at_nodes[:, k]
        gradient += (share * pull) @ (mode_moves + np.sqrt(2.0) * nodes[k] * spread_moves)
        gradient[0] += float((share * at_nodes[:, k]) @ by_level(z * score))
        gradient[1 : 1 + p] += layout.basis.T @ (share[codes] * score)
        if has_dispersion:
            gradient[-1] += float(share[codes] @ family.by_dispersion(predictors[k], log_dispersion).terms)
    if has_dispersion:
        gradient[-1] += at_mode.constant
    gradient *= -2.0
    return value, Gradient(gradient[:1], gradient[1 : 1 + p], float(gradient[-1]) if has_dispersion else 0.0)
