"""What the line items of a partition are, counted in one scan: by what becomes of them, by rule, by need, and what decides on the cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import duckdb
import pyarrow as pa

from groupwise.compression.column_scan import schema_of_types
from groupwise.compression.sql_expressions import TABLE
from groupwise.source.fingerprint import FINGERPRINT, fingerprint_of, fingerprinted, hash_select, packed_hash
from groupwise.source.relation import quote, rows_of
from groupwise.source.user_sql.statement import one_statement
from groupwise.statistics.job import Job, Statistics, arrow, by_segment, parquet_bytes
from groupwise.statistics.partitions import NOTHING, PARTITION_COLUMN, partition_name
from groupwise.validation.missing_values import level_counts, refuse_literal_level
from groupwise.validation.row_scan import BROKEN_RULES, Counts, RowScan, flag, select_list
from groupwise.validation.window_counts import ABOUT, HASH, predictors_to_count
from multilevel.cells.column_facts import Schema
from multilevel.errors import SourceError

FACTS, QUARANTINE = "facts", "quarantine"
PARTITION_NAME = "partition"
"""Column of the facts that says which partition they are of: those of a month are the rows of its days."""
MOST_VALUES = 100
"""Different values of a numeric predictor, about, up to which they are kept: far beyond those with which it joins the key."""


def count(job: Job, connection: duckdb.DuckDBPyConnection) -> Statistics:
    """``facts`` of every segment, one row each, and ``quarantine``, its rows that broke a rule, where there are such.

    Raises
    ------
    SourceError : the line items are no longer those that the fingerprint was taken of.
    """
    scan = job.scan
    by = f"{TABLE}.{quote(PARTITION_COLUMN)}"
    picks = {name: f"cast({sql} as bigint)" for name, sql in scan.sums().items()} | _bounds(scan) | _distinct(scan)
    own = packed_hash(fingerprinted(job.names, job.relation.columns))
    flagged = scan.flagged_sql(f", {own} as {quote(HASH)}")
    query = f"select {by} as segment, {hash_select(quote(HASH))}, {select_list(picks)} from ({flagged}) as {TABLE} group by 1"
    found = {partition_name(job.study, row.pop("segment")): row for row in _rows(connection, job, query)}
    for one in job.segments:
        read = NOTHING if one.name not in found else fingerprint_of(found[one.name])
        if read != one.fingerprint:
            raise SourceError(f"{job.study.name}: {one.name} was written to after this run had begun to read it. Start the run again.")
    for row in found.values():
        for name in FINGERPRINT:
            row.pop(name)
    for more in (_levels(job, scan, connection), _values(job, scan, found, connection)):
        for name, row in more.items():
            found[name] |= row
    made = {name: {FACTS: parquet_bytes(pa.Table.from_pylist([{PARTITION_NAME: name, **row}]))} for name, row in found.items()}
    if any(row["quarantined"] for row in found.values()):
        names = [name for name in job.relation.columns if name in job.names]
        rows = arrow(connection, one_statement(scan.quarantined_sql([*names, PARTITION_COLUMN])))
        for name, table in by_segment(job, rows, PARTITION_COLUMN):
            made[name][QUARANTINE] = parquet_bytes(table)
    return made


def study_schema(job: Job) -> Schema:
    """What the plan of the cells needs to know, from types and from what was counted."""
    return schema_of_types(job.scan.study_types, job.distinct, job.scattered)


def _bounds(scan: RowScan) -> dict[str, str]:
    return {
        f"{side} {i} {k}": sql
        for i, bounds in enumerate(scan.bounds())
        for k, pair in enumerate(bounds)
        for side, sql in zip(("low", "high"), pair, strict=True)
    }


def _distinct(scan: RowScan) -> dict[str, str]:
    """About how many values each numeric predictor has."""
    kept = flag("is kept")
    return {f"{ABOUT}{name}": f"approx_count_distinct({TABLE}.{quote(name)}) filter ({kept})" for name in predictors_to_count(scan)}


def _levels(job: Job, scan: RowScan, connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    picks = level_counts(job.study, scan.types)
    if not picks:
        return {}
    query = (
        f"select {quote(PARTITION_COLUMN)} as segment, {select_list(picks)} from ({scan.marked_sql()}) where {flag('is kept')} group by 1"
    )
    return {partition_name(job.study, row.pop("segment")): row for row in _rows(connection, job, query)}


def _values(
    job: Job, scan: RowScan, found: Mapping[str, Mapping[str, Any]], connection: duckdb.DuckDBPyConnection
) -> dict[str, dict[str, Any]]:
    """The values of numeric predictors that have few, of each segment."""
    names = predictors_to_count(scan)
    few = [name for name in names if any(row[f"{ABOUT}{name}"] <= MOST_VALUES for row in found.values())]
    if not few:
        return {}
    kept = f"select * from ({scan.flagged_sql()}) as {TABLE} where {flag('is kept')}"
    made: dict[str, dict[str, Any]] = {}
    for name in few:
        query = f"select {quote(PARTITION_COLUMN)} as segment, list(distinct {quote(name)}) as own from ({kept}) group by 1"
        for row in _rows(connection, job, query):
            segment = partition_name(job.study, row["segment"])
            if found[segment][f"{ABOUT}{name}"] <= MOST_VALUES:
                made.setdefault(segment, {})[f"values {name}"] = row["own"]
    return made


def _rows(connection: duckdb.DuckDBPyConnection, job: Job, query: str) -> list[dict[str, Any]]:
    return rows_of(connection, query, job.study.name, "the line items cannot be counted")


class WindowFacts:
    """The facts of all segments of a window together."""

    def __init__(self, job: Job, rows: Sequence[Mapping[str, Any]]) -> None:
        self._job = job
        self._rows = rows

    @cached_property
    def counts(self) -> Counts:
        """As one scan of the window counts them."""
        scan = self._job.scan
        sums = {name: self._sum(name) for name in scan.sums()}
        varied = {
            f"varied {i}": any(len(self._values(f"low {i} {k}") | self._values(f"high {i} {k}")) > 1 for k in range(len(one.values)))
            for i, one in enumerate(scan.varied)
        }
        return scan.counts(sums | varied)

    def refuse(self) -> None:
        """What a scan refuses before it counts."""
        study, types = self._job.study, self._job.scan.types
        refuse_literal_level(study, {name: self._sum(name) for name in level_counts(study, types)})

    def distinct(self) -> dict[str, int]:
        """About how many values each numeric predictor has in the window: what one scan says, as far as it decides anything."""
        found = {}
        with duckdb.connect() as connection:
            for name in predictors_to_count(self._job.scan):
                about = [int(row[f"{ABOUT}{name}"] or 0) for row in self._rows]
                values = [value for row in self._rows for value in row.get(f"values {name}") or ()]
                found[name] = max(about, default=0)
                if all(one <= MOST_VALUES for one in about) and values:
                    kind = self._job.relation.columns[name]
                    query = f"select approx_count_distinct(cast(value as {kind})) from (select unnest($values) as value)"
                    found[name] = int((connection.execute(query, {"values": values}).fetchone() or (0,))[0])
        return found

    def _sum(self, name: str) -> int:
        return sum(int(row.get(name) or 0) for row in self._rows)

    def _values(self, name: str) -> set[object]:
        values = {row[name] for row in self._rows if row[name] is not None}
        # a NaN differs from itself here, not to DuckDB
        return {"NaN" if isinstance(value, float) and math.isnan(value) else value for value in values}


def quarantine_table(tables: Sequence[pa.Table]) -> pa.Table:
    """Quarantined rows of several segments, what they broke last."""
    joined = pa.concat_tables(tables, promote_options="permissive")
    return joined.select([*(name for name in joined.column_names if name != BROKEN_RULES), BROKEN_RULES])
