"""Cells that were merged in memory as the pair of files that ``read_cells`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multilevel.cells.files import CellsSpec, write_cells_spec
from multilevel.cells.observed import Observed
from multilevel.cells.statistics import CellStatistics, Labels, Outcomes
from multilevel.cells.unit_sums import CELL

LOG_TOTAL = "sum_log_outcome"
"""The constant that ``CellStatistics`` keeps by cell too."""


def write_cells(cells: CellStatistics, spec: CellsSpec, cells_parquet: Path, cells_json: Path) -> CellsSpec:
    """Write the pair of files; returns what cells.json says.

    Parameters
    ----------
    cells : the cells of all rows. spec : what it says of the plan; numbers of rows and cells, and constants, are those of ``cells``.
    """
    by_cell = () if cells.log_total is None else (LOG_TOTAL,)
    constants = {name: value for name, value in cells.once.items() if name not in by_cell}
    written = replace(spec, n_rows=cells.n_rows, n_cells=cells.n_cells, once=by_cell, constants=constants)
    pq.write_table(cells_table(cells, spec), cells_parquet, compression="zstd", row_group_size=1_000_000)
    write_cells_spec(written, cells_json)
    return written


def cells_table(cells: CellStatistics, spec: CellsSpec) -> pa.Table:
    """The columns of cells.parquet, as ``multilevel.cells.files`` describes them."""
    columns: dict[str, Any] = {f"g.{name}": _labels(own, spec.groups[name]) for name, own in cells.groups.items()}
    columns |= {f"c.{name}": _labels(own, spec.labels[name]) for name, own in cells.labels.items()}
    columns |= {f"x.{name}": values for name, values in cells.numbers.items()}
    columns |= {"n": cells.n, "weight": cells.weight, "size": cells.size, "total": cells.total, "offset": cells.offset}
    m = cells.mean.shape[1]
    columns |= {f"mean.{i}": cells.mean[:, i] for i in range(m)}
    columns |= {f"cross.{i}.{j}": cells.cross[:, i, j] for i in range(m) for j in range(i, m)}
    if cells.observed is not None:
        columns |= {f"observed.{field.name}": getattr(cells.observed, field.name) for field in fields(Observed)}
    if cells.log_total is not None:
        columns[f"once.{LOG_TOTAL}"] = cells.log_total
    if cells.outcomes is not None:
        columns["outcomes"] = _outcomes(cells.outcomes, cells.n_cells)
    if cells.key is not None:
        columns[CELL] = cells.key
    return _table(columns)


def _table(columns: Mapping[str, Any]) -> pa.Table:
    return pa.table(
        {name: values if isinstance(values, pa.Array) else pa.array(np.ascontiguousarray(values)) for name, values in columns.items()}
    )


def _labels(labels: Labels, order: str) -> Any:
    """Whole numbers as such, everything else as text."""
    values: Any = pa.array(labels.values.astype(str).tolist(), pa.string())
    if order == "number":
        try:
            whole = values.cast(pa.int64())
        except pa.ArrowInvalid:
            pass
        else:
            if whole.cast(pa.string()).equals(values):
                values = whole
    return values.take(pa.array(labels.codes, pa.int32()))


def _outcomes(outcomes: Outcomes, n_cells: int) -> Any:
    """Cell by cell, a map from (value, size) to rows."""
    order = np.argsort(outcomes.cell, kind="stable")
    offsets: Any = np.concatenate([[0], np.cumsum(np.bincount(outcomes.cell, minlength=n_cells))]).astype(np.int32)
    pairs = pa.StructArray.from_arrays([pa.array(outcomes.value[order]), pa.array(outcomes.size[order])], ["value", "size"])
    n: Any = pa.array(np.rint(outcomes.n[order]).astype(np.int64))
    starts: Any = pa.array(offsets, pa.int32())
    return pa.MapArray.from_arrays(starts, pairs, n)
