"""Compiled loops over reduced rows: weighted cross-products on a fixed pattern, and the conditional variance of each row's predictor."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def accumulate_level(weights, codes, values, rest_columns, rest_values, basis, positions, own, cross):  # type: ignore[no-untyped-def]
    """Add every row's weighted cross-products of one eliminated factor to ``own`` (L, k, k), lower triangles, and ``cross`` (nnz, k)."""
    k, s, p = values.shape[1], rest_columns.shape[1], basis.shape[1]
    for r in range(len(weights)):
        level = codes[r]
        for i in range(k):
            scaled = weights[r] * values[r, i]
            if scaled == 0.0:
                continue
            for j in range(i + 1):
                own[level, i, j] += scaled * values[r, j]
            for a in range(s):
                if positions[r, a] >= 0:
                    cross[positions[r, a], i] += scaled * rest_values[r, a]
            for c in range(p):
                if positions[r, s + c] >= 0:
                    cross[positions[r, s + c], i] += scaled * basis[r, c]


@njit(cache=True, nogil=True)
def accumulate_link(weights, codes, values, above, link):  # type: ignore[no-untyped-def]
    """Add every row's weighted products of a factor's columns with those of one eliminated after it to ``link`` (L, k, kt)."""
    for r in range(len(weights)):
        level = codes[r]
        for i in range(values.shape[1]):
            scaled = weights[r] * values[r, i]
            for j in range(above.shape[1]):
                link[level, i, j] += scaled * above[r, j]


@njit(cache=True, nogil=True)
def accumulate_rest(weights, rest_columns, rest_values, basis, gram):  # type: ignore[no-untyped-def]
    """Add every row's weighted products of the rest to the lower triangle of ``gram`` (m, m); those of ``basis`` with itself are left
    out."""
    s, p = rest_columns.shape[1], basis.shape[1]
    q = gram.shape[0] - p - 1
    for r in range(len(weights)):
        for a in range(s):
            scaled = weights[r] * rest_values[r, a]
            if scaled == 0.0:
                continue
            row = rest_columns[r, a]
            for b in range(a + 1):
                gram[row, rest_columns[r, b]] += scaled * rest_values[r, b]
            for c in range(p):
                gram[q + c, row] += scaled * basis[r, c]


@njit(cache=True, nogil=True)
def add_predictors(columns, values, coefficients, total):  # type: ignore[no-untyped-def]
    """Add to ``total`` (R,) every row's ``values`` (R, s) times the ``coefficients`` (q,) of its ``columns`` (R, s)."""
    for r in range(len(total)):
        for a in range(columns.shape[1]):
            total[r] += values[r, a] * coefficients[columns[r, a]]


@njit(cache=True, nogil=True)
def add_level_predictors(codes, values, effects, total):  # type: ignore[no-untyped-def]
    """Add to ``total`` (R,) every row's ``values`` (R, k) times its level's ``effects`` (L, k)."""
    for r in range(len(total)):
        for i in range(values.shape[1]):
            total[r] += values[r, i] * effects[codes[r], i]


@njit(cache=True, nogil=True)
def add_to_columns(columns, values, scores, result):  # type: ignore[no-untyped-def]
    """Add every row's ``values`` (R, s) times its score to its ``columns`` (R, s) of ``result`` (q,)."""
    for r in range(len(scores)):
        for a in range(columns.shape[1]):
            result[columns[r, a]] += values[r, a] * scores[r]


@njit(cache=True, nogil=True)
def add_to_levels(codes, values, scores, result):  # type: ignore[no-untyped-def]
    """Add every row's ``values`` (R, k) times its score to its level of ``result`` (L, k)."""
    for r in range(len(scores)):
        for i in range(values.shape[1]):
            result[codes[r], i] += values[r, i] * scores[r]


@njit(cache=True, nogil=True)
def find_positions(starts, pattern, codes, columns):  # type: ignore[no-untyped-def]
    """(R, s) place of each of a row's ``columns`` (R, s) in the sorted ``pattern`` of its level, -1 where it is not there."""
    found = np.full(columns.shape, -1, np.int64)
    for r in range(len(codes)):
        first, last = starts[codes[r]], starts[codes[r] + 1]
        for a in range(columns.shape[1]):
            low, high = first, last
            while low < high:
                middle = (low + high) // 2
                if pattern[middle] < columns[r, a]:
                    low = middle + 1
                else:
                    high = middle
            if low < last and pattern[low] == columns[r, a]:
                found[r, a] = low
    return found


@njit(cache=True, nogil=True)
def rest_variance(columns, values, covariance):  # type: ignore[no-untyped-def]
    """(R,) z'Cz of every row's columns of the rest."""
    n, s = columns.shape
    result = np.zeros(n)
    for r in range(n):
        for a in range(s):
            value = values[r, a]
            if value == 0.0:
                continue
            moved = 0.5 * covariance[columns[r, a], columns[r, a]] * value
            for b in range(a):
                moved += covariance[columns[r, a], columns[r, b]] * values[r, b]
            result[r] += 2.0 * value * moved
    return result


@njit(cache=True, nogil=True)
def add_level_variance(codes, values, rest_values, positions, own, cross, result):  # type: ignore[no-untyped-def]
    """Add to ``result`` (R,) the variance of each row's part of one eliminated factor and twice its covariance with the rest's part:
    ``own`` (L, k, k) and ``cross`` (nnz, k) are the levels' covariances."""
    for r in range(len(codes)):
        level = codes[r]
        for i in range(values.shape[1]):
            value = values[r, i]
            if value == 0.0:
                continue
            total = 0.0
            for j in range(values.shape[1]):
                total += own[level, i, j] * values[r, j]
            for a in range(rest_values.shape[1]):
                if positions[r, a] >= 0:
                    total += 2.0 * cross[positions[r, a], i] * rest_values[r, a]
            result[r] += value * total


@njit(cache=True, nogil=True)
def add_link_covariance(codes, values, above, link, result):  # type: ignore[no-untyped-def]
    """Add to ``result`` (R,) twice the covariance of each row's parts of two eliminated factors; ``link`` (L, k, kt) is the levels'."""
    for r in range(len(codes)):
        for i in range(values.shape[1]):
            total = 0.0
            for j in range(above.shape[1]):
                total += link[codes[r], i, j] * above[r, j]
            result[r] += 2.0 * values[r, i] * total


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def transposed_times(starts, columns, cross, values, size):  # type: ignore[no-untyped-def]
    """(size,) H'v, for v (L, k)."""
    result = np.zeros(size)
    for level in range(len(starts) - 1):
        for a in range(starts[level], starts[level + 1]):
            if columns[a] < size:
                for i in range(cross.shape[1]):
                    result[columns[a]] += cross[a, i] * values[level, i]
    return result
