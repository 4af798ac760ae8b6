"""Compiled cross-products of reduced rows: the eliminated factor's by level, the rest's as one dense matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from multilevel.arrays import Codes, Floats, Integers
from multilevel.design.reduction import ReducedBlock


@dataclass(frozen=True)
class CrossProducts:
    """Sparse rows of Z_e'[Z_r Q r] by level: level j touches ``columns[starts[j]:starts[j+1]]``, sorted, with ``values`` (nnz, k)."""

    starts: Integers
    columns: Integers
    values: Floats


@dataclass(frozen=True)
class RestColumns:
    """[Z_r Q r] row by row: ``columns`` (R, s) and ``values`` (R, s) of Z_r, ``dense`` (R, p + 1) of [Q r]; ``n_sparse`` is q_r."""

    columns: Codes
    values: Floats
    dense: Floats
    n_sparse: int

    @property
    def width(self) -> int:
        """m = q_r + p + 1."""
        return self.n_sparse + self.dense.shape[1]


def rest_columns(blocks: list[ReducedBlock], dense: Floats) -> RestColumns:
    """The blocks' columns beside each other, then ``dense`` (R, p + 1)."""
    columns, values, start = [], [], 0
    for block in blocks:
        k = block.values.shape[1]
        columns.append((start + block.codes.astype(np.int64)[:, None] * k + np.arange(k)).astype(np.int32))
        values.append(block.values)
        start += block.n_levels * k
    n = len(dense)
    return RestColumns(
        np.hstack(columns) if columns else np.zeros((n, 0), np.int32),
        np.ascontiguousarray(np.hstack(values)) if values else np.zeros((n, 0)),
        np.ascontiguousarray(dense),
        start,
    )


def rest_gram(rest: RestColumns) -> Floats:
    """(m, m) [Z_r Q r]'[Z_r Q r]."""
    gram = np.zeros((rest.width, rest.width))
    _accumulate_gram(rest.columns, rest.values, rest.dense, gram)
    gram[rest.n_sparse :, rest.n_sparse :] = rest.dense.T @ rest.dense
    mirror(gram)
    return gram


def eliminated_products(block: ReducedBlock, rest: RestColumns) -> tuple[Floats, CrossProducts]:
    """(L, k, k) Z_e'Z_e by level and the sparse cross-products with the rest."""
    codes = block.codes.astype(np.int64)
    order, row_starts = _by_level(codes, block.n_levels)
    counts = _count_columns(order, row_starts, rest.columns, rest.values, rest.dense.shape[1], rest.n_sparse)
    starts = np.concatenate([[0], np.cumsum(counts)])
    k = block.values.shape[1]
    columns, values = np.empty(starts[-1], np.int64), np.zeros((starts[-1], k))
    own = np.zeros((block.n_levels, k, k))
    _fill_columns(order, row_starts, rest.columns, rest.values, rest.dense.shape[1], starts, columns, rest.n_sparse)
    own_values = np.ascontiguousarray(block.values)
    _fill_values(order, row_starts, own_values, rest.columns, rest.values, rest.dense, starts, columns, values, own, rest.n_sparse)
    return own, CrossProducts(starts, columns, values)


@njit(cache=True)
def mirror(matrix):  # type: ignore[no-untyped-def]
    """Copy the lower triangle onto the upper one, in place."""
    for i in range(len(matrix)):
        for j in range(i):
            matrix[j, i] = matrix[i, j]


@njit(cache=True)
def _by_level(codes, n_levels):  # type: ignore[no-untyped-def]
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
def _accumulate_gram(columns, values, dense, gram):  # type: ignore[no-untyped-def]
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


@njit(cache=True)
def _count_columns(order, row_starts, columns, values, n_dense, q):  # type: ignore[no-untyped-def]
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


@njit(cache=True)
def _fill_columns(order, row_starts, columns, values, n_dense, starts, out_columns, q):  # type: ignore[no-untyped-def]
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


@njit(cache=True)
def _fill_values(order, row_starts, own_values, columns, values, dense, starts, out_columns, out_values, own, q):  # type: ignore[no-untyped-def]
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
