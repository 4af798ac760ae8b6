"""Sums by cell and sampled unit, written while the line items are at hand: rows are not read again after the fit."""

from __future__ import annotations

from pathlib import Path

import duckdb

from groupwise.compression.cell_query import compile_cells, render, subquery
from groupwise.compression.sql_expressions import as_sql
from groupwise.compression.unit_table import UnitTable
from groupwise.source.relation import literal, quote
from groupwise.source.user_sql.statement import run
from multilevel.cells.cell_plan import CellPlan
from multilevel.cells.column_facts import Schema
from multilevel.cells.unit_sums import MOST_PAIRS, MOST_UNITS
from multilevel.formula.tree import Column

ALL_UNITS = "memory.main.all_units"

SAMPLED_UNITS = "memory.main.sampled_units"


def write_unit_sums(
    connection: duckdb.DuckDBPyConnection, study_sql: str, plan: CellPlan, schema: Schema, column: str, path: Path, *, two_passes: bool
) -> int:
    """Write the sums of ``column``'s units, at most ``MOST_UNITS`` by hash and ``MOST_PAIRS`` pairs; returns how many units there are.

    Rows whose unit is null belong to none. ``two_passes`` : as the cells themselves were made.
    """
    own = f"study.{quote(column)}"
    keys = [f"study.{quote(key.name)}" if isinstance(key, Column) else as_sql(key, schema.moments) for key in plan.keys]
    pairs = f"approx_count_distinct(hash({', '.join([*keys, own])})) filter ({own} is not null)"
    facts = f"approx_count_distinct({own}), {pairs}"
    _, about, n_pairs = run(connection, render("cell_schema", study_rows=subquery(study_sql), facts=facts)).fetchone() or (0, 0, 0)
    most = min(MOST_UNITS, max(2, int(MOST_PAIRS * about / max(n_pairs, 1))))
    name = quote(column)
    counted = f"select {name}, hash({name}) as place from {subquery(study_sql)} where {name} is not null group by 1"
    numbered = f"select {name}, row_number() over (order by place, {name}) as number from ({counted})"
    run(connection, f"create or replace table {ALL_UNITS} as {numbered}")
    n_units = int((run(connection, f"select count(*) from {ALL_UNITS}").fetchone() or (0,))[0])
    run(connection, f"create or replace table {SAMPLED_UNITS} as select * from {ALL_UNITS} where number <= {most}")
    query = compile_cells(plan, schema, study_sql, two_passes=two_passes, units=UnitTable(SAMPLED_UNITS, column, "number"))
    partial = path.with_suffix(".partial")
    try:
        run(connection, f"copy ({query.sql}) to {literal(str(partial))} (format parquet, compression zstd, row_group_size 1000000)")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        connection.execute(f"drop table {ALL_UNITS}").execute(f"drop table {SAMPLED_UNITS}")
    return n_units
