"""Sums by cell and sampled unit (customer, household, store): what residuals of whole units need, kept with the cells.

A unit's line items may be alike although the formula leaves the unit out. The cells alone cannot tell, so the step that makes them keeps,
for a sample of the units, what ``CellStatistics`` keeps of a cell's sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from multilevel.arrays import Codes, Floats, Integers, distinct
from multilevel.errors import DataError

MOST_UNITS = 5_000
"""Units that are looked at, the first by hash."""

MOST_PAIRS = 2_000_000
"""Pairs of cell and unit that are kept; fewer units are looked at where they would be more."""

CELL = "cell_key"
UNIT = "unit"


@dataclass(frozen=True)
class UnitSums:
    """Sums over line items of P pairs of a cell and a unit.

    Attributes
    ----------
    column : whose values the units are. n_units : how many there are in all line items, those left out of the sample included.
    key : (P,) the cell, as in ``CellStatistics.key``. unit : (P,) the unit, from 0.
    n, weight, size, total : (P,) as in ``CellStatistics``. mean : (P, m + 1) weighted means of the features and, last, of the outcome;
        (P, 0) of families without moments.
    outcome, outcome_size : (P,) means over line items, as in ``Observed``: of the outcome on its raw scale, and of its trials or
        exposure, else 1.
    """

    column: str
    n_units: int
    key: NDArray[np.uint64]
    unit: Codes
    n: Floats
    weight: Floats
    mean: Floats
    size: Floats
    total: Floats
    outcome: Floats
    outcome_size: Floats

    def at(self, kept: NDArray[np.bool_] | Integers) -> UnitSums:
        """The kept pairs."""
        names = ("key", "unit", "n", "weight", "mean", "size", "total", "outcome", "outcome_size")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})


def cell_places(units: UnitSums, key: NDArray[np.uint64] | None) -> Integers:
    """(P,) the place of each pair's cell among cells with ``key`` (C,); DataError where one has none."""
    if key is None:
        raise DataError(f"sums by {units.column}: the cells were made without their keys; compress the study again.")
    order = np.argsort(key)
    place = np.minimum(np.searchsorted(key[order], units.key), len(key) - 1)
    if np.any(key[order[place]] != units.key):
        raise DataError(f"sums by {units.column} belong to other cells than these; compress the study again.")
    return np.asarray(order[place], dtype=np.int64)


def level_unit_pairs(level: Integers, unit: Codes) -> tuple[Integers, Integers]:
    """The N pairs of a level and a unit that occur: the level (N,) of each, and the place (P,) among them of every pair of cell and unit.

    level : (P,) of each pair of cell and unit; unit : (P,) as in ``UnitSums``.
    """
    n_units = int(unit.max(initial=0)) + 1
    both, place = distinct(level * n_units + unit)
    return both // n_units, place


def read_unit_sums(path: Path, column: str, n_units: int, n_moments: int) -> UnitSums:
    """The sums that the compressing step wrote; ``n_moments``: features and outcome whose means are kept, 0 without moments."""
    table = pq.ParquetFile(path)
    names = table.schema_arrow.names

    def read(name: str) -> NDArray[Any]:
        return table.read(columns=[name])[name].to_numpy()

    def floats(name: str, otherwise: Floats) -> Floats:
        return np.asarray(read(name), dtype=np.float64) if name in names else otherwise

    n = read("n").astype(np.float64)
    mean = np.empty((len(n), n_moments))
    for place in range(n_moments):
        mean[:, place] = read(f"mean.{place}")
    key, unit = read(CELL).astype(np.uint64), read(UNIT).astype(np.int32)
    outcome = floats("observed.mean", mean[:, -1] if n_moments else n)
    sums = (floats("weight", n), mean, floats("size", n), floats("total", n))
    return UnitSums(column, n_units, key, unit, n, *sums, outcome, floats("observed.size", np.ones(len(n))))
