"""The cells of every segment of a job, and its sums by cell and sampled unit, from as few scans as the whole study takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.compression.cell_checks import check_cells, has_lost_digits, refuse_too_wide
from groupwise.compression.cell_query import LOST, PARTITION, compile_cells, subquery
from groupwise.compression.compress import CERTAIN, explained, needs_outcomes, outcome_pair
from groupwise.compression.sql_expressions import TABLE, as_sql
from groupwise.compression.unit_query import ALL_UNITS, SAMPLED_UNITS, unit_counts
from groupwise.compression.unit_table import NUMBER, VALUE, UnitTable
from groupwise.compression.write_query import write_query
from groupwise.source.relation import quote, rows_of
from groupwise.source.user_sql.statement import run
from groupwise.statistics.job import Job, Statistics, arrow, by_segment, parquet_bytes
from groupwise.statistics.partition_facts import study_schema
from groupwise.statistics.partitions import PARTITION_COLUMN, partition_name
from groupwise.statistics.recipe import plan_digest
from multilevel.cells.cell_plan import MOST_OUTCOMES, CellPlan, plan_cells
from multilevel.cells.column_facts import Schema
from multilevel.cells.unit_sums import MOST_UNITS
from multilevel.families.registry import is_linear
from multilevel.formula.columns import not_grouped_by

BY = f"{TABLE}.{quote(PARTITION_COLUMN)}"
HISTOGRAM, EVERYONE, UNITS, PAIRS = "histogram", "everyone", "units", "pairs"
"""What is kept beside cells: distinct outcomes; hashes of all units; sums by cell and unit; about how many units and pairs there are."""


def cells_name(plan: CellPlan, what: str = "cells", place: int | None = None) -> str:
    """What the cells of a plan, or what goes with them, are called in a partition's folder; ``place`` : of a sampled column."""
    return f"{what}-{plan_digest(plan)}" + ("" if place is None else f"-{place}")


def job_plan(job: Job) -> tuple[CellPlan, Schema]:
    """Which cells the study keeps."""
    formula = job.study.parsed_formula
    schema = study_schema(job)
    plan = plan_cells(formula, schema, job.study.family)
    refuse_too_wide(plan, formula)
    return plan, schema


def condense(job: Job, connection: duckdb.DuckDBPyConnection, folder: Path) -> Statistics:
    """The cells of every segment, and what goes with them; ``folder`` : for files in between."""
    study_sql = job.scan.study_sql(ruled_out=job.n_ruled_out)
    with explained(job.study.parsed_formula):
        plan, schema = job_plan(job)
        made: Statistics = {one.name: {} for one in job.segments}
        parts = _by_outcomes(job, connection, plan, schema, study_sql)
        for with_outcomes, part in parts:
            part_sql = part.scan.study_sql(ruled_out=job.n_ruled_out)
            _write_cells(part, connection, plan, schema, part_sql, folder, with_outcomes, made)
        if needs_outcomes(plan):
            outcome = as_sql(plan.raw_outcome, schema.moments)
            _put(job, _grouped(connection, f"{outcome} as outcome, count(*) as n", study_sql), HISTOGRAM, made)
    return made


def _grouped(connection: duckdb.DuckDBPyConnection, picks: str, study_sql: str) -> pa.Table:
    """Aggregates by segment, and by what in ``picks`` is none."""
    return arrow(connection, f"select {BY} as {PARTITION}, {picks} from (select * from {subquery(study_sql)}) as {TABLE} group by all")


def _by_outcomes(job: Job, connection: duckdb.DuckDBPyConnection, plan: CellPlan, schema: Schema, study_sql: str) -> list[tuple[bool, Job]]:
    """The job's segments in two parts: those that keep single rows' outcomes, since there are few, and the others."""
    if not plan.has_single_outcomes:
        return [(False, job)]
    about = f"approx_count_distinct({outcome_pair(plan, schema)})"
    query = f"select {BY} as segment, least({about}, count(*)) as n from (select * from {subquery(study_sql)}) as {TABLE} group by 1"
    rows = rows_of(connection, query, job.study.name, "the outcomes cannot be counted")
    few = {partition_name(job.study, row["segment"]) for row in rows if CERTAIN * row["n"] <= MOST_OUTCOMES}
    parts = [(with_outcomes, tuple(one for one in job.segments if (one.name in few) == with_outcomes)) for with_outcomes in (True, False)]
    return [(with_outcomes, replace(job, segments=segments)) for with_outcomes, segments in parts if segments]


