"""Eliminated factors as sparse matrices, for products with any rows of coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, vstack

from multilevel.arrays import Floats, Integers
from multilevel.fit.row_products import product, times
from multilevel.linear.chain import Upward
from multilevel.linear.products import CrossProducts

MANY_ENTRIES = 5_000_000
"""Cross-products of which a copy, 12 bytes each, costs more than every product's column for the outcome."""


@dataclass(frozen=True)
class EliminatedMatrices:
    """An eliminated factor in sparse matrices: places (L k, p + q) of its effects; kernels (L k, L k); cross (L k, q_r + p), or with one
    column more, that of the outcome; links (L k, Lt kt) with every factor eliminated after it; width is q_r + p."""

    places: csr_array
    kernels: csr_array
    cross: csr_array
    links: tuple[csr_array, ...]
    width: int

    def on_rest(self, moved: csr_array) -> csr_array:
        """(n, q_r + p) ``moved`` (n, L k) times the cross-products with [Z_r Q]."""
        found = times(narrowed(moved), self.cross)
        return found if found.shape[1] == self.width else csr_array(found[:, : self.width])

    def from_rest(self, rest: Floats) -> Floats:
        """(L k, n) the cross-products with [Z_r Q] times ``rest`` (q_r + p, n)."""
        more = self.cross.shape[1] - self.width
        return product(self.cross, np.vstack([rest, np.zeros((more, rest.shape[1]))]) if more else rest)

    def times_rest(self, onto: csr_array) -> csr_array:
        """(L k, n) the cross-products with [Z_r Q] times ``onto`` (q_r + p, n)."""
        more = self.cross.shape[1] - self.width
        return csr_array(self.cross @ (narrowed(csr_array(vstack([onto, csr_array((more, onto.shape[1]))]))) if more else onto))


def narrowed(matrix: csr_array) -> csr_array:
    """The same with indices of 32 bits where they fit: a product copies the indices of the narrower of two matrices."""
    most = np.iinfo(np.int32).max
    if max(*matrix.shape, matrix.nnz) > most:
        return matrix
    return csr_array((matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)), shape=matrix.shape)


def level_rows(cross: CrossProducts, width: int) -> csr_array:
    """(L * k, width - 1) sparse Z_e'[Z_r Q], level-major; where there are ``MANY_ENTRIES`` of one column a level, (L, width), with the
    outcome: the cross-products themselves, not a copy."""
    k, levels = cross.values.shape[1], len(cross.starts) - 1
    if k == 1 and not cross.is_full and len(cross.columns) > MANY_ENTRIES:
        [own] = cross.matrices(width)
        return own
    if k == 1:
        # columns that a level does not touch, and the last one, are left out
        kept = (cross.values[:, 0] != 0.0) & (cross.columns < width - 1)
        starts = np.concatenate([[0], np.cumsum(kept)])[cross.starts]
        return narrowed(csr_array((cross.values[kept, 0], cross.columns[kept], starts), shape=(levels, width - 1)))
    level = np.repeat(np.arange(levels), np.diff(cross.starts))
    rows = (level[:, None] * k + np.arange(k)).ravel()
    found = csr_array((cross.values.ravel(), (rows, np.repeat(cross.columns, k))), shape=(levels * k, width))[:, : width - 1]
    if cross.is_full:  # columns that a level does not touch
        found.eliminate_zeros()
    return found


def level_links(up: Upward, sizes: Sequence[int]) -> tuple[csr_array, ...]:
    """Per factor above, with ``sizes`` effects, (L * k, Lt * kt) sparse Z_l'Z_t."""
    found = []
    for ancestors, link, size in zip(up.ancestors, up.links, sizes, strict=True):
        levels, k, kt = link.shape
        columns = np.repeat(ancestors[:, None] * kt + np.arange(kt), k, axis=0).ravel()
        found.append(csr_array((link.ravel(), columns, np.arange(0, levels * k * kt + 1, kt)), shape=(levels * k, size)))
    return tuple(found)


def block_diagonal(blocks: Floats) -> csr_array:
    """(L * k, L * k) from (L, k, k)."""
    k = int(blocks.shape[1]) if len(blocks) else 0
    n = len(blocks) * k
    columns = np.repeat(np.arange(n).reshape(-1, k), k, axis=0) if k else np.zeros(0, np.int64)
    return csr_array((blocks.ravel(), columns.ravel(), np.arange(0, n * k + 1, k) if k else np.zeros(1, np.int64)), shape=(n, n))


def picker(places: Integers, total: int) -> csr_array:
    """(n, total) sparse map that picks the columns at ``places`` (n,)."""
    n = len(places)
    return csr_array((np.ones(n), (np.arange(n), places)), shape=(n, total))
