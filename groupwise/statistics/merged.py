"""The statistics of all segments of a window as those of the whole window: the files that the compressing step leaves in a run's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from groupwise.compression.cell_query import compile_cells, subquery
from groupwise.compression.compress import CompressedStudy, cells_spec, orders_by_label, too_many_cells
from groupwise.compression.sql_expressions import TABLE
from groupwise.compression.unit_query import unit_counts, write_unit_sums
from groupwise.compression.unit_table import NUMBER
from groupwise.source.relation import connect
from groupwise.source.time_limit import close
from groupwise.source.user_sql.statement import run
from groupwise.statistics.job import Job
from groupwise.statistics.partition_cells import EVERYONE, HISTOGRAM, PAIRS, UNITS, cells_name, job_plan, sampled_columns
from groupwise.validation.missing_values import level_orders
from multilevel.cells.cell_plan import MOST_OUTCOMES, CellPlan
from multilevel.cells.column_facts import Schema
from multilevel.cells.files import cells_of_columns, units_path
from multilevel.cells.merge import merge_alike
from multilevel.cells.unit_sums import MOST_PAIRS, MOST_UNITS, UNIT, merge_unit_sums
from multilevel.cells.write_cells import write_cells
from multilevel.errors import DataError
from multilevel.families.registry import is_linear

SURE = 1.3
"""Approximate counts of units and pairs are off by less than this factor."""
OUTCOMES = "outcomes"

type Tables = Callable[[str], list[pa.Table]]
"""What is kept -> its table of every segment that has it."""


@dataclass(frozen=True)
class _Window:
    """The whole window: its job, SQL and plan."""

    job: Job
    study_sql: str
    plan: CellPlan
    schema: Schema
    tables: Tables


def merge(job: Job, study_sql: str, tables: Tables, folder: Path) -> CompressedStudy:
    """Write cells.parquet, cells.json and the sums by unit into ``folder``.

    Parameters
    ----------
    job : of all segments. study_sql : the study's rows in the window, as one scan would read them. tables : of the segments.

    Raises
    ------
    DataError : there are no rows, or more cells than the study allows.
    """
    study, formula = job.study, job.study.parsed_formula
    window = _Window(job, study_sql, *job_plan(job), tables)
    plan = window.plan
    parts = tables(cells_name(plan))
    if not parts:
        raise DataError("There are no rows to compress: the window, `where` or the quarantine left none.")
    units = sampled_columns(job)
    query = compile_cells(plan, window.schema, study_sql, with_key=bool(units))
    stacked = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    if OUTCOMES in stacked.column_names and not all(OUTCOMES in part.column_names for part in parts):
        stacked = stacked.drop_columns([OUTCOMES])
    counts = _counts(tables(HISTOGRAM))
    spec = cells_spec(formula, plan, window.schema, query, n_rows=0, n_cells=0, counts=counts)
    spec = replace(spec, levels=orders_by_label(plan, level_orders(study)))
    cells = merge_alike(cells_of_columns(stacked, spec))
    if cells.n_cells > study.max_cells and not is_linear(plan.family) and plan.keys:
        raise too_many_cells(plan, cells.n_cells, cells.n_rows, study.max_cells)
    if cells.outcomes is not None and len(cells.outcomes.n) > MOST_OUTCOMES:
        cells = replace(cells, outcomes=None)
    path = folder / "cells.parquet"
    spec = replace(spec, units={column: _merge_units(window, place, column, units_path(path, place)) for place, column in enumerate(units)})
    write_cells(cells if units else replace(cells, key=None), spec, path, folder / "cells.json")
    return CompressedStudy(path, folder / "cells.json", cells.n_cells, cells.n_rows, cells.n_rows / cells.n_cells, query.sql)


def _counts(tables: Sequence[pa.Table]) -> list[list[float]]:
    """Distinct outcomes of all segments, and how many rows have them."""
    if not tables:
        return []
    table = pa.concat_tables(tables)
    values, place = np.unique(table["outcome"].to_numpy().astype(np.float64), return_inverse=True)
    return np.column_stack([values, np.bincount(place, table["n"].to_numpy())]).tolist()


def _merge_units(window: _Window, place: int, column: str, path: Path) -> int:
    """Write the sums of one sampled column; how many units it has.

    The units are the first of all by hash, as one scan takes them; where so many pairs of cell and unit may be there that fewer are taken,
    the window is scanned for them.
    """
    pairs = pa.concat_tables(window.tables(cells_name(window.plan, PAIRS, place)))
    about, n_pairs = int(pairs["n_units"].to_numpy().max()), int(pairs["n_pairs"].to_numpy().sum())
    if MOST_PAIRS * about < SURE * MOST_UNITS * n_pairs:
        connection = connect(window.job.relation, path.parent)
        try:
            two_passes = is_linear(window.plan.family) and not window.plan.has_weights
            counts = ", ".join(unit_counts(window.plan, window.schema, column).values())
            row = run(connection, f"select {counts} from (select * from {subquery(window.study_sql)}) as {TABLE}").fetchone() or (0, 0)
            return write_unit_sums(
                connection, window.study_sql, window.plan, window.schema, column, path, two_passes=two_passes, about=(row[0], row[1])
            )
        finally:
            close(connection)
    everyone = _hashes(window.tables(f"{EVERYONE}-{place}"))
    first = everyone[:MOST_UNITS]
    sums = pa.concat_tables(window.tables(cells_name(window.plan, UNITS, place)), promote_options="permissive").combine_chunks()
    unit = sums[UNIT].to_numpy().astype(np.uint64)
    at = np.minimum(np.searchsorted(first, unit), max(len(first) - 1, 0))
    kept = first[at] == unit if len(first) else np.zeros(0, dtype=bool)
    numbered = sums.set_column(sums.column_names.index(UNIT), UNIT, pa.array(at + 1)).filter(pa.array(kept))
    pq.write_table(merge_unit_sums(numbered), path, compression="zstd")
    return len(everyone)


def _hashes(tables: Sequence[pa.Table]) -> NDArray[np.uint64]:
    """(U,) hashes of the units of all segments, in order."""
    if not tables:
        return np.zeros(0, dtype=np.uint64)
    return np.unique(pa.concat_tables(tables)[NUMBER].to_numpy().astype(np.uint64))
