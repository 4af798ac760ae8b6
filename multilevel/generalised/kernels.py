"""Compiled loops over reduced rows: weighted cross-products on a fixed pattern, and the conditional variance of each row's predictor."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def accumulate(weights, codes, own_values, rest_columns, rest_values, basis, positions, own, cross, gram):  # type: ignore[no-untyped-def]
    """Add every row's weighted cross-products to ``own`` (L, k, k), ``cross`` (nnz, k) and the lower triangle of ``gram`` (m, m)."""
    k, s, p = own_values.shape[1], rest_columns.shape[1], basis.shape[1]
    q = gram.shape[0] - p - 1
    for r in range(len(weights)):
        level = codes[r]
        for i in range(k):
            scaled = weights[r] * own_values[r, i]
            if scaled == 0.0:
                continue
            for j in range(i + 1):
                own[level, i, j] += scaled * own_values[r, j]
            for a in range(s):
                if positions[r, a] >= 0:
                    cross[positions[r, a], i] += scaled * rest_values[r, a]
            for c in range(p):
                if positions[r, s + c] >= 0:
                    cross[positions[r, s + c], i] += scaled * basis[r, c]
        for a in range(s):
            scaled = weights[r] * rest_values[r, a]
            if scaled == 0.0:
                continue
            row = rest_columns[r, a]
            for b in range(a + 1):
                gram[row, rest_columns[r, b]] += scaled * rest_values[r, b]
            for c in range(p):
                gram[q + c, row] += scaled * basis[r, c]


@njit(cache=True)
def own_variances(starts, columns, cross, kernels, covariance):  # type: ignore[no-untyped-def]
    """(L, k, k) Var(b_e) = K + K H C H' K of each eliminated level, and (nnz, k) C H' on the pattern of H."""
    k, q = cross.shape[1], covariance.shape[0]
    moved = np.zeros(cross.shape)
    whole = kernels.copy()
    for level in range(len(starts) - 1 if k else 0):
        first, last = starts[level], starts[level + 1]
        spread = np.zeros((k, k))
        for a in range(first, last):
            if columns[a] >= q:
                break
            for b in range(first, last):
                if columns[b] >= q:
                    break
                size = covariance[columns[a], columns[b]]
                for i in range(k):
                    moved[a, i] += cross[b, i] * size
            for i in range(k):
                for j in range(k):
                    spread[i, j] += cross[a, j] * moved[a, i]
        whole[level] += kernels[level] @ spread @ kernels[level]
    return whole, moved


@njit(cache=True)
def leverages(codes, own_values, rest_columns, rest_values, positions, kernels, whole, moved, covariance):  # type: ignore[no-untyped-def]
    """(R,) variance of z'b given theta and beta; ``whole`` and ``moved`` from ``own_variances``.

    With b_e = K (r - H b_r) + noise of variance K: z'Var(b)z = z_e'Var(b_e)z_e - 2 z_r' C H' K z_e + z_r' C z_r.
    """
    n, k, s = len(codes), own_values.shape[1], rest_columns.shape[1]
    result = np.zeros(n)
    scaled = np.zeros(k)
    for r in range(n):
        level = codes[r]
        total = 0.0
        for i in range(k):
            scaled[i] = 0.0
            for j in range(k):
                scaled[i] += kernels[level, i, j] * own_values[r, j]
                total += own_values[r, i] * whole[level, i, j] * own_values[r, j]
        for a in range(s):
            value = rest_values[r, a]
            if value == 0.0:
                continue
            for b in range(s):
                total += value * covariance[rest_columns[r, a], rest_columns[r, b]] * rest_values[r, b]
            if positions[r, a] >= 0:
                for i in range(k):
                    total -= 2.0 * value * scaled[i] * moved[positions[r, a], i]
        result[r] = total
    return result


@njit(cache=True)
def cross_times(starts, columns, cross, vector):  # type: ignore[no-untyped-def]
    """(L, k) H v, for v (m,) over the rest's columns."""
    levels, k = len(starts) - 1, cross.shape[1]
    result = np.zeros((levels, k))
    for level in range(levels):
        for a in range(starts[level], starts[level + 1]):
            if columns[a] < len(vector):
                for i in range(k):
                    result[level, i] += cross[a, i] * vector[columns[a]]
    return result


@njit(cache=True)
def transposed_times(starts, columns, cross, values, size):  # type: ignore[no-untyped-def]
    """(size,) H'v, for v (L, k)."""
    result = np.zeros(size)
    for level in range(len(starts) - 1):
        for a in range(starts[level], starts[level + 1]):
            if columns[a] < size:
                for i in range(cross.shape[1]):
                    result[columns[a]] += cross[a, i] * values[level, i]
    return result


@njit(cache=True)
def effects_of_rows(codes, own_values, rest_columns, rest_values, own, rest, total):  # type: ignore[no-untyped-def]
    """Add Z b to ``total`` (R,), for effects own (L, k) and rest (q_r,)."""
    for r in range(len(codes)):
        value = 0.0
        for a in range(rest_columns.shape[1]):
            value += rest_values[r, a] * rest[rest_columns[r, a]]
        for i in range(own_values.shape[1]):
            value += own_values[r, i] * own[codes[r], i]
        total[r] += value


@njit(cache=True)
def sums_of_rows(codes, own_values, rest_columns, rest_values, values, own, rest):  # type: ignore[no-untyped-def]
    """Add Z'values to own (L, k) and rest (q_r,), for ``values`` (R,)."""
    for r in range(len(codes)):
        for a in range(rest_columns.shape[1]):
            rest[rest_columns[r, a]] += rest_values[r, a] * values[r]
        for i in range(own_values.shape[1]):
            own[codes[r], i] += own_values[r, i] * values[r]
