"""Sums by cell and sampled unit, written while the line items are at hand: rows are not read again after the fit."""

from __future__ import annotations

from pathlib import Path

import duckdb

from groupwise.compression.cell_query import compile_cells, subquery
from groupwise.compression.sql_expressions import as_sql
from groupwise.compression.unit_table import NUMBER, VALUE, UnitTable
from groupwise.compression.write_query import write_query
from groupwise.source.relation import quote
from groupwise.source.user_sql.statement import run
from multilevel.cells.cell_plan import CellPlan
from multilevel.cells.column_facts import Schema
from multilevel.cells.unit_sums import MOST_PAIRS, MOST_UNITS
from multilevel.formula.tree import Column

ALL_UNITS = "memory.main.all_units"

SAMPLED_UNITS = "memory.main.sampled_units"


def unit_counts(plan: CellPlan, schema: Schema, column: str) -> dict[str, str]:
    """Aggregates over the study's rows: about how many units there are, and how many pairs of a cell and a unit."""
    own = f"study.{quote(column)}"
    keys = [f"study.{quote(key.name)}" if isinstance(key, Column) else as_sql(key, schema.moments) for key in plan.keys]
    pairs = f"approx_count_distinct(hash({', '.join([*keys, own])})) filter ({own} is not null)"
    return {"n_units": f"approx_count_distinct({own})", "n_pairs": pairs}


def write_unit_sums(
    connection: duckdb.DuckDBPyConnection,
    study_sql: str,
    plan: CellPlan,
    schema: Schema,
    column: str,
    path: Path,
    *,
    two_passes: bool,
    about: tuple[int, int],
) -> int:
    """Write the sums of ``column``'s units, at most ``MOST_UNITS`` by hash and ``MOST_PAIRS`` pairs; returns how many units there are.

    Rows whose unit is null belong to none. ``two_passes`` : as the cells themselves were made. ``about`` : of ``unit_counts``.
    """
    own = f"study.{quote(column)}"
    n_about, n_pairs = about
    most = min(MOST_UNITS, max(2, int(MOST_PAIRS * n_about / max(n_pairs, 1))))
    with_unit = f"(select * from {subquery(study_sql)}) as study where {own} is not null"
    counted = f"select {own} as {VALUE}, hash({own}) as place from {with_unit} group by 1"
    numbered = f"select {VALUE}, row_number() over (order by place, {VALUE}) as {NUMBER} from ({counted})"
    run(connection, f"create or replace table {ALL_UNITS} as {numbered}")
    n_units = int((run(connection, f"select count(*) from {ALL_UNITS}").fetchone() or (0,))[0])
    run(connection, f"create or replace table {SAMPLED_UNITS} as select * from {ALL_UNITS} where {NUMBER} <= {most}")
    try:
        write_query(
            connection, compile_cells(plan, schema, study_sql, two_passes=two_passes, units=UnitTable(SAMPLED_UNITS, column)).sql, path
        )
    finally:
        connection.execute(f"drop table {ALL_UNITS}").execute(f"drop table {SAMPLED_UNITS}")
    return n_units