def _write_cells(
    job: Job,
    connection: duckdb.DuckDBPyConnection,
    plan: CellPlan,
    schema: Schema,
    study_sql: str,
    folder: Path,
    with_outcomes: bool,
    made: Statistics,
) -> None:
    path = folder / "cells.parquet"

    def compiled(two_passes: bool, table: UnitTable | None = None) -> str:
        has_outcomes = with_outcomes and table is None
        return compile_cells(
            plan, schema, study_sql, with_outcomes=has_outcomes, two_passes=two_passes, with_key=True, units=table, partition=BY
        ).sql

    write_query(connection, compiled(False), path)
    check_cells(connection, path, plan)
    two_passes = is_linear(plan.family) and not plan.has_weights and has_lost_digits(connection, path)
    if two_passes:
        write_query(connection, compiled(True), path)
    _divide(job, path, cells_name(plan), made)
    for place, column in enumerate(sampled_columns(job)):
        with _sampled_units(job, connection, study_sql, column, made, place) as table:
            write_query(connection, compiled(two_passes, table), path)
        _divide(job, path, cells_name(plan, UNITS, place), made)
        picks = ", ".join(f"{sql} as {name}" for name, sql in unit_counts(plan, schema, column).items())
        _put(job, _grouped(connection, picks, study_sql), cells_name(plan, PAIRS, place), made)


def _divide(job: Job, path: Path, what: str, made: Statistics) -> None:
    table = pq.read_table(path)
    path.unlink()
    _put(job, table.drop_columns([LOST] if LOST in table.column_names else []), what, made)


def _put(job: Job, table: pa.Table, what: str, made: Statistics) -> None:
    """The rows of a table to the segments that ``PARTITION`` names; a segment without any gets a table without rows."""
    empty = parquet_bytes(table.slice(0, 0).drop_columns([PARTITION]))
    for one in job.segments:
        made[one.name][what] = empty
    for name, own in by_segment(job, table, PARTITION):
        made[name][what] = parquet_bytes(own)


def kinds(job: Job, plan: CellPlan) -> list[str]:
    """All that ``condense`` makes of a segment, the cells last."""
    places = range(len(sampled_columns(job)))
    of_units = [name for at in places for name in (f"{EVERYONE}-{at}", cells_name(plan, UNITS, at), cells_name(plan, PAIRS, at))]
    return [*([HISTOGRAM] if needs_outcomes(plan) else []), *of_units, cells_name(plan)]


@contextmanager
def _sampled_units(
    job: Job, connection: duckdb.DuckDBPyConnection, study_sql: str, column: str, made: Statistics, place: int
) -> Iterator[UnitTable]:
    """A table of every segment's first ``MOST_UNITS`` units by hash; the hashes of all of them are kept."""
    own, by = f"{TABLE}.{quote(column)}", quote(PARTITION_COLUMN)
    picks = f"{BY} as {by}, {own} as {VALUE}, hash({own}) as {NUMBER}"
    rows = f"(select * from {subquery(study_sql)}) as {TABLE} where {own} is not null"
    first = f"row_number() over (partition by {by} order by {NUMBER}, {VALUE}) <= {MOST_UNITS}"
    run(connection, f"create or replace table {ALL_UNITS} as select {picks} from {rows} group by all")
    run(connection, f"create or replace table {SAMPLED_UNITS} as select * from {ALL_UNITS} qualify {first}")
    try:
        _put(job, arrow(connection, f"select {by} as {PARTITION}, {NUMBER} from {ALL_UNITS}"), f"{EVERYONE}-{place}", made)
        yield UnitTable(SAMPLED_UNITS, column, PARTITION_COLUMN)
    finally:
        connection.execute(f"drop table {ALL_UNITS}").execute(f"drop table {SAMPLED_UNITS}")


def sampled_columns(job: Job) -> Sequence[str]:
    """Sampled columns that the formula leaves out."""
    return not_grouped_by(job.study.parsed_formula, job.study.sampled)
