"""Cross-products of [Z X y] from reduced rows, arranged for elimination: the largest factor level by level, everything else dense."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import qr

from multilevel.arrays import Floats
from multilevel.design.reduction import ReducedBlock, ReducedRows
from multilevel.errors import FitError
from multilevel.linear.factorise import BlockedSystem
from multilevel.linear.products import CrossProducts, eliminated_products, rest_columns, rest_gram

WORTH_LEADING = 100
"""Effects from which a diagonal block of the Schur complement is worth being factorised apart."""

DENSE_LIMIT = 10_000
"""Largest number of effects outside the eliminated factor: a dense factor of that size takes 0.8 GB."""


def linear_system(
    rows: ReducedRows, *, weights: Floats | None = None, outcome: Floats | None = None, names: Sequence[str] | None = None
) -> BlockedSystem:
    """Cross-products of ``rows``, optionally with row ``weights`` (R,) and another ``outcome`` (R,); ``names`` of the blocks' factors.

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
    rest, leading = _leading_first(blocks, merged, rest)
    _refuse_too_large(blocks, rest, names)
    right = rest_columns([blocks[index] for index in rest], np.column_stack([basis, residual]))
    own, cross = eliminated_products(_merge(blocks, merged), right) if merged else _nothing_eliminated()
    return BlockedSystem(
        sizes=tuple((block.n_levels, block.values.shape[1]) for block in blocks),
        merged=tuple(merged),
        rest=tuple(rest),
        own=own,
        cross=cross,
        gram=rest_gram(right),
        triangle=triangle,
        location=location,
        residual_ss=rows.residual_ss,
        n_rows=rows.n_rows,
        inside=_inside(_merge(blocks, merged), own, np.column_stack([basis, residual])) if merged and weights is None else None,
        leading=leading,
    )


def _inside(block: ReducedBlock, own: Floats, dense: Floats) -> Floats | None:
    """Cross-products of ``dense`` (R, d) less its projection on the block's column, level by level; None for several columns."""
    if own.shape[1] != 1:
        return None
    value = block.values[:, 0]
    size = np.where(own[:, 0, 0] > 0, own[:, 0, 0], 1.0)
    left = np.empty_like(dense)
    for place in range(dense.shape[1]):
        column = dense[:, place]
        # twice: the first leaves rounding of the size of the column
        for _ in range(2):
            column = column - value * (np.bincount(block.codes, value * column, block.n_levels) / size)[block.codes]
        left[:, place] = column
    return np.asarray(left.T @ left)


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


def _leading_first(blocks: list[ReducedBlock], merged: list[int], rest: list[int]) -> tuple[list[int], int]:
    """The rest with a block first whose effects no eliminated level joins, and how many effects it has; 0 where there is none.

    A scalar block is such where the eliminated factor is nested in its factor (customer:category in customer): its part of the Schur
    complement is diagonal. The largest is taken, from ``WORTH_LEADING`` effects.
    """
    if not merged:
        return rest, 0
    inner = blocks[merged[0]]
    able = [
        index
        for index in rest
        if blocks[index].values.shape[1] == 1 and blocks[index].n_levels >= WORTH_LEADING and _is_nested(inner, blocks[index])
    ]
    if not able:
        return rest, 0
    first = max(able, key=lambda index: blocks[index].n_levels)
    return [first, *(index for index in rest if index != first)], blocks[first].n_levels


def _is_nested(inner: ReducedBlock, outer: ReducedBlock) -> bool:
    """Whether every level of ``inner`` belongs to one level of ``outer``."""
    of_level = np.zeros(inner.n_levels, dtype=np.int64)
    of_level[inner.codes] = outer.codes
    return bool(np.array_equal(of_level[inner.codes], outer.codes))


def _same_factor(blocks: list[ReducedBlock], index: int) -> int:
    """The first block whose levels are those of block ``index``."""
    for earlier in range(index):
        if blocks[earlier].n_levels == blocks[index].n_levels and np.array_equal(blocks[earlier].codes, blocks[index].codes):
            return earlier
    return index


def _refuse_too_large(blocks: list[ReducedBlock], rest: list[int], names: Sequence[str] | None) -> None:
    sizes = [blocks[index].n_levels * blocks[index].values.shape[1] for index in rest]
    if sum(sizes) > DENSE_LIMIT:
        memory = 8 * sum(sizes) ** 2 / 1e9
        who = ", ".join(f"{names[index] if names else f'block {index + 1}'}: {size:,}" for index, size in zip(rest, sizes, strict=True))
        message = (
            f"Beside the largest factor, which is eliminated level by level, the model has {sum(sizes):,} group-level effects ({who}); "
            f"their dense factor would take {memory:.1f} GB, and at most {DENSE_LIMIT:,} effects are allowed. Use a coarser grouping for "
            "all factors but one, or drop a slope."
        )
        raise FitError(message)


def _merge(blocks: list[ReducedBlock], merged: list[int]) -> ReducedBlock:
    first = blocks[merged[0]]
    return ReducedBlock(first.codes, np.hstack([blocks[index].values for index in merged]), first.n_levels)


def _nothing_eliminated() -> tuple[Floats, CrossProducts]:
    return np.zeros((0, 0, 0)), CrossProducts(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros((0, 0)))
