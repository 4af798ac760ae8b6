"""Cells as weighted rows that every engine can use: pseudo-rows for the gaussian family, the cells themselves for the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from multilevel.arrays import Codes, Floats, Integers
from multilevel.cells.statistics import CellStatistics, restrict_cells
from multilevel.design.model import Design, DesignColumn, GroupBlock
from multilevel.families.outcome import Outcome
from multilevel.families.registry import family_named


@dataclass(frozen=True)
class ReducedBlock:
    """One block over reduced rows: ``codes`` (R,) the level of each row, ``values`` (R, k) its columns of Z; ``name`` of its factor."""

    codes: Codes
    values: Floats
    n_levels: int
    name: str = "a factor"


@dataclass(frozen=True)
class ReducedRows:
    """R rows that give the same likelihood as the line items, up to constants.

    gaussian: ``outcome ~ Normal(X beta + Z b, sigma)`` for each row, times ``residual_ss`` with ``n_rows - R`` degrees of freedom:
    Gamma((N - R) / 2, rate 1 / (2 sigma^2)).
    binomial: ``outcome ~ Binomial(size, p)``; poisson: ``outcome ~ Poisson(size * mu)``; negative_binomial: ``outcome ~ NB(n mu, n phi)``;
    gamma: ``outcome ~ Gamma(n a, n a / (n mu))``; ``offset`` is added to the linear predictor.

    X : (R, p); outcome, size, offset, n : (R,); cell : (R,) the cell each row came from.
    """

    X: Floats
    blocks: tuple[ReducedBlock, ...]
    outcome: Floats
    size: Floats
    offset: Floats
    n: Floats
    cell: Codes
    n_rows: int
    residual_ss: float


INDEPENDENT = 1e-12
"""Part of a feature's variance within a cell that other features must leave for it to count as a direction of its own."""


def reduce_design(design: Design) -> ReducedRows:
    """Cells as rows with the same likelihood.

    Gaussian: each cell's Gram matrix of (1, features) is factorised; the first row carries the cell's means times sqrt(weight), the others
    the centred features, by a Cholesky factorisation that pivots on the feature with most variance left and stops at the cell's rank
    (Higham 2002, section 10.3). What no direction explains goes into ``residual_ss``. Other families: one row per cell.

    ``n`` sums to the line items (the cell's first row carries them), ``size`` is 1 for gaussian.
    """
    cells = design.cells
    if not cells.has_moments:
        return _cells_as_rows(design)
    used = sorted({c.feature for columns in _column_sets(design) for c in columns if c.feature})
    first = _mean_rows(cells, used)
    extra, residual_ss = _centred_rows(cells, used)
    are_cells = not len(extra.cell)  # rows and cells are the same
    cell = np.arange(cells.n_cells, dtype=np.int32) if are_cells else np.concatenate([first.cell, extra.cell]).astype(np.int32)
    features = first.features if are_cells else np.concatenate([first.features, extra.features])
    position = {0: 0} | {feature: index + 1 for index, feature in enumerate(used)}
    n_rows = len(cell)

    def of_rows[T: np.generic](values: NDArray[T]) -> NDArray[T]:
        return values if are_cells else values[cell]

    def matrix(columns: tuple[DesignColumn, ...]) -> Floats:
        values = np.empty((n_rows, len(columns)))
        for j, column in enumerate(columns):
            own = features[:, position[column.feature]]
            np.multiply(of_rows(column.multiplier), own - column.shift * features[:, 0] if column.shift else own, out=values[:, j])
        return values

    return ReducedRows(
        X=matrix(design.population),
        blocks=tuple(ReducedBlock(of_rows(b.factor.codes), matrix(b.columns), b.factor.n_levels, b.factor.name) for b in design.blocks),
        outcome=first.outcome if are_cells else np.concatenate([first.outcome, extra.outcome]),
        size=np.ones(n_rows),
        offset=np.zeros(n_rows),
        n=cells.line_items if are_cells else np.concatenate([cells.line_items, np.zeros(len(extra.cell))]),
        cell=cell,
        n_rows=cells.n_rows,
        residual_ss=residual_ss,
    )


@dataclass(frozen=True)
class _Rows:
    """Pseudo-rows: ``cell`` (R,), ``features`` (R, 1 + m) for (1, used features), ``outcome`` (R,)."""

    cell: Integers
    features: Floats
    outcome: Floats


def outcome_of(cells: CellStatistics, rows: ReducedRows, family: str) -> Outcome:
    """What the family's likelihood needs of the reduced rows."""
    histogram = np.zeros((0, 2)) if cells.histogram is None else cells.histogram
    return Outcome(family_named(family), rows.outcome, rows.size, rows.n, rows.n_rows, rows.residual_ss, cells.once, histogram)


def take_rows(rows: ReducedRows, places: Integers) -> ReducedRows:
    """Some of the rows, for pictures: no longer the likelihood of all line items."""
    return replace(
        rows,
        X=rows.X[places],
        blocks=tuple(replace(block, codes=block.codes[places], values=block.values[places]) for block in rows.blocks),
        outcome=rows.outcome[places],
        size=rows.size[places],
        offset=rows.offset[places],
        n=rows.n[places],
        cell=rows.cell[places],
        n_rows=int(rows.n[places].sum()),
    )


