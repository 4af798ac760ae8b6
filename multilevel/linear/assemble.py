"""Cross-products of [Z X y] from reduced rows, arranged for elimination: a chain of nested factors level by level, the rest dense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.linalg import qr

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedBlock, ReducedRows, reduce_design
from multilevel.errors import FitError
from multilevel.fit.container import Fit
from multilevel.linear.chain import NOT_JOINED, Stage, Upward, places_in
from multilevel.linear.factorise import BlockedSystem
from multilevel.linear.products import STAGE_SHARE, CrossProducts, RestColumns, eliminated_products, rest_columns, rest_gram
from multilevel.threads import piece_by_piece

MANY_ROWS = 100_000
"""Rows from which a compiled pass saves time."""

WORTH_ELIMINATING = 100
"""Effects from which a factor that holds the eliminated one is worth being eliminated too."""

DENSE_LIMIT = 10_000
"""Largest number of effects outside the eliminated factor: a dense factor of that size takes 0.8 GB."""


def linear_system(
    rows: ReducedRows,
    *,
    weights: Floats | None = None,
    outcome: Floats | None = None,
) -> BlockedSystem:
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
    merged, above, rest = choose_eliminated(blocks)
    _refuse_too_large(blocks, merged, rest)
    right = rest_columns([blocks[index] for index in rest], np.column_stack([basis, residual]))
    own, cross = eliminated_products(_merge(blocks, merged), right) if merged else _nothing_eliminated()
    up, chain = _chain(blocks, merged, above, cross, right)
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
        chain=chain,
        up=up,
    )


def system_of(fit: Fit) -> BlockedSystem:
    """The cross-products of a linear model's unit-free design, from its rows where the fit does not keep them."""
    assert fit.unit_free is not None
    kept = fit.unit_free.system
    return kept if isinstance(kept, BlockedSystem) else linear_system(reduce_design(fit.unit_free.form.design))


def _inside(block: ReducedBlock, own: Floats, dense: Floats) -> Floats | None:
    """Cross-products of ``dense`` (R, d) less its projection on the block's column, level by level; None for several columns."""
    if own.shape[1] != 1:
        return None
    value, codes = np.ascontiguousarray(block.values[:, 0]), block.codes.astype(np.int64)
    size = np.where(own[:, 0, 0] > 0, own[:, 0, 0], 1.0)

    are_many = len(value) > MANY_ROWS

    def of_column(place: int) -> Floats:
        column = np.array(dense[:, place])
        # twice: the first leaves rounding of the size of the column
        for _ in range(2):
            if are_many:
                from multilevel.linear.level_loops import project_out

                project_out(codes, value, size, column)
            else:
                column -= value * (np.bincount(codes, value * column, block.n_levels) / size)[codes]
        return column

    places = range(dense.shape[1])
    left = np.stack(list(piece_by_piece(of_column, places) if are_many else map(of_column, places)), axis=1)
    return np.asarray(left.T @ left)


def _weighted(block: ReducedBlock, weights: Floats | None) -> ReducedBlock:
    if weights is None:
        return block
    return replace(block, values=block.values * np.sqrt(weights)[:, None])


def _finite(X: Floats, y: Floats, blocks: list[ReducedBlock]) -> None:
    if not (np.isfinite(X).all() and np.isfinite(y).all() and all(np.isfinite(b.values).all() for b in blocks)):
        message = "The cell statistics hold values that are not finite: look for infinities or overflow in the outcome and the predictors."
        raise FitError(message)


def dense_effects(design: Design) -> int:
    """How many effects of a design are in the dense factor, the others being eliminated."""
    shapes = [(block.factor.codes, np.empty((0, len(block.columns))), block.factor.n_levels) for block in design.blocks]
    rest = choose_eliminated([ReducedBlock(*shape) for shape in shapes])[2]
    return sum(design.blocks[index].n_effects for index in rest)


