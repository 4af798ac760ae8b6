"""The statistics of all segments of a window as those of the whole window: the files that the compressing step leaves in a run's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from groupwise.compression.cell_checks import check_cells
from groupwise.compression.cell_query import compile_cells, subquery
from groupwise.compression.compress import CompressedStudy, by_key, cells_spec, has_few_outcomes, orders_by_label, too_many_cells
from groupwise.compression.sql_expressions import TABLE
from groupwise.compression.unit_query import unit_counts, write_unit_sums
from groupwise.compression.unit_table import NUMBER
from groupwise.compression.write_query import write_query
from groupwise.source.relation import connect
from groupwise.source.time_limit import close
from groupwise.source.user_sql.statement import run
from groupwise.statistics.job import Job
from groupwise.statistics.partition_cells import EVERYONE, HISTOGRAM, PAIRS, UNITS, cells_name, job_plan, sampled_columns
from groupwise.statistics.sums import OUTCOMES, cell_sums_sql, files_sql, sum_sql
from groupwise.validation.missing_values import level_orders
from multilevel.cells.cell_plan import MOST_OUTCOMES, CellPlan
from multilevel.cells.column_facts import Schema
from multilevel.cells.files import units_path, write_cells_spec
from multilevel.cells.unit_sums import CELL, MOST_PAIRS, MOST_UNITS, UNIT
from multilevel.errors import DataError
from multilevel.families.registry import is_linear

SURE = 1.3
"""Approximate counts of units and pairs are off by less than this factor."""

type Paths = Callable[[str], list[Path]]
"""What is kept -> its file of every segment that has it."""


@dataclass(frozen=True)
class _Window:
    """The whole window: its job, SQL, plan and files."""

    job: Job
    study_sql: str
    plan: CellPlan
    schema: Schema
    paths: Paths
    connection: duckdb.DuckDBPyConnection

    def first(self, sql: str) -> int:
        """A number."""
        return int((self.connection.execute(sql).fetchone() or (0,))[0] or 0)


def merge(job: Job, study_sql: str, paths: Paths, connection: duckdb.DuckDBPyConnection, folder: Path) -> CompressedStudy:
    """Write cells.parquet, cells.json and the sums by unit into ``folder``.

    Parameters
    ----------
    job : of all segments. study_sql : the study's rows in the window, as one scan would read them. paths : the segments' files, in
        ``folder``. connection : reaches them.

    Raises
    ------
    DataError : there are no rows, or more cells than the study allows.
    """
    study, formula = job.study, job.study.parsed_formula
    window = _Window(job, study_sql, *job_plan(job), paths, connection)
    plan = window.plan
    parts = paths(cells_name(plan))
    if not parts:
        raise DataError("There are no rows to compress: the window, `where` or the quarantine left none.")
    units = sampled_columns(job)
    query = compile_cells(plan, window.schema, study_sql, with_key=bool(units))
    path = write_query(connection, cell_sums_sql(parts), folder / "cells.parquet")
    n_cells, n_rows = check_cells(connection, path, plan)
    _refuse_one_key_for_two(window, path, n_cells)
    if n_cells > study.max_cells and not is_linear(plan.family) and plan.keys:
        path.unlink()
        raise too_many_cells(plan, n_cells, n_rows, study.max_cells)
    _leave_out(window, path, with_key=bool(units))
    spec = cells_spec(formula, plan, window.schema, query, n_rows=n_rows, n_cells=n_cells, counts=_counts(window))
    of_units = {column: _merge_units(window, place, column, units_path(path, place)) for place, column in enumerate(units)}
    write_cells_spec(replace(spec, levels=orders_by_label(plan, level_orders(study)), units=of_units), folder / "cells.json")
    return CompressedStudy(path, folder / "cells.json", n_cells, n_rows, n_rows / n_cells, query.sql)


def _refuse_one_key_for_two(window: _Window, path: Path, n_cells: int) -> None:
    """Sums by unit know a cell by its key only."""
    if window.first(f"select count(distinct {CELL}) from {files_sql([path])}") != n_cells:
        path.unlink()
        raise DataError("Two different cells of the partitions have one key, so that they cannot be told apart; compress the study whole.")


def _leave_out(window: _Window, path: Path, *, with_key: bool) -> None:
    """Write the cells again without what is not needed of the window: keys, and single rows' outcomes where they are too many.

    In the order of their keys, as one scan of the window leaves them.
    """
    left_out = [] if with_key else [CELL]
    if OUTCOMES in window.connection.sql(f"select * from {files_sql([path])}").columns:
        left_out += [] if has_few_outcomes(window.connection, path, MOST_OUTCOMES) else [OUTCOMES]
    kept = f"* exclude ({', '.join(left_out)})" if left_out else "*"
    write_query(window.connection, by_key(f"select {kept} from {files_sql([path])}", window.plan), path)


def _counts(window: _Window) -> list[list[float]]:
    """Distinct outcomes of all segments, and how many rows have them."""
    paths = window.paths(HISTOGRAM)
    if not paths:
        return []
    rows = window.connection.execute(f"select * from ({sum_sql(HISTOGRAM, paths)}) order by outcome").fetchall()
    return [[float(value), float(count)] for value, count in rows]


def _merge_units(window: _Window, place: int, column: str, path: Path) -> int:
    """Write the sums of one sampled column; how many units it has.

    The units are the first of all by hash, as one scan takes them; where so many pairs of cell and unit may be there that fewer are taken,
    the window is scanned for them.
    """
    pairs = sum_sql(PAIRS, window.paths(cells_name(window.plan, PAIRS, place)))
    about, n_pairs = window.connection.execute(pairs).fetchone() or (0, 0)
    if MOST_PAIRS * about < SURE * MOST_UNITS * n_pairs:
        return _scan_units(window, column, path)
    everyone = window.paths(f"{EVERYONE}-{place}")
    hashes = sum_sql(EVERYONE, everyone)
    numbered = f"select {NUMBER}, row_number() over (order by {NUMBER}) as place from ({hashes})"
    sums = cell_sums_sql(window.paths(cells_name(window.plan, UNITS, place)))
    kept = f"select * replace (place as {UNIT}) from ({sums}) as sums inner join ({numbered}) as numbered on {UNIT} = {NUMBER}"
    write_query(window.connection, f"select * exclude ({NUMBER}, place) from ({kept}) where {UNIT} <= {MOST_UNITS}", path)
    return window.first(f"select count(*) from ({hashes})")


def _scan_units(window: _Window, column: str, path: Path) -> int:
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
