"""Cross-products of reduced rows: the eliminated factor's by level, the rest's as one dense matrix.

Where every level touches most columns (crossed factors), each level keeps all of them and products are those of full matrices. Large
problems and sparse ones go through compiled loops, which are loaded only then.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Codes, Flags, Floats, Integers
from multilevel.design.reduction import ReducedBlock
from multilevel.threads import at_once

FEW_PRODUCTS = 5_000_000
"""Up to so many products of a row's entries, plain arrays are quicker than loading compiled loops."""

FEW_FLOPS = 2_000_000
"""Multiply-adds of one elimination by full matrices up to which nothing else is worth a thought."""

FULL_SHARE = 0.3
"""Share of the columns touched by a level from which full matrices are quicker than loops over what is touched."""

STAGE_SHARE = 0.1
"""The same for a factor eliminated after another: its covariances with the rest are needed too."""

LARGEST_FULL = 4_000_000
"""Numbers that full cross-products may hold; a product makes one copy of them."""

HEAVY_SHARE = 0.22
"""Share of the columns from which the product of one level is quicker as a full row, among others that are."""

LARGEST_HEAVY = 2_000_000
"""Numbers that such rows may hold."""

MIRROR_BLOCK = 256

MANY_ROWS = 100_000
"""Rows above which two threads share the levels."""


@dataclass(frozen=True)
class HeavyLevels:
    """Levels that touch many columns, as full rows: ``place`` (L,) of each level in ``rows`` (H, m), -1 for all others."""

    place: Integers
    rows: Floats