def choose_eliminated(blocks: Sequence[ReducedBlock]) -> tuple[list[int], list[list[int]], list[int]]:
    """Indices of the blocks on the factor that is eliminated first, of those on every factor eliminated after it, and of the others.

    A factor may follow another where that is nested in it (customer:category, customer, income group): of all such chains the one with
    most effects is taken. Factors above the first with fewer than ``WORTH_ELIMINATING`` effects are left out.
    """
    same = [_same_factor(blocks, index) for index in range(len(blocks))]
    owned: dict[int, list[int]] = {}
    for index in range(len(blocks)):
        owned.setdefault(same[index], []).append(index)
    if not owned:
        return [], [], []
    size = {key: sum(blocks[index].n_levels * blocks[index].values.shape[1] for index in own) for key, own in owned.items()}
    best: dict[int, tuple[int, list[int]]] = {}
    for key in sorted(owned, key=lambda key: (blocks[key].n_levels, -key)):
        nothing: tuple[int, list[int]] = (0, [])
        holders = [other for other in best if size[other] >= WORTH_ELIMINATING and _is_nested(blocks[key], blocks[other])]
        above = max((best[other] for other in holders), key=lambda found: found[0], default=nothing)
        best[key] = (size[key] + above[0], [key, *above[1]])
    chosen = max(sorted(best), key=lambda key: best[key][0])
    first, *others = best[chosen][1]
    taken = set(best[chosen][1])
    return owned[first], [owned[key] for key in others], [i for i in range(len(blocks)) if same[i] not in taken]


def _chain(
    blocks: Sequence[ReducedBlock], merged: list[int], above: list[list[int]], cross: CrossProducts, rest: RestColumns
) -> tuple[Upward, tuple[Stage, ...]]:
    """How the eliminated factor is joined to those ``above`` it, and their own cross-products."""
    factors = [_merge(blocks, indices) for indices in ([merged] if merged else []) + above]
    products = [eliminated_products(factor, rest, STAGE_SHARE) for factor in factors[1:]]
    crosses = [cross, *(found for _, found in products)]
    ups = []
    for at, factor in enumerate(factors):
        ancestors = [_level_of(factor, other) for other in factors[at + 1 :]]
        links = [_link(factor, other) for other in factors[at + 1 :]]
        places = [places_in(crosses[at], levels, other, rest.width) for levels, other in zip(ancestors, crosses[at + 1 :], strict=True)]
        ups.append(Upward(tuple(ancestors), tuple(links), tuple(places)))
    if not above:
        return NOT_JOINED, ()
    stages = zip(above, products, ups[1:], strict=True)
    return ups[0], tuple(Stage(tuple(indices), own, found, up) for indices, (own, found), up in stages)


def _level_of(inner: ReducedBlock, outer: ReducedBlock) -> Integers:
    """(L,) the level of ``outer`` that each level of ``inner`` belongs to; a level without rows belongs to the first."""
    found = np.zeros(inner.n_levels, dtype=np.int64)
    found[inner.codes] = outer.codes
    return found


def _link(inner: ReducedBlock, outer: ReducedBlock) -> Floats:
    """(L, k, kt) Z_l'Z_t by level of ``inner``."""
    columns = [[np.bincount(inner.codes, one * other, inner.n_levels) for other in outer.values.T] for one in inner.values.T]
    return np.ascontiguousarray(np.array(columns).transpose(2, 0, 1))


def _is_nested(inner: ReducedBlock, outer: ReducedBlock) -> bool:
    """Whether every level of ``inner`` belongs to one level of ``outer``."""
    return inner.n_levels >= outer.n_levels and bool(np.array_equal(_level_of(inner, outer)[inner.codes], outer.codes))


def _same_factor(blocks: Sequence[ReducedBlock], index: int) -> int:
    """The first block whose levels are those of block ``index``."""
    for earlier in range(index):
        if blocks[earlier].n_levels == blocks[index].n_levels and np.array_equal(blocks[earlier].codes, blocks[index].codes):
            return earlier
    return index


def _refuse_too_large(blocks: Sequence[ReducedBlock], merged: list[int], rest: list[int]) -> None:
    sizes = [blocks[index].n_levels * blocks[index].values.shape[1] for index in rest]
    if sum(sizes) > DENSE_LIMIT:
        memory = 8 * sum(sizes) ** 2 / 1e9
        who = ", ".join(f"{blocks[index].name}: {size:,}" for index, size in zip(rest, sizes, strict=True))
        message = (
            f"Beside {blocks[merged[0]].name}, which is eliminated level by level with the factors it is nested in, the model has "
            f"{sum(sizes):,} group-level effects ({who}); their dense factor would take {memory:.1f} GB, and at most {DENSE_LIMIT:,} "
            "effects are allowed. Use a coarser grouping for all factors but one, or drop a slope."
        )
        raise FitError(message)


def _merge(blocks: Sequence[ReducedBlock], merged: list[int]) -> ReducedBlock:
    first = blocks[merged[0]]
    return replace(first, values=np.hstack([blocks[index].values for index in merged]))


def _nothing_eliminated() -> tuple[Floats, CrossProducts]:
    return np.zeros((0, 0, 0)), CrossProducts(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros((0, 0)))
