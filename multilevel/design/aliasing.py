"""Population columns that the others determine: named and left out, the later ones first, as lme4 does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import solve_triangular

from multilevel.arrays import Floats
from multilevel.cells.statistics import CellStatistics
from multilevel.design.coding import CodedColumn
from multilevel.design.unit_free import unit_free_columns

NO_VARIATION = 1e-20
"""Variance left, relative to the mean square, below which a column is constant: 1e-10 as a ratio of standard deviations."""

NOTHING_LEFT = 1e-12
"""Part of a column's variance that earlier columns leave unexplained, below which it is aliased: 1e-6 as a ratio of standard deviations
(lme4 asks 1e-7 of the norm of the uncentred column)."""

CHUNK = 1_000_000
"""Cells taken at once."""


def independent_columns(columns: Sequence[CodedColumn], cells: CellStatistics) -> list[bool]:
    """Whether each column, in order, adds to the span of those before it; products are formed of unit-free numbers.

    Source: sequential Cholesky of the columns' cross-products, centred where the first column is the intercept, so that large means
    cost no digits.
    """
    return [left > NOTHING_LEFT for left in variance_left(columns, cells)]


def variance_left(columns: Sequence[CodedColumn], cells: CellStatistics) -> list[float]:
    """Part of each column's variance that those before it leave unexplained; 0 of a column that does not vary, 1 of the intercept."""
    columns = unit_free_columns(columns, cells)
    has_intercept = bool(columns) and columns[0].term.is_intercept
    tested = columns[1:] if has_intercept else columns
    spread, mean_square = _cross_products(tested, cells, centred=has_intercept)
    varies = np.diag(spread) > NO_VARIATION * mean_square
    scale = np.where(varies, np.sqrt(np.where(varies, np.diag(spread), 1.0)), 1.0)
    found = _sequential(spread / np.outer(scale, scale), varies)
    return [1.0, *found] if has_intercept else found


def _sequential(correlation: Floats, varies: np.ndarray) -> list[float]:
    kept: list[int] = []
    remaining = [0.0] * len(correlation)
    factor = np.zeros((len(correlation), len(correlation)))
    for j in range(len(correlation)):
        if not varies[j]:
            continue
        k = len(kept)
        projection = solve_triangular(factor[:k, :k], correlation[kept, j], lower=True) if k else np.zeros(0)
        left = remaining[j] = float(correlation[j, j] - projection @ projection)
        if left > NOTHING_LEFT:
            factor[k, :k], factor[k, k] = projection, np.sqrt(left)
            kept.append(j)
    return remaining


def _cross_products(columns: Sequence[CodedColumn], cells: CellStatistics, *, centred: bool) -> tuple[Floats, Floats]:
    """(p, p) weighted cross-products about the mean (or about zero), and (p,) sums of squares about zero."""
    p = len(columns)
    weight = cells.weight / cells.weight.sum()
    mean = np.array([weight @ _cell_mean(column, cells, slice(None)) for column in columns]) if centred else np.zeros(p)
    spread, mean_square = np.zeros((p, p)), np.zeros(p)
    varying = [j for j, column in enumerate(columns) if column.feature]
    for start in range(0, cells.n_cells, CHUNK):
        at = slice(start, start + CHUNK)
        values = np.column_stack([_cell_mean(column, cells, at) for column in columns]) if p else np.zeros((len(weight[at]), 0))
        mean_square += weight[at] @ values**2
        values = values - mean
        spread += (values * weight[at, None]).T @ values
        for i in varying:
            for j in varying:
                pair = cells.cross[at, columns[i].feature - 1, columns[j].feature - 1]
                spread[i, j] += np.sum(columns[i].multiplier[at] * columns[j].multiplier[at] * pair) / cells.weight.sum()
    return spread, mean_square + np.diag(spread)


def _cell_mean(column: CodedColumn, cells: CellStatistics, at: slice) -> Floats:
    if column.feature == 0:
        return column.multiplier[at]
    return np.asarray(column.multiplier[at] * (cells.mean[at, column.feature - 1] - column.shift))
