"""Sums by cell and sampled unit (customer, household, store): what residuals of whole units need, kept with the cells.

A unit's line items may be alike although the formula leaves the unit out. The cells alone cannot tell, so the step that makes them keeps,
for a sample of the units, what ``CellStatistics`` keeps of a cell's sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
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


def merge_unit_sums(table: pa.Table) -> pa.Table:
    """The sums of several partitions, one after the other, as those of all rows: each pair of a cell and a unit once.

    table : columns as in ``units.<i>.parquet``; the unit named by the same number in all partitions.
    """
    pairs = pd.DataFrame({name: table[name].to_numpy() for name in (CELL, UNIT)}).groupby([CELL, UNIT], sort=False)
    codes = pairs.ngroup().to_numpy()
    first = np.unique(codes, return_index=True)[1]
    n = table["n"].to_numpy().astype(np.float64)
    weight = table["weight"].to_numpy() if "weight" in table.column_names else n

    def total(values: Floats) -> Floats:
        return np.bincount(codes, values, len(first))

    def mean(values: Floats, by: Floats) -> Floats:
        # about the first part's, so that a mean of large numbers keeps the digits that differences need
        anchor = values[first]
        # of a hurdle's rows above zero a pair may have none
        return anchor + total(by * (values - anchor[codes])) / np.where(total(by) > 0, total(by), 1.0)

    merged: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        values = table[name].to_numpy()
        if name in (CELL, UNIT):
            merged[name] = values[first]
        elif name == "n":
            merged[name] = np.rint(total(n)).astype(np.int64)
        elif name.startswith("mean."):
            merged[name] = mean(values, weight)
        elif name.startswith("observed."):
            merged[name] = mean(values, n)
        else:
            merged[name] = total(values)
    return pa.table({name: pa.array(values) for name, values in merged.items()})
