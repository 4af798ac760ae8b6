"""What a worker is asked: statistics of some segments of a study's line items, which it reads where they are. No line item leaves it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.source.relation import Relation
from groupwise.statistics.partitions import PARTITION_COLUMN, Segment, partition_name, rows_of_segments, segment_from
from groupwise.study.study import Study
from groupwise.validation.row_scan import RowScan
from groupwise.validation.suite import load_rules

MOST_SEGMENTS = 31
"""Of a job: all cells of all its segments are in memory at once, and a year of days would make thirty times as many as a month."""

type Statistics = dict[str, dict[str, bytes]]
"""Name of a segment -> what -> a Parquet file."""


@dataclass(frozen=True)
class Job:
    """Segments of a study's line items.

    names : columns that the study uses. distinct : numeric predictor -> how many different values it has in the whole window, which
    decides what the cells are; scattered : those of them that would make many cells of each there. n_ruled_out : line items of the segments
    that broke a rule.
    """

    study: Study
    relation: Relation
    segments: tuple[Segment, ...]
    names: tuple[str, ...]
    distinct: Mapping[str, int] = field(default_factory=dict)
    scattered: tuple[str, ...] = ()
    n_ruled_out: int = 0

    @property
    def rows(self) -> Relation:
        """The line items of the segments."""
        return rows_of_segments(self.study, self.relation, self.segments)

    @property
    def scan(self) -> RowScan:
        """The rules on them."""
        return RowScan(self.study, self.rows, load_rules(self.study, self.relation.columns), {}, (PARTITION_COLUMN,))

    def to_json(self) -> str:
        """Text that ``job_from`` reads back."""
        return json.dumps(
            {
                "study": self.study.model_dump_json(),
                "relation": self.relation.to_json(),
                "segments": [one.to_json() for one in self.segments],
                "names": list(self.names),
                "distinct": dict(self.distinct),
                "scattered": list(self.scattered),
                "n_ruled_out": self.n_ruled_out,
            },
            default=str,
        )


def job_from(text: str) -> Job:
    """The inverse of ``Job.to_json``."""
    content = json.loads(text)
    return Job(
        Study.model_validate_json(content["study"]),
        Relation.from_json(content["relation"]),
        tuple(map(segment_from, content["segments"])),
        tuple(content["names"]),
        content["distinct"],
        tuple(content["scattered"]),
        content["n_ruled_out"],
    )


def divided(job: Job, n: int) -> list[Job]:
    """Jobs that are the job together, each of segments that follow each other, with about as many line items.

    n : how many; more where these would have more than ``MOST_SEGMENTS``, fewer where there are not as many segments.
    """
    n = max(n, ceil(len(job.segments) / MOST_SEGMENTS))
    total, share = sum(one.fingerprint.rows for one in job.segments), 0
    parts: list[list[Segment]] = [[]]
    for one in job.segments:
        if len(parts) < n and parts[-1] and share * n >= total * len(parts):
            parts.append([])
        parts[-1].append(one)
        share += one.fingerprint.rows
    return [replace(job, segments=tuple(part)) for part in parts]


def by_segment(job: Job, table: pa.Table, column: str) -> Iterable[tuple[str, pa.Table]]:
    """The rows of a table by the segment that ``column`` names, without that column."""
    ordered = table.take(pa.compute.sort_indices(table[column]))
    values = ordered[column].to_pylist()
    rest = ordered.drop_columns([column])
    start = 0
    for place in range(1, len(values) + 1):
        if place == len(values) or values[place] != values[start]:
            yield partition_name(job.study, values[start]), rest.slice(start, place - start)
            start = place


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read_parquet(data: bytes) -> pa.Table:
    """The inverse of ``parquet_bytes``."""
    return pq.read_table(io.BytesIO(data))


def arrow(connection: duckdb.DuckDBPyConnection, sql: Any) -> pa.Table:
    """A query's result."""
    table: pa.Table = connection.sql(sql).to_arrow_table()
    return table
