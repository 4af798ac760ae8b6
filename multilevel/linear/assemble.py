"""Cross-products of [Z X y] from reduced rows, arranged for elimination: the largest factor level by level, everything else dense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular
from scipy.sparse import csr_array, hstack

from multilevel.cells import Codes, Floats
from multilevel.errors import FitError
from multilevel.linear.factorise import BlockedSystem
from multilevel.reduction import ReducedBlock, ReducedRows

DENSE_LIMIT = 10_000
"""Largest number of effects outside the eliminated factor: a dense factor of that size takes 0.8 GB."""


def linear_system(rows: ReducedRows, *, weights: Floats | None = None, outcome: Floats | None = None) -> BlockedSystem:
    """Cross-products of ``rows``, optionally with row ``weights`` (R,) and another ``outcome`` (R,).

    The columns of X are replaced by an orthonormal basis and the outcome by its least-squares residual, so that a large mean costs no
    digits; both are undone in the results. Raises FitError where a second factor is too large for a dense block.
    """
    y = rows.outcome if outcome is None else outcome
    X = rows.X
    if weights is not None:
        root = np.sqrt(weights)
        X, y = X * root[:, None], y * root
    blocks = [_weighted(block, weights) for block in rows.blocks]
    _finite(X, y, blocks)
    basis, triangle = qr(X, mode="economic") if X.shape[1] else (X, np.zeros((0, 0)))
    location = basis.T @ y
    residual = y - basis @ location
    merged, rest = _choose_eliminated(blocks)
    _refuse_too_large(blocks, rest)
    dense = [_indicator(blocks[index]) for index in rest]
    right = hstack([*dense, csr_array(basis), csr_array(residual[:, None])], format="csr") if len(y) else csr_array((0, 1))
    gram = (right.T @ right).toarray()
    eliminated = _merge(blocks, merged) if merged else None
    own, cross = _eliminated_products(eliminated, right)
    return BlockedSystem(
        sizes=tuple((block.n_levels, block.values.shape[1]) for block in blocks),
        merged=tuple(merged),
        rest=tuple(rest),
        own=own,
        cross=cross,
        gram=gram,
        triangle=triangle,
        location=location,
        residual_ss=rows.residual_ss,
        n_rows=rows.n_rows,
    )


def _weighted(block: ReducedBlock, weights: Floats | None) -> ReducedBlock:
    if weights is None:
        return block
    return ReducedBlock(block.codes, block.values * np.sqrt(weights)[:, None], block.n_levels)


def _finite(X: Floats, y: Floats, blocks: list[ReducedBlock]) -> None:
    if not (np.isfinite(X).all() and np.isfinite(y).all() and all(np.isfinite(b.values).all() for b in blocks)):
        message = "The cell statistics hold values that are not finite: look for infinities or overflow in the outcome and the predictors."
        raise FitError(message)


def _choose_eliminated(blocks: list[ReducedBlock]) -> tuple[list[int], list[int]]:
    """Indices of the blocks on the factor with most effects, which is eliminated, and of the others."""
    if not blocks:
        return [], []
    size: dict[int, int] = {}
    same = [_same_factor(blocks, index) for index in range(len(blocks))]
    for index, block in enumerate(blocks):
        size[same[index]] = size.get(same[index], 0) + block.n_levels * block.values.shape[1]
    chosen = max(size, key=lambda key: size[key])
    return [i for i in range(len(blocks)) if same[i] == chosen], [i for i in range(len(blocks)) if same[i] != chosen]


def _same_factor(blocks: list[ReducedBlock], index: int) -> int:
    """The first block whose levels are those of block ``index``."""
    for earlier in range(index):
        if blocks[earlier].n_levels == blocks[index].n_levels and np.array_equal(blocks[earlier].codes, blocks[index].codes):
            return earlier
    return index


def _refuse_too_large(blocks: list[ReducedBlock], rest: list[int]) -> None:
    sizes = [blocks[index].n_levels * blocks[index].values.shape[1] for index in rest]
    if sum(sizes) > DENSE_LIMIT:
        memory = 8 * sum(sizes) ** 2 / 1e9
        message = (
            f"Beside the largest factor the model has {sum(sizes):,} group-level effects; their dense factor would take {memory:.1f} GB "
            f"(at most {DENSE_LIMIT:,} effects are allowed). Use a coarser grouping for all factors but one, or drop a slope."
        )
        raise FitError(message)


def _indicator(block: ReducedBlock) -> csr_array:
    """(R, L * k) sparse columns of Z for a block, level-major."""
    n, k = block.values.shape
    columns = (block.codes.astype(np.int64)[:, None] * k + np.arange(k)).ravel()
    return csr_array((block.values.ravel(), columns, np.arange(0, n * k + 1, k)), shape=(n, block.n_levels * k))


def _merge(blocks: list[ReducedBlock], merged: list[int]) -> ReducedBlock:
    first = blocks[merged[0]]
    return ReducedBlock(first.codes, np.hstack([blocks[index].values for index in merged]), first.n_levels)


@dataclass(frozen=True)
class CrossProducts:
    """Sparse rows of Z_e'[Z_r X y], grouped by level: level j touches ``columns[starts[j]:starts[j+1]]`` with ``values`` (nnz, k)."""

    starts: Codes
    columns: Codes
    values: Floats


def _eliminated_products(block: ReducedBlock | None, right: csr_array) -> tuple[Floats, CrossProducts]:
    if block is None:
        return np.zeros((0, 0, 0)), CrossProducts(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros((0, 0)))
    k = block.values.shape[1]
    own = np.empty((block.n_levels, k, k))
    for i in range(k):
        for j in range(i + 1):
            own[:, i, j] = own[:, j, i] = np.bincount(block.codes, block.values[:, i] * block.values[:, j], block.n_levels)
    ones = ReducedBlock(block.codes, np.ones((len(block.codes), 1)), block.n_levels)
    pattern = (_indicator(ones).T @ abs(right).sign()).tocsr()
    pattern.sort_indices()
    values = np.zeros((pattern.nnz, k))
    for i in range(k):
        part = (_indicator(ReducedBlock(block.codes, block.values[:, [i]], block.n_levels)).T @ right).tocsr()
        values[:, i] = _on_pattern(part, pattern)
    return own, CrossProducts(pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64), values)


def _on_pattern(part: csr_array, pattern: csr_array) -> Floats:
    """Values of ``part`` at the places of ``pattern`` (which contains its own)."""
    width = np.int64(pattern.shape[1])
    level = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
    wanted = level * width + pattern.indices
    part.sort_indices()
    have = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)) * width + part.indices
    values = np.zeros(len(wanted))
    values[np.searchsorted(wanted, have)] = part.data
    return values


def triangular_inverse(triangle: Floats) -> Floats:
    """Inverse of an upper triangular matrix (p, p)."""
    return solve_triangular(triangle, np.eye(len(triangle))) if len(triangle) else triangle