@dataclass(frozen=True)
class CrossProducts:
    """Sparse rows of Z_e'[Z_r Q r] by level: level j touches ``columns[starts[j]:starts[j+1]]``, sorted, with ``values`` (nnz, k).

    is_full : every level touches every column, those with zeros included.
    """

    starts: Integers
    columns: Codes
    values: Floats
    is_full: bool = False

    @cached_property
    def full(self) -> Floats:
        """(L, k, m) H_j of every level, where ``is_full``."""
        k = self.values.shape[1]
        return np.ascontiguousarray(self.values.reshape(len(self.starts) - 1, -1, k).transpose(0, 2, 1))

    @cached_property
    def heavy(self) -> HeavyLevels:
        """The levels of one column that touch at least ``HEAVY_SHARE`` of the others, the first ones where there are too many."""
        width = int(self.columns.max(initial=0)) + 1
        touched = np.diff(self.starts)
        levels = np.flatnonzero(touched >= HEAVY_SHARE * width)[: LARGEST_HEAVY // width]
        place = np.full(len(touched), -1)
        place[levels] = np.arange(len(levels))
        rows = np.zeros((len(levels), width))
        of_entry = np.repeat(place, touched)
        entries = of_entry >= 0
        rows[of_entry[entries], self.columns[entries]] = self.values[entries, 0]
        return HeavyLevels(place, rows)

    def part(self, levels: slice) -> CrossProducts:
        """Of a run of levels; shares their numbers."""
        if levels == slice(0, len(self.starts) - 1):
            return self
        starts = self.starts[levels.start : levels.stop + 1]
        here = slice(int(starts[0]), int(starts[-1]))
        return CrossProducts(starts - starts[0], self.columns[here], self.values[here], self.is_full)

    def matrices(self, width: int) -> list[csr_array]:
        """Per column of the eliminated factor, (L, m) sparse Z_e'[Z_r Q r]; ``width`` is m."""
        shape = (len(self.starts) - 1, width)
        return [csr_array((values, self.columns, self.pointers), shape=shape) for values in self.values.T]

    @cached_property
    def pointers(self) -> Codes | Integers:
        """``starts`` in the type of ``columns``, where they fit: sparse matrices copy whichever of the two is narrower."""
        fit = int(self.starts[-1]) <= np.iinfo(self.columns.dtype).max
        return self.starts.astype(self.columns.dtype) if fit else self.starts


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
    q, (n, s) = rest.n_sparse, rest.columns.shape
    if n * s * (s + rest.dense.shape[1]) <= FEW_PRODUCTS:
        for a in range(s):
            at, value = rest.columns[:, a].astype(np.int64), rest.values[:, a]
            for b in range(a + 1):
                np.add.at(gram, (at, rest.columns[:, b]), value * rest.values[:, b])
            for c in range(rest.dense.shape[1]):
                gram[q + c, :q] += np.bincount(at, value * rest.dense[:, c], q)
    else:
        from multilevel.linear.level_loops import accumulate_gram

        accumulate_gram(rest.columns, rest.values, rest.dense, gram)
    gram[q:, q:] = rest.dense.T @ rest.dense
    mirror(gram)
    return gram


def eliminated_products(block: ReducedBlock, rest: RestColumns, share: float = FULL_SHARE) -> tuple[Floats, CrossProducts]:
    """(L, k, k) Z_e'Z_e by level and the cross-products with the rest, in full where levels touch that ``share`` of the columns."""
    if _is_full(block, rest, share):
        return _full_products(block, rest)
    from multilevel.linear import level_loops

    codes = block.codes.astype(np.int64)
    order, row_starts = level_loops.by_level(codes, block.n_levels)
    k, d, q = block.values.shape[1], rest.dense.shape[1], rest.n_sparse
    counts, own, own_values = np.empty(block.n_levels, np.int64), np.zeros((block.n_levels, k, k)), np.ascontiguousarray(block.values)

    def count(some: slice, ends: slice) -> None:
        counts[some] = level_loops.count_columns(order, row_starts[ends], rest.columns, rest.values, d, q)

    def fill(some: slice, ends: slice) -> None:
        level_loops.fill_columns(order, row_starts[ends], rest.columns, rest.values, d, starts[ends], columns, q)
        level_loops.fill_values(
            order, row_starts[ends], own_values, rest.columns, rest.values, rest.dense, starts[ends], columns, values, own[some], q
        )

    shares = _shares(row_starts)
    at_once([partial(count, *share) for share in shares])
    starts = np.concatenate([[0], np.cumsum(counts)])
    columns, values = np.empty(starts[-1], np.int32), np.zeros((starts[-1], k))
    at_once([partial(fill, *share) for share in shares])
    return own, CrossProducts(starts, columns, values)


def _shares(row_starts: Integers) -> list[tuple[slice, slice]]:
    """The levels in two runs of about as many rows, with the places where levels begin and end; few rows in one."""
    n_levels, n_rows = len(row_starts) - 1, int(row_starts[-1])
    middle = int(np.searchsorted(row_starts, n_rows // 2)) if n_rows > MANY_ROWS else n_levels
    ends = [0, n_levels] if middle in (0, n_levels) else [0, middle, n_levels]
    return [(slice(a, b), slice(a, b + 1)) for a, b in pairwise(ends)]


def _is_full(block: ReducedBlock, rest: RestColumns, share: float) -> bool:
    """Whether full matrices are quicker: the problem is small, or most columns are touched by most levels."""
    size = block.n_levels * rest.width
    if size * block.values.shape[1] > LARGEST_FULL:
        return False
    if size * rest.width * block.values.shape[1] <= FEW_FLOPS:
        return True
    touched = np.zeros(size, dtype=bool)
    first = block.codes.astype(np.int64) * rest.width
    for a in range(rest.columns.shape[1]):
        touched[(first + rest.columns[:, a])[rest.values[:, a] != 0.0]] = True
    return bool(np.count_nonzero(touched) + block.n_levels * rest.dense.shape[1] >= share * size)


def _full_products(block: ReducedBlock, rest: RestColumns) -> tuple[Floats, CrossProducts]:
    levels, k = block.n_levels, block.values.shape[1]
    codes, width = block.codes.astype(np.int64), rest.width
    own, values = np.empty((levels, k, k)), np.zeros((levels, width, k))
    for i in range(k):
        value = block.values[:, i]
        for j in range(i + 1):
            own[:, i, j] = own[:, j, i] = np.bincount(codes, value * block.values[:, j], levels)
        for a in range(rest.columns.shape[1]):
            place = codes * width + rest.columns[:, a]
            values[:, :, i] += np.bincount(place, value * rest.values[:, a], levels * width).reshape(levels, width)
        for c in range(rest.dense.shape[1]):
            values[:, rest.n_sparse + c, i] = np.bincount(codes, value * rest.dense[:, c], levels)
    columns = np.tile(np.arange(width, dtype=np.int32), levels)
    return own, CrossProducts(width * np.arange(levels + 1), columns, values.reshape(-1, k), is_full=True)


def mirror(matrix: Floats) -> None:
    """Copy the lower triangle of a square matrix onto the upper one, in place."""
    for start in range(0, len(matrix), MIRROR_BLOCK):
        end = min(start + MIRROR_BLOCK, len(matrix))
        here = matrix[start:end, start:end]
        np.copyto(here, here.T.copy(), where=_above(end - start))
        matrix[start:end, end:] = matrix[end:, start:end].T


@cache
def _above(size: int) -> Flags:
    """(size, size) which entries are above the diagonal."""
    return ~np.tri(size, dtype=bool)
