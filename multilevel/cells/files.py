"""Cells between tasks: ``cells.parquet`` (one row per cell) with ``cells.json`` (what its columns mean).

Columns of cells.parquet: ``g.<column>`` a grouping column and ``c.<label>`` a categorical predictor, as text or whole numbers;
``x.<label>`` a numeric predictor that the key fixes; ``cell_key`` a hash of the key, where ``units.<i>.parquet`` has sums by cell and
sampled unit (``UnitSums``); ``n``; ``total``, ``weight``, ``size`` and ``offset`` where the study needs them; for
``observed.<moment>`` what ``Observed`` holds, where the outcome's own moments are not it;
``outcomes`` maps from (value, size) of a single row to how many rows have it; for
gaussian ``mean.<i>`` and ``cross.<i>.<j>`` (i <= j), numbered over the features and, last, the outcome (for a lognormal hurdle, the log of
the outcomes above zero); ``once.<name>`` parts of the constants that are summed over all cells.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from multilevel.arrays import Floats
from multilevel.cells.level_order import LevelOrder, ranked
from multilevel.cells.observed import Observed
from multilevel.cells.statistics import CellStatistics, Labels, Outcomes
from multilevel.cells.unit_sums import CELL, UnitSums, read_unit_sums
from multilevel.errors import DataError
from multilevel.families.registry import has_two_parts, statistics_of

FORMAT = 2
"""Version of the pair of files; read_cells refuses any other."""


@dataclass(frozen=True)
class CellsSpec:
    """What is in cells.parquet.

    groups, labels : name -> order of its levels: "number", "boolean", "text" or "temporal" (numbers are sorted by value).
    numbers, features, once : names, as in ``CellStatistics``.
    constants : further values of ``CellStatistics.once``, over all rows.
    moments : expression inside ``center()`` or ``scale()`` -> its mean and sd over all rows.
    levels : label of a categorical predictor -> the order of its levels, where it is not the sorted one.
    histogram : distinct outcome values and row counts (negative_binomial), else empty.
    units : how many units each sampled column has that the formula does not use; ``units.<i>.parquet`` holds the sums of the i-th.
    """

    formula: str
    family: str
    log_outcome: bool
    known_sigma: bool
    groups: dict[str, str]
    labels: dict[str, str]
    numbers: tuple[str, ...]
    features: tuple[str, ...]
    once: tuple[str, ...]
    n_rows: int
    n_cells: int
    histogram: list[list[float]] = field(default_factory=list)
    constants: dict[str, float] = field(default_factory=dict)
    moments: dict[str, tuple[float, float]] = field(default_factory=dict)
    levels: dict[str, LevelOrder] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    format: int = FORMAT


def write_cells_spec(spec: CellsSpec, path: Path) -> None:
    """Write cells.json."""
    path.write_text(json.dumps(asdict(spec), indent=1, ensure_ascii=False), encoding="utf-8")


def read_cells_spec(path: Path) -> CellsSpec:
    """Read cells.json.

    Raises
    ------
    DataError
        If it was written by another version.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise DataError(f"{path} has format {content.get('format')!r}, this version reads {FORMAT}: compress the study again.")
    for name in ("numbers", "features", "once"):
        content[name] = tuple(content[name])
    orders = content.get("levels", {}).items()
    content["levels"] = {label: LevelOrder(tuple(order["first"]), tuple(order["last"])) for label, order in orders}
    return CellsSpec(**content)


def read_cells(cells_parquet: Path, cells_json: Path) -> CellStatistics:
    """The cell statistics that a study's two files hold.

    Raises
    ------
    DataError
        If a level is null or a statistic is not finite; the message names the column.
    """
    return cells_of_columns(pq.ParquetFile(cells_parquet), read_cells_spec(cells_json))


def cells_of_columns(columns: pq.ParquetFile | pa.Table, spec: CellsSpec) -> CellStatistics:
    """``read_cells`` of what the two files hold; a table of several partitions' cells gives them all, one after the other."""
    file = _Columns(columns)
    n = file.read("n").astype(np.int64)
    count = n.astype(np.float64)
    keeps, two_parts = statistics_of(spec.family), has_two_parts(spec.family)
    m = len(spec.features) + 1 if keeps.moments else 0
    mean = np.empty((len(n), m))
    for i in range(m):
        mean[:, i] = file.floats(f"mean.{i}")
    cross = _cross(file, len(n), m)
    return CellStatistics(
        family=spec.family,
        log_outcome=spec.log_outcome,
        groups={name: file.labels(f"g.{name}", order) for name, order in spec.groups.items()},
        labels={name: file.labels(f"c.{name}", order, spec.levels.get(name)) for name, order in spec.labels.items()},
        numbers={name: file.floats(f"x.{name}") for name in spec.numbers},
        features=spec.features,
        n=n,
        weight=file.floats("weight", count),
        mean=mean,
        cross=cross,
        size=file.floats("size", count),
        total=file.floats("total", count * mean[:, -1] if m and not two_parts else None),
        offset=file.floats("offset", np.zeros(len(n))),
        once={name: float(file.floats(f"once.{name}").sum()) for name in spec.once} | spec.constants,
        histogram=np.array(spec.histogram, dtype=np.float64) if spec.histogram else None,
        known_sigma=spec.known_sigma,
        outcomes=file.outcomes("outcomes"),
        log_total=file.floats("once.sum_log_outcome") if keeps.log_sums else None,
        observed=_observed(file, mean, cross),
        key=file.read(CELL).astype(np.uint64) if CELL in file.names else None,
    )


