"""Products of sparse rows that have most of their columns: averages under a curved link touch every level of the other factors.

A sparse product goes from entry to entry; where many entries are there, dense pieces of bounded size are quicker.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats

DENSE_SHARE = 0.1
"""Share of entries that are there from which dense pieces are quicker."""

FULL_ENOUGH = 4
"""A matrix with more than one entry in so many non-zero is multiplied as a dense one."""

NARROW = 2_000
"""Columns of a matrix up to which it does not matter that some are empty."""

VALUES_AT_ONCE = 4_000_000
"""Doubles of a dense piece: 32 MB."""


def times(rows: csr_array, matrix: csr_array) -> csr_array:
    """``rows @ matrix`` for ``rows`` (m, n) and ``matrix`` (n, w)."""
    m, n = rows.shape
    if not _is_dense(rows) or m == 0:
        return csr_array(rows @ matrix)
    if matrix.shape[1] <= NARROW:
        step = max(1, VALUES_AT_ONCE // max(n, 1))
        pieces = [(matrix.T @ rows[at : at + step].T.toarray()).T for at in range(0, m, step)]
        return csr_array(np.concatenate(pieces))
    # most columns of a wide matrix may be empty: the dense product has the others only
    is_used = np.zeros(matrix.shape[1], dtype=np.bool_)
    is_used[matrix.indices] = True
    used = np.flatnonzero(is_used)
    narrow = csr_array((matrix.data, (np.cumsum(is_used) - 1)[matrix.indices], matrix.indptr), shape=(n, len(used)))
    step = max(1, VALUES_AT_ONCE // max(n, len(used), 1))
    pieces = [(narrow.T @ rows[at : at + step].T.toarray()).T for at in range(0, m, step)]
    found = csr_array(np.concatenate(pieces))
    return csr_array((found.data, used[found.indices], found.indptr), shape=(m, matrix.shape[1]))


def inner_products(rows: csr_array, others: csr_array) -> Floats:
    """(m, k) ``rows @ others.T`` for ``rows`` (m, n) and ``others`` (k, n)."""
    if not (_is_dense(rows) and _is_dense(others)):
        return np.asarray((rows @ others.T).todense())
    (m, n), k = rows.shape, others.shape[0]
    left, right = rows.tocsc(), others.tocsc()
    found = np.zeros((m, k))
    step = max(1, VALUES_AT_ONCE // max(m, k))
    for at in range(0, n, step):
        found += left[:, at : at + step].toarray() @ right[:, at : at + step].toarray().T
    return found


def _is_dense(rows: csr_array) -> bool:
    return bool(rows.nnz > DENSE_SHARE * rows.shape[0] * rows.shape[1])


def product(rows: csr_array, matrix: Floats) -> Floats:
    """``rows @ matrix`` (n, m), by dense products where few entries are zero."""
    is_full = rows.nnz * FULL_ENOUGH > rows.shape[0] * rows.shape[1]
    return np.asarray((rows.toarray() if is_full else rows) @ matrix)


def bilinear_forms(rows: csr_array, others: csr_array, matrix: Floats) -> Floats:
    """(m,) y_i' M x_i for the sparse rows x_i of ``rows`` (m, w) and y_i of ``others`` (m, l), with M the dense ``matrix`` (l, w).

    Fast where the rows of ``others`` have few entries.
    """
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    spans, found = np.diff(others.indptr), np.zeros(rows.shape[0])
    for at in range(int(spans.max(initial=0))):
        has = spans > at
        place = others.indptr[:-1][has] + at
        of_row, value = np.zeros(rows.shape[0], np.int64), np.zeros(rows.shape[0])
        of_row[has], value[has] = others.indices[place], others.data[place]
        found += value * np.bincount(row, rows.data * matrix[of_row[row], rows.indices], minlength=rows.shape[0])
    return found
