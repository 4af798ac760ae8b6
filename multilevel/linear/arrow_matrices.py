"""Eliminated factors as sparse matrices, for products with any rows of coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.linear.chain import Upward
from multilevel.linear.products import CrossProducts


@dataclass(frozen=True)
class EliminatedMatrices:
    """An eliminated factor in sparse matrices: places (L k, p + q) of its effects; kernels (L k, L k); cross (L k, q_r + p) with [Z_r Q];
    links (L k, Lt kt) with every factor eliminated after it."""

    places: csr_array
    kernels: csr_array
    cross: csr_array
    links: tuple[csr_array, ...]


def level_rows(cross: CrossProducts, width: int) -> csr_array:
    """(L * k, width - 1) sparse Z_e'[Z_r Q], level-major."""
    k, levels = cross.values.shape[1], len(cross.starts) - 1
    if k == 1:
        # columns that a level does not touch, and the last one, are left out
        kept = (cross.values[:, 0] != 0.0) & (cross.columns < width - 1)
        starts = np.concatenate([[0], np.cumsum(kept)])[cross.starts]
        return csr_array((cross.values[kept, 0], cross.columns[kept], starts), shape=(levels, width - 1))
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
