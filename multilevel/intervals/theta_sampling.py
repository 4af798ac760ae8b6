"""Weighted points of a distribution known up to a constant, by adaptive importance sampling.

Draws come from Student's t distributions whose centre and scale follow the weighted draws so far; the first draws, which only lead there,
are weighed by the mixture of all that was drawn from (Cornuet, Marin, Mira and Robert 2012). The last draws are the points. Numbers are
quasi-random with a fixed seed and nothing is thinned, so that points and weights change smoothly with the data.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import gammaincinv, gammaln, logsumexp, ndtri
from scipy.stats import qmc

from multilevel.arrays import Floats

LEADING = 2
"""Stages that lead to the last one."""

T_DEGREES = 5.0
WIDER = 1.2
"""Scale of a distribution drawn from, over that of the weighted draws."""

FEW_DIMENSIONS, FEW, MANY = 3, 32, 64
"""Draws of a leading stage, up to and from how many dimensions."""


def sample(log_density: Callable[[Floats], float], centre: Floats, scale: Floats, n_points: int, seed: int) -> tuple[Floats, Floats]:
    """Points (K, d) of ``log_density`` and their weights (K,), from a first guess of its centre (d,) and standard deviations (d,).

    ``n_points`` : K, a power of two.
    """
    d = len(centre)
    size = FEW if d <= FEW_DIMENSIONS else MANY
    proposals = [(centre, np.diag(WIDER * scale))]
    draws, values = np.empty((0, d)), np.empty(0)
    for stage in range(LEADING):
        drawn = _draw(proposals[-1], size, [seed, stage])
        draws, values = np.vstack([draws, drawn]), np.concatenate([values, [log_density(x) for x in drawn]])
        weights = _weights(draws, values, proposals)
        proposals.append(_adapted(draws, weights, proposals[-1][1]))
    points = _draw(proposals[-1], n_points, [seed, LEADING])
    found = np.array([log_density(x) for x in points])
    return points, _weights(points, found, proposals[-1:])


def _draw(proposal: tuple[Floats, Floats], size: int, seed: list[int]) -> Floats:
    location, root = proposal
    uniform = qmc.Sobol(len(location) + 1, rng=np.random.default_rng(seed)).random(size)
    return np.asarray(location + _student(np.clip(uniform, 1e-6, 1.0 - 1e-6)) @ root.T)


def _adapted(draws: Floats, weights: Floats, root: Floats) -> tuple[Floats, Floats]:
    """Centre and scale of the weighted draws; of few that count, the scale drawn from keeps a share."""
    d = draws.shape[1]
    mean = weights @ draws
    away = draws - mean
    share = d / (d + 1.0 / float(np.sum(weights**2)))
    blended = (1.0 - share) * (away * weights[:, None]).T @ away + share * root @ root.T / WIDER**2
    return mean, WIDER * np.linalg.cholesky(blended + 1e-12 * np.eye(d))


def _student(uniform: Floats) -> Floats:
    """(n, d) multivariate t of (n, d + 1) uniform numbers, of unit scale."""
    chi = 2.0 * gammaincinv(T_DEGREES / 2.0, uniform[:, -1])
    return np.asarray(ndtri(uniform[:, :-1]) * np.sqrt(T_DEGREES / chi)[:, None])


def _weights(draws: Floats, values: Floats, proposals: list[tuple[Floats, Floats]]) -> Floats:
    density = logsumexp([_log_density(draws, *proposal) for proposal in proposals], axis=0)
    log_weight = np.where(np.isfinite(values), values, -np.inf) - density
    weights = np.exp(log_weight - log_weight.max())
    # no draw counts for more than a share that vanishes as they get many (Ionides 2008)
    weights = np.minimum(weights, weights.mean() * np.sqrt(len(weights)))
    return np.asarray(weights / weights.sum())


def _log_density(draws: Floats, location: Floats, root: Floats) -> Floats:
    d = len(location)
    away = np.linalg.solve(root, (draws - location).T)
    constant = gammaln((T_DEGREES + d) / 2.0) - np.sum(np.log(np.abs(np.diagonal(root))))
    return np.asarray(constant - (T_DEGREES + d) / 2.0 * np.log1p(np.sum(away**2, axis=0) / T_DEGREES))
