"""Cells between tasks: ``cells.parquet`` (one row per cell) with ``cells.json`` (what its columns mean).

Columns of cells.parquet: ``g.<column>`` a grouping column and ``c.<label>`` a categorical predictor, as text; ``x.<label>`` a numeric
predictor that the key fixes; ``n``, ``weight``, ``size``, ``total``, ``offset``; for gaussian ``mean.<i>`` and ``cross.<i>.<j>`` (i <= j),
numbered over the features and, last, the outcome; ``once.<name>`` parts of the constants that are summed over all cells.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multilevel.cells import CellStatistics, Floats, Labels
from multilevel.errors import DataError

FORMAT = 1
"""Version of the pair of files; read_cells refuses any other."""


@dataclass(frozen=True)
class CellsSpec:
    """What is in cells.parquet.

    groups, labels : name -> order of its levels: "number", "boolean", "text" or "temporal" (numbers are sorted by value).
    numbers, features, once : names, as in ``CellStatistics``.
    histogram : distinct outcome values and row counts (negative_binomial), else empty.
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
    return CellsSpec(**content)


def read_cells(cells_parquet: Path, cells_json: Path) -> CellStatistics:
    """The cell statistics that a study's two files hold.

    Raises
    ------
    DataError
        If a level is null or a statistic is not finite; the message names the column.
    """
    spec = read_cells_spec(cells_json)
    dictionaries = [f"g.{name}" for name in spec.groups] + [f"c.{name}" for name in spec.labels]
    table = pq.read_table(cells_parquet, read_dictionary=dictionaries)
    m = len(spec.features) + 1 if spec.family == "gaussian" else 0
    return CellStatistics(
        family=spec.family,
        log_outcome=spec.log_outcome,
        groups={name: _labels(table, f"g.{name}", order) for name, order in spec.groups.items()},
        labels={name: _labels(table, f"c.{name}", order) for name, order in spec.labels.items()},
        numbers={name: _floats(table, f"x.{name}") for name in spec.numbers},
        features=spec.features,
        n=table["n"].to_numpy().astype(np.int64),
        weight=_floats(table, "weight"),
        mean=np.column_stack([_floats(table, f"mean.{i}") for i in range(m)]) if m else np.zeros((table.num_rows, 0)),
        cross=_cross(table, m),
        size=_floats(table, "size"),
        total=_floats(table, "total"),
        offset=_floats(table, "offset"),
        once={name: float(_floats(table, f"once.{name}").sum()) for name in spec.once},
        histogram=np.array(spec.histogram, dtype=np.float64) if spec.histogram else None,
        known_sigma=spec.known_sigma,
    )


def _cross(table: pa.Table, m: int) -> Floats:
    cross = np.zeros((table.num_rows, m, m))
    for i in range(m):
        for j in range(i, m):
            cross[:, i, j] = cross[:, j, i] = _floats(table, f"cross.{i}.{j}")
    return cross


def _floats(table: pa.Table, name: str) -> Floats:
    values = np.asarray(table[name].to_numpy(), dtype=np.float64)
    if not np.all(np.isfinite(values)):
        wrong = int(np.sum(~np.isfinite(values)))
        raise DataError(
            f"{name}: {wrong} of {len(values)} cells have a value that is missing or not finite. Look for nulls, zeros under log( ) or "
            "in a division, and infinite numbers in the columns of the formula."
        )
    return values


def _labels(table: pa.Table, name: str, order: str) -> Labels:
    """Codes in reference order: text by code point, numbers by value, false before true."""
    column: Any = table[name]
    if column.null_count:
        raise DataError(f"{name[2:]}: {column.null_count} cells have a null; say under `missing` what such rows should become.")
    # row groups come with dictionaries of their own
    encoded = column.unify_dictionaries().combine_chunks()
    values = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    ranking = np.argsort(values.astype(np.float64) if order == "number" else values, kind="stable")
    rank = np.empty(len(values), dtype=np.int32)
    rank[ranking] = np.arange(len(values), dtype=np.int32)
    return Labels(rank[encoded.indices.to_numpy(zero_copy_only=False)], values[ranking])
