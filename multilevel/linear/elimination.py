"""Level-by-level elimination of the largest factor, compiled."""

from __future__ import annotations

from typing import cast

import numpy as np
from numba import njit

from multilevel.arrays import Floats, Integers
from multilevel.linear.products import CrossProducts, mirror


def conditional_blocks(own: Floats, factor: Floats) -> tuple[Floats, float]:
    """K_j = Lambda (Lambda' G_j Lambda + I)^-1 Lambda' for every level (L, k, k), and the sum of log |Lambda' G_j Lambda + I|."""
    if not len(own):
        return own, 0.0
    if own.shape[1] == 1:
        scale = factor[0, 0] ** 2
        denominator = 1.0 + scale * own
        return scale / denominator, float(np.sum(np.log(denominator)))
    roots, log_det = _conditional_roots(own, np.ascontiguousarray(factor))
    return roots @ roots.transpose(0, 2, 1), float(log_det)


def conditional_roots(own: Floats, factor: Floats) -> Floats:
    """(L, k, k) A_j with A_j A_j' = K_j of ``conditional_blocks``; singular where Lambda is."""
    if own.shape[1] == 1:
        return np.sqrt(conditional_blocks(own, factor)[0])
    return cast(Floats, _conditional_roots(own, np.ascontiguousarray(factor))[0])


def add_products(total: Floats, cross: CrossProducts, kernels: Floats, levels: Integers) -> None:
    """Add sum_j H_j' K_j H_j over ``levels`` to the lower triangle of ``total`` (m, m), in place."""
    if len(levels):
        _add(total, cross.starts, cross.columns, cross.values, kernels, levels)


def spreads(cross: CrossProducts, covariance: Floats, levels: Integers) -> Floats:
    """(len(levels), k, k) H_j C H_j' for symmetric ``covariance`` C (w, w) of the first w columns of the cross-products."""
    result = np.zeros((len(levels), cross.values.shape[1], cross.values.shape[1]))
    if len(levels):
        kernel = _spread_scalar if result.shape[1] == 1 else _spread
        kernel(cross.starts, cross.columns, cross.values, covariance, levels, result)
    return result


def scores(cross: CrossProducts, coefficients: Floats, levels: Integers) -> Floats:
    """(len(levels), k) H_j c for ``coefficients`` c (m,)."""
    result = np.zeros((len(levels), cross.values.shape[1]))
    if len(levels):
        _scores(cross.starts, cross.columns, cross.values, coefficients, levels, result)
    return result


def schur_complement(gram: Floats, cross: CrossProducts, kernels: Floats) -> Floats:
    """gram - sum_j H_j' K_j H_j over every level, symmetric (m, m)."""
    result = -gram
    add_products(result, cross, kernels, np.arange(len(kernels)))
    np.negative(result, out=result)
    mirror(result)
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def _to_lower_root(inner):  # type: ignore[no-untyped-def]
    """``inner`` (k, k) becomes L with L L' = inner; returns log |inner|. Where it has no such factor, it has no numbers either."""
    log_det = 0.0
    for i in range(len(inner)):
        for j in range(i + 1):
            size = inner[i, j]
            for a in range(j):
                size -= inner[i, a] * inner[j, a]
            inner[i, j] = np.sqrt(size) if i == j else size / inner[j, j]
        log_det += 2.0 * np.log(inner[i, i])
    return log_det


@njit(cache=True, nogil=True, error_model="numpy")
def _conditional_roots(own, factor):  # type: ignore[no-untyped-def]
    levels, k = own.shape[0], own.shape[1]
    roots = np.zeros((levels, k, k))
    moved, inner = np.empty((k, k)), np.empty((k, k))
    log_det = 0.0
    for level in range(levels):
        for i in range(k):  # inner = Lambda' G Lambda + I, its lower triangle
            for j in range(k):
                size = 0.0
                for a in range(k):
                    size += own[level, i, a] * factor[a, j]
                moved[i, j] = size
        for i in range(k):
            for j in range(i + 1):
                size = 1.0 if i == j else 0.0
                for a in range(k):
                    size += factor[a, i] * moved[a, j]
                inner[i, j] = size
        log_det += _to_lower_root(inner)
        for i in range(k):  # the root solves A L' = Lambda, row by row
            for j in range(k):
                size = factor[i, j]
                for a in range(j):
                    size -= roots[level, i, a] * inner[j, a]
                roots[level, i, j] = size / inner[j, j]
    return roots, log_det


@njit(cache=True, nogil=True)
def _add(total, starts, columns, values, kernels, levels):  # type: ignore[no-untyped-def]
    k = values.shape[1]
    for at in range(len(levels)):
        level = levels[at]
        first, last = starts[level], starts[level + 1]
        if k == 1:
            kernel = kernels[level, 0, 0]
            for a in range(first, last):
                moved = kernel * values[a, 0]
                row = columns[a]
                for b in range(first, a + 1):
                    total[row, columns[b]] += moved * values[b, 0]
            continue
        moved_all = np.empty(k)
        for a in range(first, last):
            row = columns[a]
            for i in range(k):
                moved_all[i] = 0.0
                for j in range(k):
                    moved_all[i] += kernels[level, i, j] * values[a, j]
            for b in range(first, a + 1):
                size = 0.0
                for i in range(k):
                    size += moved_all[i] * values[b, i]
                total[row, columns[b]] += size


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _spread_scalar(starts, columns, values, covariance, levels, result):  # type: ignore[no-untyped-def]
    for at in range(len(levels)):
        total = 0.0
        first = starts[levels[at]]
        for a in range(first, starts[levels[at] + 1]):
            row = columns[a]
            if row >= len(covariance):
                break
            moved = 0.5 * covariance[row, row] * values[a, 0]
            for b in range(first, a):
                moved += covariance[row, columns[b]] * values[b, 0]
            total += 2.0 * values[a, 0] * moved
        result[at, 0, 0] = total


@njit(cache=True, nogil=True)
def _spread(starts, columns, values, covariance, levels, result):  # type: ignore[no-untyped-def]
    k, width = values.shape[1], len(covariance)
    moved = np.empty(k)
    for at in range(len(levels)):
        level = levels[at]
        for a in range(starts[level], starts[level + 1]):
            row = columns[a]
            if row >= width:
                break
            for i in range(k):
                moved[i] = 0.5 * covariance[row, row] * values[a, i]
            for b in range(starts[level], a):
                size = covariance[row, columns[b]]
                for i in range(k):
                    moved[i] += size * values[b, i]
            for i in range(k):
                for j in range(k):
                    result[at, i, j] += values[a, i] * moved[j] + moved[i] * values[a, j]


@njit(cache=True, nogil=True)
def _scores(starts, columns, values, coefficients, levels, result):  # type: ignore[no-untyped-def]
    for at in range(len(levels)):
        level = levels[at]
        for a in range(starts[level], starts[level + 1]):
            for i in range(values.shape[1]):
                result[at, i] += values[a, i] * coefficients[columns[a]]
