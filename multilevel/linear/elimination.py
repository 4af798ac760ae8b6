"""Level-by-level elimination of the largest factor, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

from multilevel.cells import Codes, Floats


def conditional_blocks(own: Floats, factor: Floats) -> tuple[Floats, float]:
    """K_j = Lambda (Lambda' G_j Lambda + I)^-1 Lambda' for every level (L, k, k), and the sum of log |Lambda' G_j Lambda + I|."""
    if not len(own):
        return own, 0.0
    if own.shape[1] == 1:
        scale = factor[0, 0] ** 2
        denominator = 1.0 + scale * own
        return scale / denominator, float(np.sum(np.log(denominator)))
    inner = factor.T @ own @ factor
    inner[:, np.arange(len(factor)), np.arange(len(factor))] += 1.0
    root = np.linalg.cholesky(inner)
    log_det = 2.0 * float(np.sum(np.log(np.diagonal(root, axis1=1, axis2=2))))
    return factor @ np.linalg.solve(inner, np.broadcast_to(factor.T, inner.shape)), log_det


def schur_complement(gram: Floats, starts: Codes, columns: Codes, values: Floats, kernels: Floats) -> Floats:
    """gram - sum_j H_j' K_j H_j, symmetric (m, m)."""
    result = gram.copy()
    if len(kernels):
        _subtract(result, starts, columns, values, kernels)
        lower = np.tril_indices(len(result), -1)
        result[lower[1], lower[0]] = result[lower]
    return result


@njit(cache=True)
def _subtract(result, starts, columns, values, kernels):  # type: ignore[no-untyped-def]
    k = values.shape[1]
    for level in range(len(starts) - 1):
        first, last = starts[level], starts[level + 1]
        for a in range(first, last):
            for i in range(k):
                moved = 0.0
                for j in range(k):
                    moved += kernels[level, i, j] * values[a, j]
                if moved == 0.0:
                    continue
                row = columns[a]
                for b in range(first, a + 1):
                    result[row, columns[b]] -= moved * values[b, i]
