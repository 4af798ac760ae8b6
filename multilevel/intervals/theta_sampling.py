"""Weighted points of a distribution known up to a constant, by adaptive importance sampling.

Draws come from Student's t distributions whose centre and scale follow the weighted draws so far; all draws are kept, and weighed by the
mixture of all that was drawn from (Cornuet, Marin, Mira and Robert 2012). Numbers are quasi-random with a fixed seed and nothing is
thinned, so that points and weights change smoothly with the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import gammaincinv, gammaln, logsumexp, ndtri

from multilevel.arrays import Floats

STAGES = (32, 32, 48, 64)
"""Draws of each stage, twice as many in more than ``FEW_DIMENSIONS`` dimensions."""

FEW_DIMENSIONS = 3

T_DEGREES = 5.0
WIDER = 1.2
"""Scale of a distribution drawn from, over that of the weighted draws."""


def sample(log_density: Callable[[Floats], float], centre: Floats, scale: Floats, seed: int) -> tuple[Floats, Floats]:
    """Points (K, d) of ``log_density`` and their weights (K,), from a first guess of its centre (d,) and standard deviations (d,)."""
    d = len(centre)
    sizes = [size * (1 if d <= FEW_DIMENSIONS else 2) for size in STAGES]
    proposals = [(centre, np.diag(WIDER * scale))]
    draws, values, weights = np.empty((0, d)), np.empty(0), np.empty(0)
    for stage, size in enumerate(sizes):
        if stage > 0:
            proposals.append(_adapted(draws, weights, proposals[-1][1]))
        drawn = _draw(proposals[-1], size, [seed, stage])
        draws, values = np.vstack([draws, drawn]), np.concatenate([values, [log_density(x) for x in drawn]])
        weights = _weights(draws, values, proposals, sizes)
    return draws, weights


def _draw(proposal: tuple[Floats, Floats], size: int, seed: list[int]) -> Floats:
    location, root = proposal
    uniform = evenly(size, len(location) + 1, seed)
    return np.asarray(location + _student(np.clip(uniform, 1e-6, 1.0 - 1e-6)) @ root.T)


def evenly(size: int, d: int, seed: list[int]) -> Floats:
    """(n, d) numbers that fill the unit cube: multiples of the square roots of primes (Richtmyer 1951), shifted by ``seed``."""
    # scipy's sequences load all of scipy.stats, which takes longer than many fits
    primes = [n for n in range(2, 20 * d) if all(n % other for other in range(2, math.isqrt(n) + 1))][:d]
    shift = np.random.default_rng(seed).random(d)
    return np.asarray((shift + np.arange(1, size + 1)[:, None] * np.sqrt(primes)) % 1.0)


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


def _weights(draws: Floats, values: Floats, proposals: list[tuple[Floats, Floats]], sizes: list[int]) -> Floats:
    """Against the mixture of all that was drawn from."""
    density = logsumexp([np.log(size) + _log_density(draws, *each) for size, each in zip(sizes, proposals, strict=False)], axis=0)
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
