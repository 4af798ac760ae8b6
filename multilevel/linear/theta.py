"""theta, the free parameters of the relative covariance factors: lower triangles of each Lambda, column by column (as in lme4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.unit_free import Maps


@dataclass(frozen=True)
class Theta:
    """Layout of theta: ``sizes`` are the blocks' numbers of columns k; each takes k (k + 1) / 2 places."""

    sizes: tuple[int, ...]

    @property
    def n(self) -> int:
        """Length of theta."""
        return sum(k * (k + 1) // 2 for k in self.sizes)

    def lambdas(self, theta: Floats) -> tuple[Floats, ...]:
        """Per block the lower-triangular (k, k) factor."""
        parts, start = [], 0
        for k in self.sizes:
            columns, rows = np.triu_indices(k)
            factor = np.zeros((k, k))
            factor[rows, columns] = theta[start : start + len(rows)]
            parts.append(factor)
            start += len(rows)
        return tuple(parts)

    def flat(self, lambdas: Sequence[Floats]) -> Floats:
        """The inverse of ``lambdas``; also flattens gradients of the same shapes."""
        parts = [factor[np.triu_indices(len(factor))[::-1]] for factor in lambdas]
        return np.concatenate(parts) if parts else np.zeros(0)

    def start(self, scales: Sequence[Floats], size: float = 1.0) -> Floats:
        """Diagonal factors of ``size`` in units where each column of Z has mean square one; ``scales`` (k,) are their root mean squares."""
        return self.flat([np.diag(size / scale) for scale in scales])

    def units(self, scales: Sequence[Floats]) -> Floats:
        """The scale of each entry of theta: one over its row's column scale."""
        return self.flat([np.repeat(1.0 / scale[:, None], len(scale), axis=1) for scale in scales])

    def fix_signs(self, theta: Floats) -> Floats:
        """Columns of each Lambda flipped so that its diagonal is not negative; Lambda Lambda' stays the same."""
        flipped = []
        for factor in self.lambdas(theta):
            sign = np.where(np.diagonal(factor) < 0, -1.0, 1.0)
            flipped.append(factor * sign)
        return self.flat(flipped)

    def is_singular(self, theta: Floats, scales: Sequence[Floats], tolerance: float = 1e-4) -> bool:
        """Whether a covariance matrix is rank-deficient: a diagonal of Lambda is zero within ``tolerance`` (lme4's isSingular)."""
        return any(self.singular_blocks(theta, scales, tolerance))

    def singular_blocks(self, theta: Floats, scales: Sequence[Floats], tolerance: float) -> list[bool]:
        """Per block the same."""
        factors = zip(self.lambdas(theta), scales, strict=True)
        return [bool(np.any(np.abs(np.diagonal(factor)) * scale < tolerance)) for factor, scale in factors]


def mapped_lambdas(lambdas: Sequence[Floats], maps: Maps) -> tuple[Floats, ...]:
    """Per block (k, k) A Lambda, a root of the relative covariance in the columns as written; not triangular."""
    return tuple(own @ part for own, part in zip(maps.blocks, lambdas, strict=True))


def written_lambdas(lambdas: Sequence[Floats], maps: Maps) -> tuple[Floats, ...]:
    """Per block the lower-triangular (k, k) factor in the columns as written, its diagonal not negative."""
    found = []
    for part in mapped_lambdas(lambdas, maps):
        root = part if np.array_equal(part, np.tril(part)) else np.linalg.qr(part.T)[1].T
        found.append(root * np.where(np.diagonal(root) < 0, -1.0, 1.0))
    return tuple(found)
