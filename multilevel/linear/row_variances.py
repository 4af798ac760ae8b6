"""Variances of many rows that touch little: in compiled loops, one row at a time, without any matrix of rows being made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.linear.small_blocks import column_slices

if TYPE_CHECKING:
    from multilevel.linear.factorise import BlockedFactor, BlockedSystem

MANY_ENTRIES = 20_000
"""Entries of rows from which loading compiled loops saves time."""

SPARSE_ROWS = 4
"""Rows with fewer than one entry in so many go through the covariance entry by entry, the others through its root."""


def coefficient_places(system: BlockedSystem) -> Integers:
    """(p + q,) of every effect, its column of the rest, or q_r plus its place among the first eliminated factor's, level-major; -1 of
    coefficients, and of effects that the chain eliminates."""
    found = np.full(system.n_population + system.n_effects, -1, dtype=np.int64)
    ends = system.n_population + np.cumsum([0, *(levels * k for levels, k in system.sizes)])
    for index, start in zip(system.rest, system.rest_starts, strict=False):
        found[ends[index] : ends[index + 1]] = start + np.arange(ends[index + 1] - ends[index])
    levels, k = system.own.shape[:2]
    own = system.rest_starts[-1] + np.arange(levels * k).reshape(levels, k)
    for index, here in column_slices(system.sizes, system.merged):
        found[ends[index] : ends[index + 1]] = own[:, here].ravel()
    return found


def goes_row_by_row(factor: BlockedFactor, rows: csr_array) -> bool:
    """Whether compiled loops are quicker: many rows that touch few columns of the rest, themselves and through the one eliminated
    factor."""
    system = factor.system
    if rows.nnz < MANY_ENTRIES or not system.merged or factor.chain or system.cross.is_full:
        return False
    on_own = np.count_nonzero(system.coefficient_places[rows.indices] >= system.rest_starts[-1])
    each = len(system.cross.columns) / max(len(system.own), 1)
    return bool((rows.nnz + on_own * each) * SPARSE_ROWS < rows.shape[0] * len(factor.root))


def row_by_row(factor: BlockedFactor, rows: csr_array) -> Floats:
    """(m,) variances over sigma^2 of ``rows @ (beta, b)`` (m, p + q), without any of beta's own."""
    from multilevel.linear.row_loops import variances

    system, found = factor.system, np.empty(rows.shape[0])
    cross, inverse = system.cross, np.ascontiguousarray(system.inverse_triangle)
    entries, products = (rows.indptr, rows.indices, rows.data), (cross.starts, cross.columns, cross.values)
    covariance = np.ascontiguousarray(factor.rest_covariance)
    variances(*entries, system.coefficient_places, inverse, *products, factor.kernels, covariance, factor.level_spreads, found)
    return found
