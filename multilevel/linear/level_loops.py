"""Compiled loops over the levels of an eliminated factor, for problems too large for plain arrays: loading them takes over a second."""

from __future__ import annotations

import numpy as np
from numba import njit


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
def conditional_roots(own, factor):  # type: ignore[no-untyped-def]
    """(L, k, k) A_j with A_j A_j' = K_j, and the sum of log |Lambda' G_j Lambda + I|; no numbers where there is no such factor."""
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
def add(total, starts, columns, values, kernels, levels):  # type: ignore[no-untyped-def]
    """Add sum_j H_j' K_j H_j over ``levels`` to the lower triangle of ``total`` (m, m), in place."""
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
def spread_scalar(starts, columns, values, covariance, levels, result):  # type: ignore[no-untyped-def]
    """``spread`` for one column a level."""
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
def spread(starts, columns, values, covariance, levels, result):  # type: ignore[no-untyped-def]
    """Put H_j C H_j' of every level in ``levels`` into ``result`` (n, k, k)."""
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
def scores(starts, columns, values, coefficients, levels, result):  # type: ignore[no-untyped-def]
    """Put H_j c of every level in ``levels`` into ``result`` (n, k)."""
    for at in range(len(levels)):
        level = levels[at]
        for a in range(starts[level], starts[level + 1]):
            for i in range(values.shape[1]):
                result[at, i] += values[a, i] * coefficients[columns[a]]


@njit(cache=True, nogil=True)
def by_level(codes, n_levels):  # type: ignore[no-untyped-def]
    """(R,) rows ordered by level, and (L + 1,) where each level begins among them."""
    starts = np.zeros(n_levels + 1, np.int64)
    for code in codes:
        starts[code + 1] += 1
    for level in range(n_levels):
        starts[level + 1] += starts[level]
    place = starts[:-1].copy()
    order = np.empty(len(codes), np.int64)
    for r in range(len(codes)):
        order[place[codes[r]]] = r
        place[codes[r]] += 1
    return order, starts


@njit(cache=True)
def accumulate_gram(columns, values, dense, gram):  # type: ignore[no-untyped-def]
    """Add the rows' products to the lower triangle of ``gram`` (m, m); those of ``dense`` with itself are left out."""
    s, d = columns.shape[1], dense.shape[1]
    q = len(gram) - d
    for r in range(len(columns)):
        for a in range(s):
            value = values[r, a]
            if value == 0.0:
                continue
            i = columns[r, a]
            for b in range(a + 1):
                gram[i, columns[r, b]] += value * values[r, b]
            for c in range(d):
                gram[q + c, i] += value * dense[r, c]


@njit(cache=True, nogil=True)
def count_columns(order, row_starts, columns, values, n_dense, q):  # type: ignore[no-untyped-def]
    """(L,) columns of [Z_r Q r] that each level touches, of the levels whose ``row_starts`` (L + 1,) are given."""
    n_levels = len(row_starts) - 1
    counts = np.full(n_levels, n_dense, np.int64)
    seen = np.full(q, -1, np.int64)
    for level in range(n_levels):
        for at in range(row_starts[level], row_starts[level + 1]):
            r = order[at]
            for a in range(columns.shape[1]):
                if values[r, a] != 0.0 and seen[columns[r, a]] != level:
                    seen[columns[r, a]] = level
                    counts[level] += 1
    return counts


@njit(cache=True, nogil=True)
def fill_columns(order, row_starts, columns, values, n_dense, starts, out_columns, q):  # type: ignore[no-untyped-def]
    """Put the columns that each level touches into ``out_columns`` (nnz,), sorted."""
    seen = np.full(q, -1, np.int64)
    for level in range(len(starts) - 1):
        first, last = starts[level], starts[level + 1] - n_dense
        n = first
        for at in range(row_starts[level], row_starts[level + 1]):
            r = order[at]
            for a in range(columns.shape[1]):
                if values[r, a] != 0.0 and seen[columns[r, a]] != level:
                    seen[columns[r, a]] = level
                    out_columns[n] = columns[r, a]
                    n += 1
        out_columns[first:last] = np.sort(out_columns[first:last])
        for c in range(n_dense):
            out_columns[last + c] = q + c


@njit(cache=True, nogil=True)
def fill_values(order, row_starts, own_values, columns, values, dense, starts, out_columns, out_values, own, q):  # type: ignore[no-untyped-def]
    """Add every row's products to ``out_values`` (nnz, k) and ``own`` (L, k, k)."""
    k, d = own.shape[1], dense.shape[1]
    place = np.empty(q, np.int64)
    for level in range(len(own)):
        last = starts[level + 1] - d
        for a in range(starts[level], last):
            place[out_columns[a]] = a
        for at in range(row_starts[level], row_starts[level + 1]):
            r = order[at]
            for i in range(k):
                value = own_values[r, i]
                if value == 0.0:
                    continue
                for j in range(k):
                    own[level, i, j] += value * own_values[r, j]
                for a in range(columns.shape[1]):
                    if values[r, a] != 0.0:
                        out_values[place[columns[r, a]], i] += value * values[r, a]
                for c in range(d):
                    out_values[last + c, i] += value * dense[r, c]


@njit(cache=True, nogil=True)
def project_out(codes, value, size, column):  # type: ignore[no-untyped-def]
    """Take from ``column`` (R,), in place, its projection on ``value`` (R,) level by level; ``size`` (L,) the sums of squares of that."""
    sums = np.zeros(len(size))
    for r in range(len(column)):
        sums[codes[r]] += value[r] * column[r]
    for level in range(len(size)):
        sums[level] /= size[level]
    for r in range(len(column)):
        column[r] -= value[r] * sums[codes[r]]
