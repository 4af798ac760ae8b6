"""The same model with every numeric predictor at mean 0 and standard deviation 1, and the way back.

Every fit runs on such a design, so that no number that an optimiser, a sampler or a factorisation meets depends on the unit of a predictor
or on its distance from zero. A numeric part x of a column is written x = c + s x'. The product of parts P times indicators is then

    prod_P x'  =  sum over subsets S of P:  prod_{P - S} (-c) / prod_P s  *  the column of S,

so that X' = X N, and beta = N beta' exactly. Scaling is always possible. x is centred only where every column that contains it has its
margin without x in the same set: the intercept beside x, z beside x:z; among the terms of one block (their covariance is free, so the
model stays the same) or of X. ``(0 + x | g)`` and ``(1 + x || g)`` are scaled only: centred they would be another model.

Sources: Bring (1994) on standardised coefficients; Chambers and Hastie (1992), section 2.4, on marginality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy.sparse import block_array, csr_array, kron

from multilevel.arrays import Floats
from multilevel.cells.statistics import CellStatistics
from multilevel.design.coding import CodedColumn
from multilevel.design.model import Design, DesignColumn, GroupBlock, with_shared_columns

type Unit = tuple[float, float]
"""Mean and standard deviation of a numeric part over the rows."""

type Units = Mapping[str, Unit]

type _Key = tuple[tuple[str, ...], frozenset[tuple[str, int]]]

CONSTANT = 1e-12
"""Standard deviation, relative to the root mean square, below which a number does not vary: its size is then its unit."""


@dataclass(frozen=True)
class Maps:
    """From the coefficients of the unit-free design to those of the design as written.

    population : N (p, p), beta = N beta'. blocks : A per block (k, k), b = A b' in every level. onto : B per block (k, p) or None:
    b = A b' + B beta' where a level's own terms take up what centring moves (no pooling). levels : L per block.
    """

    population: Floats
    blocks: tuple[Floats, ...]
    levels: tuple[int, ...]
    onto: tuple[Floats | None, ...]

    @cached_property
    def is_identity(self) -> bool:
        """Whether the design has no numeric predictor."""
        return all(np.array_equal(part, np.eye(len(part))) for part in (self.population, *self.blocks))

    @cached_property
    def matrix(self) -> csr_array:
        """(p + q, p + q) sparse W, (beta, b) = W (beta', b')."""
        return self._assembled(self.population, self.blocks, self.onto)

    @cached_property
    def inverse(self) -> csr_array:
        """(p + q, p + q) sparse, the inverse of ``matrix``."""
        population = np.linalg.inv(self.population)
        blocks = tuple(np.linalg.inv(part) for part in self.blocks)
        onto = tuple(None if part is None else -own @ part @ population for own, part in zip(blocks, self.onto, strict=True))
        return self._assembled(population, blocks, onto)

    def covariances(self, parts: Sequence[Floats]) -> tuple[Floats, ...]:
        """A S A' per block, for S (..., k, k)."""
        return tuple(own @ part @ own.T for own, part in zip(self.blocks, parts, strict=True))

    def _assembled(self, population: Floats, blocks: Sequence[Floats], onto: Sequence[Floats | None]) -> csr_array:
        n = len(blocks)
        grid: list[list[csr_array | None]] = [[None] * (n + 1) for _ in range(n + 1)]
        grid[0][0] = csr_array(population)
        for at, (own, levels, taken) in enumerate(zip(blocks, self.levels, onto, strict=True), 1):
            grid[at][at] = csr_array(kron(csr_array(np.eye(levels)) if levels < 2 else _identity(levels), csr_array(own)))
            if taken is not None:
                grid[at][0] = csr_array(kron(np.ones((levels, 1)), csr_array(taken)))
        return csr_array(block_array(grid, format="csr"))


def _identity(n: int) -> csr_array:
    return csr_array((np.ones(n), np.arange(n), np.arange(n + 1)), shape=(n, n))


@dataclass(frozen=True)
class UnitFree:
    """``design``: with numeric parts at mean 0 and sd 1 where that is possible; ``units`` of the parts; ``maps`` back."""

    design: Design
    units: Units
    maps: Maps


def unit_free(design: Design, *, units: Units | None = None, free_levels: bool = False) -> UnitFree:
    """The unit-free design.

    Parameters
    ----------
    design : as built from the formula, or a part of it.
    units : those of another fit, to speak of its coefficients; None: of these cells.
    free_levels : the block's terms have no distribution (no pooling), so its intercepts absorb the shift when columns of X are centred.
    """
    used = [design.population, *(block.columns for block in design.blocks)]
    labels = dict.fromkeys(label for columns in used for column in columns for label in column.numbers)
    units = {label: unit_of(design.cells, label) for label in labels} if units is None else units
    beside = design.blocks[0].columns if free_levels and design.blocks else ()
    population, of_population, onto = _changed(design.population, design.cells, units, beside)
    changed = [_changed(block.columns, design.cells, units, ()) for block in design.blocks]
    maps = Maps(
        of_population,
        tuple(own for _, own, _ in changed),
        tuple(block.factor.n_levels for block in design.blocks),
        (onto,) if beside else tuple(None for _ in changed),
    )
    blocks = tuple(GroupBlock(block.factor, columns) for block, (columns, _, _) in zip(design.blocks, changed, strict=True))
    return UnitFree(with_shared_columns(replace(design, population=population, blocks=blocks)), units, maps)


