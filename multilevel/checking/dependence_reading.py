"""A first reading of dependence, before any fit: do the outcomes of one unit lie on one side of their cells' means?

Residuals are taken about the mean of each cell instead of a fitted value, their variance from the rows of the cell; what the cell's mean
takes up of a unit is allowed for. Differences between units that go with the cells are not seen, so the reading is a low one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.cells.statistics import CellStatistics
from multilevel.cells.unit_sums import UnitSums, cell_places, level_unit_pairs
from multilevel.checking.design_effects import MATERIAL
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting
from multilevel.families.registry import family_named

FEWEST = 0.5
"""Share of the line items whose cells must have two rows or more."""


@dataclass(frozen=True)
class DependenceReading:
    """How much more unit sums vary within the cells than those of independent line items; None where the cells are too small to tell."""

    factor: str
    column: str
    value: float | None

    def sentence(self) -> str:
        """As ``plan`` prints it."""
        if self.value is None:
            return f"{self.column}, {self.factor}: nearly every cell is a single line item, so nothing can be read before the fit"
        said = (
            f"{self.column}, {self.factor}: within cells, sums over one {self.column} vary {self.value:.3g} times as independent ones would"
        )
        return f"{said}; the formula leaves {self.column} out, so intervals may be too narrow" if self.value > MATERIAL else said


def dependence_readings(design: Design, tree: Nesting, units: UnitSums) -> list[DependenceReading]:
    """One for every grouping factor with a level of two units or more; ``design`` of one part, or a two-part study's first."""
    cells = design.cells
    cell = cell_places(units, cells.key)
    variance, mean = _within(cells)
    own = units.mean[:, -1] if cells.has_moments else units.total / units.size
    count = units.weight if cells.has_moments else units.size
    of_cell = cells.weight if cells.has_moments else cells.size
    known = (cells.n[cell] >= 2) & np.isfinite(variance[cell])
    enough = float(cells.n[cells.n >= 2].sum()) >= FEWEST * cells.n_rows
    residual = np.where(known, count * (own - mean[cell]), 0.0)
    expected = np.where(known, count * (1.0 - count / of_cell[cell]) * variance[cell], 0.0)
    found = []
    for name, factor in tree.factors.items():
        level, place = level_unit_pairs(factor.codes.astype(np.int64)[cell], units.unit)
        several = np.bincount(level, minlength=factor.n_levels)[level] >= 2
        if not several.any():
            continue
        squares = np.bincount(place, residual)[several] ** 2
        total = float(np.bincount(place, expected)[several].sum())
        found.append(DependenceReading(name, units.column, float(squares.sum()) / total if enough and total > 0 else None))
    return found


def _within(cells: CellStatistics) -> tuple[Floats, Floats]:
    """(C,) variance of an outcome (per trial or exposure) within each cell, from its rows, and the mean of the cell."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if cells.has_moments:
            return cells.cross[:, -1, -1] / (cells.n - 1.0), cells.mean[:, -1]
        mean = cells.total / cells.size
        if family_named(cells.family).is_bounded and np.array_equal(cells.size, cells.n):
            return mean * (1.0 - mean) * cells.n / (cells.n - 1.0), mean
        if cells.observed is None:
            return np.full(cells.n_cells, np.nan), mean
        seen = cells.observed
        left = seen.square - 2.0 * mean * seen.product + mean**2 * seen.size_square
        return np.maximum(left, 0.0) / (cells.n - 1.0) / (cells.size / cells.n), mean
