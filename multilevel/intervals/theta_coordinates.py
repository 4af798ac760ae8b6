"""Variance parameters in coordinates where their distribution is near normal, and the prior that integrates over them.

Per block: logarithms of the standard deviations, and Fisher's z of canonical partial correlations; last the logarithm of sigma, or of
1 / sqrt(phi) or 1 / sqrt(shape). A standard deviation of zero is infinitely far away, so nothing has a boundary.

The prior is flat in each standard deviation of a factor with more than ``FEW_LEVELS`` levels (Gelman 2006, section 2.2), half-t(3) on the
scale of the outcome with fewer, where a flat one leaves no finite distribution, or a very long tail; even over correlation matrices
(Lewandowski, Kurowicka and Joe 2009); flat in log sigma, and in 1 / sqrt(phi).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats

FEW_LEVELS = 4

T_DEGREES = 3.0

LARGEST_Z = 8.0
"""Fisher's z beyond which a correlation is one, up to rounding."""


@dataclass(frozen=True)
class Coordinates:
    """sizes : per block k. levels : per block, how many were seen. outcome_scale : sd of the outcome (1 on a link scale). has_scale :
    whether the last coordinate is that of sigma or of a dispersion; is_flat_log : whether its prior is flat on that logarithm (sigma)."""

    sizes: tuple[int, ...]
    levels: tuple[int, ...]
    outcome_scale: float
    has_scale: bool
    is_flat_log: bool

    @property
    def n(self) -> int:
        """d."""
        return sum(k * (k + 1) // 2 for k in self.sizes) + self.has_scale

    def starts(self) -> list[int]:
        """Where each block's coordinates begin: k logarithms, then k (k - 1) / 2 correlations, row by row."""
        return [int(start) for start in np.cumsum([0, *(k * (k + 1) // 2 for k in self.sizes)])]

    def roots(self, x: Floats) -> tuple[Floats, ...]:
        """Per block the lower triangular (k, k) root of Sigma."""
        return tuple(_root(x[start : start + k * (k + 1) // 2], k) for start, k in zip(self.starts(), self.sizes, strict=False))

    def scale(self, x: Floats) -> float:
        """sigma, or 1 / sqrt of the dispersion; 1 without one."""
        return math.exp(x[-1]) if self.has_scale else 1.0

    def of(self, roots: Sequence[Floats], scale: float) -> Floats:
        """(d,) the inverse; a standard deviation of zero comes out at minus infinity, with correlations of zero."""
        parts = [_coordinates(root) for root in roots]
        with np.errstate(divide="ignore"):
            return np.concatenate([*parts, [np.log(scale)] if self.has_scale else []])

    def sd_places(self) -> list[tuple[int, int, int]]:
        """(place, block, column) of every logarithm of a standard deviation."""
        return [(start + at, block, at) for block, (start, k) in enumerate(zip(self.starts(), self.sizes, strict=False)) for at in range(k)]

    def log_prior(self, x: Floats) -> float:
        """Logarithm of the prior's density in these coordinates, up to a constant."""
        total = 0.0
        for start, k, levels in zip(self.starts(), self.sizes, self.levels, strict=False):
            logs = x[start : start + k]
            total += float(logs.sum())
            if levels <= FEW_LEVELS:
                square = np.exp(2.0 * logs) / (T_DEGREES * self.outcome_scale**2)
                total -= (T_DEGREES + 1.0) / 2.0 * float(np.sum(np.log1p(square)))
            z = x[start + k : start + k * (k + 1) // 2]
            if len(z):
                _, columns = np.tril_indices(k, -1)
                # density of a canonical partial correlation (1 - p^2)^(b - 1), and 1 - p^2 for Fisher's z
                exponent = 1.0 + (k - 2 - columns) / 2.0
                total -= float(exponent @ (2.0 * np.log(np.cosh(np.clip(z, -LARGEST_Z, LARGEST_Z)))))
        return total + (float(x[-1]) if self.has_scale and not self.is_flat_log else 0.0)


def _root(x: Floats, k: int) -> Floats:
    sds, partial = np.exp(x[:k]), np.tanh(x[k:])
    root = np.zeros((k, k))
    at = 0
    for row in range(k):
        left = 1.0
        for column in range(row):
            root[row, column] = partial[at] * math.sqrt(left)
            left *= 1.0 - partial[at] ** 2
            at += 1
        root[row, row] = math.sqrt(left)
    return sds[:, None] * root


def _coordinates(root: Floats) -> Floats:
    k = len(root)
    sds = np.linalg.norm(root, axis=1)
    with np.errstate(divide="ignore"):
        logs = np.log(sds)
    partial = []
    for row in range(k):
        left = 1.0
        for column in range(row):
            value = root[row, column] / sds[row] / math.sqrt(left) if sds[row] > 0 and left > 0 else 0.0
            partial.append(float(np.clip(value, -1.0, 1.0)))
            left = max(left - (root[row, column] / sds[row]) ** 2, 0.0) if sds[row] > 0 else left
    limit = math.tanh(LARGEST_Z)
    return np.concatenate([logs, np.arctanh(np.clip(np.array(partial), -limit, limit))])