def unit_free_columns(columns: Sequence[CodedColumn], cells: CellStatistics) -> list[CodedColumn]:
    """Coded columns, each changed by its scale and by multiples of *earlier* columns only: spans of the first j stay what they are."""
    labels = dict.fromkeys(label for column in columns for label in column.numbers)
    units = {label: unit_of(cells, label) for label in labels}
    places = {_key(column): at for at, column in reversed(list(enumerate(columns)))}
    centred = {
        label
        for label in labels
        if all(places.get(_margin(column, label), at) < at for at, column in enumerate(columns) if label in column.numbers)
    }
    return [_recoded(column, cells, units, centred) for column in columns]


def _changed[Column: (CodedColumn, DesignColumn)](
    columns: Sequence[Column], cells: CellStatistics, units: Units, beside: Sequence[Column]
) -> tuple[tuple[Column, ...], Floats, Floats]:
    """Columns in their units, N (p, p), and what centring moves to the columns ``beside`` them (k, p)."""
    own = {_key(column): at for at, column in reversed(list(enumerate(columns)))}
    others = {_key(column): at for at, column in reversed(list(enumerate(beside)))}
    known = own.keys() | others.keys()
    centred = {label for label in units if all(_margin(column, label) in known for column in columns if label in column.numbers)}
    back, onto = np.zeros((len(columns), len(columns))), np.zeros((len(beside), len(columns)))
    for at, column in enumerate(columns):
        for key, value in _expansion(column, units, centred):
            if key == _key(column):
                back[at, at] = value
            elif key in own:
                back[own[key], at] = value
            else:
                onto[others[key], at] = value
    return tuple(_recoded(column, cells, units, centred) for column in columns), back, onto


def _expansion(column: CodedColumn | DesignColumn, units: Units, centred: set[str]) -> list[tuple[_Key, float]]:
    """The unit-free column as a combination of columns as written."""
    moved = [label for label in column.numbers if label in centred]
    scale = float(np.prod([units[label][1] for label in column.numbers]))
    found = []
    for size in range(len(moved) + 1):
        for left_out in combinations(moved, size):
            kept = tuple(sorted(label for label in column.numbers if label not in left_out))
            value = float(np.prod([-units[label][0] for label in left_out])) / scale
            found.append(((kept, frozenset(column.indicators)), value))
    return found


def _key(column: CodedColumn | DesignColumn) -> _Key:
    return tuple(sorted(column.numbers)), frozenset(column.indicators)


def _margin(column: CodedColumn | DesignColumn, label: str) -> _Key:
    return tuple(sorted(name for name in column.numbers if name != label)), frozenset(column.indicators)


def _recoded[Column: (CodedColumn, DesignColumn)](column: Column, cells: CellStatistics, units: Units, centred: set[str]) -> Column:
    """The product of the unit-free parts, formed from the parts: of a product far from zero no digits would be left to centre."""
    if not column.numbers:
        return column
    multiplier, shift = np.ones(cells.n_cells), 0.0
    for label, level in column.indicators:
        multiplier = multiplier * (cells.labels[label].codes == level)
    for label in column.numbers:
        centre, scale = units[label][0] if label in centred else 0.0, units[label][1]
        values = cell_values(cells, label)
        if column.feature and label not in cells.numbers:
            multiplier, shift = multiplier / scale, centre
        else:
            multiplier = multiplier * ((values - centre) / scale)
    return replace(column, multiplier=multiplier, shift=shift)


def cell_values(cells: CellStatistics, label: str) -> Floats:
    """(C,) a numeric part's value in each cell, of a feature its mean there."""
    return cells.numbers[label] if label in cells.numbers else cells.mean[:, cells.features.index(label)]


def unit_of(cells: CellStatistics, label: str) -> Unit:
    """Mean and sd over the rows, as the likelihood weighs them; a number that does not vary has its size for unit, and is not moved."""
    values, weight = cell_values(cells, label), cells.weight
    total = float(weight.sum())
    # about a value near them first: a mean of large numbers would lose the digits that the spread needs
    near = float(values[0])
    centre = near + float(weight @ (values - near)) / total
    square = float(weight @ (values - centre) ** 2)
    if label not in cells.numbers:
        at = cells.features.index(label)
        square += float(cells.cross[:, at, at].sum())
    spread = np.sqrt(square / total)
    size = float(np.hypot(centre, spread))
    if not np.isfinite(size):
        return 0.0, 1.0
    return (centre, float(spread)) if spread > CONSTANT * size else (0.0, size or 1.0)