def read_units(cells_parquet: Path, cells_json: Path) -> tuple[UnitSums, ...]:
    """The sums by cell and unit that were written with the cells, one for each sampled column that the formula does not use."""
    spec = read_cells_spec(cells_json)
    n_moments = len(spec.features) + 1 if statistics_of(spec.family).moments else 0
    places = enumerate(spec.units.items())
    return tuple(read_unit_sums(units_path(cells_parquet, place), name, n_units, n_moments) for place, (name, n_units) in places)


def units_path(cells_parquet: Path, place: int) -> Path:
    """Where the sums of the sampled column at ``place`` are."""
    return cells_parquet.with_name(f"units.{place}.parquet")


@dataclass(frozen=True)
class _Columns:
    """cells.parquet, a column at a time, so that ten million cells are not in memory twice."""

    file: pq.ParquetFile | pa.Table

    @property
    def names(self) -> list[str]:
        """Its columns."""
        return list(self.file.column_names if isinstance(self.file, pa.Table) else self.file.schema_arrow.names)

    def column(self, name: str) -> Any:
        """A column as Arrow has it."""
        return self.file[name] if isinstance(self.file, pa.Table) else self.file.read(columns=[name])[name]

    def read(self, name: str) -> NDArray[Any]:
        """A numeric column."""
        return self.column(name).to_numpy()

    def floats(self, name: str, otherwise: Floats | None = None) -> Floats:
        """A column of doubles; ``otherwise`` where the study needs no such column (weight and size are then n, offset is 0)."""
        if otherwise is not None and name not in self.names:
            return otherwise
        values = np.asarray(self.read(name), dtype=np.float64)
        wrong = int(np.sum(~np.isfinite(values)))
        if wrong:
            raise DataError(
                f"{name}: {wrong} of {len(values)} cells have a value that is missing or not finite. Look for nulls, zeros under log( ) or "
                "in a division, and infinite numbers in the columns of the formula."
            )
        return values

    def outcomes(self, name: str) -> Outcomes | None:
        """A column of maps from (value, size) to rows, cell by cell; None where the study keeps none."""
        if name not in self.names:
            return None
        column = self.column(name).combine_chunks()
        counts = np.diff(column.offsets.to_numpy())
        value, size = (column.keys.field(part).to_numpy(zero_copy_only=False).astype(np.float64) for part in ("value", "size"))
        n = column.items.to_numpy(zero_copy_only=False).astype(np.float64)
        return Outcomes(np.repeat(np.arange(len(counts), dtype=np.int32), counts), value, size, n)

    def labels(self, name: str, order: str, levels: LevelOrder | None = None) -> Labels:
        """Codes in reference order: text by code point, numbers by value, false before true; ``levels``: the study's own order."""
        column = self.column(name)
        if column.null_count:
            raise DataError(f"{name[2:]}: {column.null_count} cells have a null; say under `missing` what such rows should become.")
        if pa.types.is_integer(column.type):
            found, values = pd.factorize(column.to_numpy())
        else:
            encoded = column.dictionary_encode().combine_chunks()
            found, values = encoded.indices.to_numpy(), encoded.dictionary.to_numpy(zero_copy_only=False)
        ranking = ranked(values, order, levels, name[2:])
        rank = np.empty(len(values), dtype=np.int32)
        rank[ranking] = np.arange(len(values), dtype=np.int32)
        return Labels(rank[found], np.array([str(value) for value in values[ranking].tolist()], dtype=object))


def _observed(file: _Columns, mean: Floats, cross: Floats) -> Observed:
    """The rows' own moments; those of the outcome itself where the model is of it as it stands."""
    nothing = np.zeros(len(mean))
    plain = Observed.of_outcome(mean[:, -1], cross[:, -1, -1]) if mean.shape[1] else None
    return Observed(
        file.floats("observed.mean", None if plain is None else plain.mean),
        file.floats("observed.square", None if plain is None else plain.square),
        file.floats("observed.size", np.broadcast_to(1.0, len(mean))),
        file.floats("observed.size_square", nothing),
        file.floats("observed.product", nothing),
    )


def _cross(file: _Columns, n_cells: int, m: int) -> Floats:
    cross = np.empty((n_cells, m, m))
    for i in range(m):
        for j in range(i, m):
            cross[:, i, j] = cross[:, j, i] = file.floats(f"cross.{i}.{j}")
    return cross
