"""Products of sparse rows that have most of their columns: averages under a curved link touch every level of the other factors.

A sparse product goes from entry to entry; where many entries are there, dense pieces of bounded size are quicker.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats

DENSE_SHARE = 0.1
"""Share of entries that are there from which dense pieces are quicker."""

VALUES_AT_ONCE = 4_000_000
"""Doubles of a dense piece: 32 MB."""


def times(rows: csr_array, matrix: csr_array) -> csr_array:
    """``rows @ matrix`` for ``rows`` (m, n) and ``matrix`` (n, w)."""
    m, n = rows.shape
    if not _is_dense(rows) or m == 0:
        return csr_array(rows @ matrix)
    turned = csr_array(matrix.T)
    step = max(1, VALUES_AT_ONCE // max(n, matrix.shape[1]))
    found = np.concatenate([(turned @ rows[at : at + step].T.toarray()).T for at in range(0, m, step)])
    return csr_array(found)


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