def restrict_design(design: Design, places: Integers) -> Design:
    """The design over some of its cells, with all columns and levels."""

    def columns(whole: tuple[DesignColumn, ...]) -> tuple[DesignColumn, ...]:
        return tuple(replace(column, multiplier=column.multiplier[places]) for column in whole)

    blocks = tuple(GroupBlock(replace(block.factor, codes=block.factor.codes[places]), columns(block.columns)) for block in design.blocks)
    return replace(design, cells=restrict_cells(design.cells, places), population=columns(design.population), blocks=blocks)


def _cells_as_rows(design: Design) -> ReducedRows:
    cells = design.cells
    every = np.arange(cells.n_cells, dtype=np.int32)

    def matrix(columns: tuple[DesignColumn, ...]) -> Floats:
        return np.column_stack([c.multiplier for c in columns]) if columns else np.zeros((cells.n_cells, 0))

    return ReducedRows(
        X=matrix(design.population),
        blocks=tuple(ReducedBlock(b.factor.codes, matrix(b.columns), b.factor.n_levels, b.factor.name) for b in design.blocks),
        outcome=cells.total,
        size=cells.size,
        offset=cells.offset,
        n=cells.n.astype(np.float64),
        cell=every,
        n_rows=cells.n_rows,
        residual_ss=0.0,
    )


def _column_sets(design: Design) -> list[tuple[DesignColumn, ...]]:
    return [design.population, *(block.columns for block in design.blocks)]


def _mean_rows(cells: CellStatistics, used: list[int]) -> _Rows:
    """One row per cell: sqrt(weight) * (1, mean features, mean outcome)."""
    root = np.sqrt(cells.weight)
    columns = [root] + [root * cells.mean[:, feature - 1] for feature in used]
    features = np.column_stack(columns) if used else root[:, None]
    return _Rows(np.arange(cells.n_cells), features, root * cells.mean[:, -1])


def _centred_rows(cells: CellStatistics, used: list[int]) -> tuple[_Rows, float]:
    """Rows of the pivoted Cholesky factor of each cell's centred cross-products, and the sum of squares that is left."""
    m = len(used)
    index = [feature - 1 for feature in used] + [cells.mean.shape[1] - 1]
    if m == 0:
        return _Rows(np.zeros(0, dtype=np.int64), np.zeros((0, 1)), np.zeros(0)), float(np.sum(cells.cross[:, -1, -1]))
    start = np.column_stack([np.where(cells.is_fixed(feature - 1), 0.0, cells.cross[:, feature - 1, feature - 1]) for feature in used])
    varies = (cells.n > 1) & (start > 0).any(axis=1)
    residual_ss = float(cells.cross[~varies, -1, -1].sum())
    varied = np.flatnonzero(varies)
    start, n = start[varied], cells.n[varied]
    left = cells.cross[np.ix_(varied, index, index)]
    active = np.arange(len(varied))
    pieces = []
    for step in range(m):
        # a cell of n rows has at most n - 1 centred directions, whatever rounding says
        active = active[n[active] > step + 1]
        remaining = np.diagonal(left[active], axis1=1, axis2=2)[:, :m]
        part = np.divide(remaining, start[active], out=np.zeros_like(remaining), where=start[active] > 0)
        pivot = np.argmax(part, axis=1)
        independent = part[np.arange(len(active)), pivot] > INDEPENDENT
        active, pivot = active[independent], pivot[independent]
        rows = left[active, pivot] / np.sqrt(left[active, pivot, pivot])[:, None]
        left[active] -= rows[:, :, None] * rows[:, None, :]
        pieces.append((varied[active], rows))
    cell = np.concatenate([cells_of for cells_of, _ in pieces])
    rows = np.concatenate([rows for _, rows in pieces])
    features = np.column_stack([np.zeros(len(rows)), rows[:, :m]])
    return _Rows(cell, features, rows[:, m]), residual_ss + float(np.maximum(left[:, m, m], 0.0).sum())


def coefficient_matrix(rows: ReducedRows) -> csr_array:
    """(R, p + q) sparse [X Z] of reduced rows."""
    return csr_array(hstack([csr_array(rows.X), *(_indicator(block) for block in rows.blocks)], format="csr"))


def left_times(left: csr_array, rows: ReducedRows) -> csr_array:
    """(n, p + q) ``left`` (n, R) times [X Z], whose blocks are made one at a time."""
    return csr_array(hstack([csr_array(left @ rows.X), *(csr_array(left @ _indicator(block)) for block in rows.blocks)], format="csr"))


def right_times(rows: ReducedRows, coefficients: Floats) -> Floats:
    """(R,) [X Z] times ``coefficients`` (p + q,)."""
    at = rows.X.shape[1]
    total = np.asarray(rows.X @ coefficients[:at])
    for block in rows.blocks:
        size = block.n_levels * block.values.shape[1]
        total += np.einsum("rk,rk->r", block.values, coefficients[at : at + size].reshape(block.n_levels, -1)[block.codes])
        at += size
    return total


def _indicator(block: ReducedBlock) -> csr_array:
    n_rows, k = block.values.shape
    width = block.n_levels * k
    of_places = np.dtype(np.int32 if max(n_rows * k, width) <= np.iinfo(np.int32).max else np.int64)
    columns = np.multiply(block.codes[:, None], k, dtype=of_places) + np.arange(k, dtype=of_places)
    return csr_array((block.values.ravel(), columns.ravel(), np.arange(0, n_rows * k + 1, k, dtype=of_places)), shape=(n_rows, width))
