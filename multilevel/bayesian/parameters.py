"""The few parameters that describe the effects' covariances and the residual, as one unconstrained vector.

Per block of k columns: k log sds, then k (k - 1) / 2 unconstrained partial correlations (row by row of the lower triangle, p = tanh y;
Lewandowski, Kurowicka and Joe 2009, section 2.3); last the log of sigma (gaussian, unless known), phi (negative binomial) or shape (gamma).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.priors import ResolvedPriors


@dataclass(frozen=True)
class Layout:
    """Where each parameter sits: ``widths`` the k of each block, ``with_scale`` whether the log of sigma, phi or shape comes last."""

    widths: tuple[int, ...]
    with_scale: bool

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return sum(k * (k + 1) // 2 for k in self.widths) + self.with_scale

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each block's parameters begin."""
        sizes = [k * (k + 1) // 2 for k in self.widths]
        return tuple(int(at) for at in np.cumsum([0, *sizes])[: len(sizes)])

    def sds(self, theta: Floats, block: int) -> Floats:
        """(..., k) sds of a block."""
        start, k = self.starts[block], self.widths[block]
        return np.exp(theta[..., start : start + k])

    def partials(self, theta: Floats, block: int) -> Floats:
        """(..., k (k - 1) / 2) unconstrained partial correlations of a block."""
        start, k = self.starts[block], self.widths[block]
        return theta[..., start + k : start + k * (k + 1) // 2]

    def scale(self, theta: Floats) -> Floats:
        """(...) sigma, phi or shape; 1 where there is none or it is known."""
        return np.exp(theta[..., -1]) if self.with_scale else np.ones(theta.shape[:-1])

    def factor(self, theta: Floats, block: int) -> Floats:
        """(..., k, k) lower-triangular Cholesky factor of a block's covariance."""
        return self.sds(theta, block)[..., :, None] * correlation_factor(self.partials(theta, block), self.widths[block])

    def pack(self, covariances: Sequence[Floats], scale: float) -> Floats:
        """The vector of given covariances; every one must be positive definite."""
        parts = []
        for covariance in covariances:
            sds = np.sqrt(np.diag(covariance))
            parts += [np.log(sds), partial_correlations(np.linalg.cholesky(covariance / np.outer(sds, sds)))]
        return np.concatenate([*parts, [math.log(scale)] if self.with_scale else []])


def correlation_factor(partials: Floats, k: int) -> Floats:
    """(..., k, k) Cholesky factor of a correlation matrix from (..., k (k - 1) / 2) unconstrained partial correlations."""
    if k == 1:
        return np.ones((*partials.shape[:-1], 1, 1))
    rows, columns = np.tril_indices(k, -1)
    matrix = np.zeros((*partials.shape[:-1], k, k))
    logs = np.zeros_like(matrix)
    matrix[..., rows, columns] = np.tanh(partials)
    matrix[..., np.arange(k), np.arange(k)] = 1.0
    logs[..., rows, columns] = 0.5 * log_one_minus_square(partials)
    before = np.cumsum(logs, axis=-1) - logs
    return np.tril(matrix * np.exp(before))


def partial_correlations(factor: Floats) -> Floats:
    """The inverse of ``correlation_factor`` for one (k, k) factor."""
    k = len(factor)
    values = []
    for row in range(1, k):
        left = 1.0
        for column in range(row):
            partial = np.clip(factor[row, column] / math.sqrt(max(left, 1e-300)), -1 + 1e-12, 1 - 1e-12)
            values.append(math.atanh(partial))
            left *= 1.0 - partial**2
    return np.array(values)


def log_one_minus_square(partials: Any, xp: Any = np) -> Any:
    """log(1 - tanh(y)^2), without cancellation."""
    size = abs(partials)
    return 2.0 * (math.log(2.0) - size - xp.log1p(xp.exp(-2.0 * size)))


@lru_cache(maxsize=64)
def lkj_exponents(eta: float, k: int) -> Floats:
    """(k (k - 1) / 2,) the b of each partial correlation's density (1 - p^2)^(b - 1) under LKJ(eta)."""
    _, columns = np.tril_indices(k, -1)
    return eta + (k - 2 - columns) / 2.0


@lru_cache(maxsize=64)
def lkj_constant(eta: float, k: int) -> float:
    """The log normaliser of ``sum b log(1 - p^2)`` over the partial correlations, on their unconstrained scale."""
    exponents = lkj_exponents(eta, k)
    return float(sum(-((2 * b - 1) * math.log(2) + 2 * math.lgamma(b) - math.lgamma(2 * b)) for b in exponents))


def log_prior(theta: Any, layout: Layout, priors: ResolvedPriors, xp: Any = np) -> Any:
    """(...) log prior density of the unconstrained parameters (..., d), Jacobians included; ``xp`` is NumPy or ``pytensor.tensor``."""
    total: Any = 0.0 * theta[..., :1].sum(axis=-1)
    for block, (start, k) in enumerate(zip(layout.starts, layout.widths, strict=True)):
        for column, prior in enumerate(priors.sds[block]):
            total = total + prior.log_density(xp.exp(theta[..., start + column]), xp) + theta[..., start + column]
        eta = priors.correlations[block]
        for at, exponent in enumerate(lkj_exponents(eta, k)):
            total = total + exponent * log_one_minus_square(theta[..., start + k + at], xp)
        total = total + lkj_constant(eta, k)
    if priors.sigma is not None:
        total = total + priors.sigma.log_density(xp.exp(theta[..., -1]), xp) + theta[..., -1]
    if priors.dispersion is not None:
        # the prior is on 1 / sqrt(phi), whose derivative with respect to log phi is -1 / (2 sqrt(phi))
        variation = xp.exp(-0.5 * theta[..., -1])
        total = total + priors.dispersion.log_density(variation, xp) - 0.5 * theta[..., -1] - math.log(2.0)
    return total


def sample_prior(size: int, layout: Layout, priors: ResolvedPriors, rng: np.random.Generator) -> Floats:
    """(size, d) draws of the unconstrained parameters from their prior."""
    columns: list[Floats] = []
    for block, k in enumerate(layout.widths):
        columns += [np.log(prior.sample(size, rng)) for prior in priors.sds[block]]
        columns += [np.arctanh(2.0 * rng.beta(b, b, size) - 1.0) for b in lkj_exponents(priors.correlations[block], k)]
    if priors.sigma is not None:
        columns.append(np.log(priors.sigma.sample(size, rng)))
    if priors.dispersion is not None:
        columns.append(-2.0 * np.log(priors.dispersion.sample(size, rng)))
    return np.stack(columns, axis=-1)
