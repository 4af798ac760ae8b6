"""The columns and types of every Parquet file of a source, from the files' footers; no row is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import duckdb

from groupwise.source.relation import first_line, literal
from groupwise.source.source_files import exactly
from multilevel.errors import SourceError

NO_VALUES = "NULL"
"""DuckDB's type of a column that cannot hold a value."""


@dataclass(frozen=True)
class Shard:
    """One file: its path, and name -> DuckDB type of its own columns (without those that a path adds)."""

    file: str
    columns: dict[str, str]

    @cached_property
    def _spelled(self) -> dict[str, str]:
        return {name.lower(): name for name in self.columns}

    def own_name(self, name: str) -> str | None:
        """The file's spelling of a column, None if it has no such; DuckDB does not tell capitals from small letters."""
        return self._spelled.get(name.lower())

    def type_of(self, name: str) -> str | None:
        """The file's type of a column, None if it has no such."""
        own = self.own_name(name)
        return None if own is None else self.columns[own]


def read_shards(connection: duckdb.DuckDBPyConnection, patterns: Sequence[str], study: str) -> tuple[Shard, ...]:
    """Every file that the patterns match, sorted by path; SourceError where one is no Parquet file."""
    listed = ", ".join(map(literal, patterns))
    query = (
        "select file_name, name, duckdb_type, num_children from (select distinct file_name, column_id, name, duckdb_type, num_children "
        f"from parquet_schema([{listed}])) order by file_name, column_id"
    )
    try:
        rows = connection.execute(query).fetchall()
    except duckdb.Error as error:
        raise SourceError(f"{study}: {', '.join(patterns)} cannot be read from this source: {first_line(error)}") from error
    elements: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for file, name, kind, children in rows:
        elements[str(file)].append((str(name), str(kind), int(children or 0)))
    return tuple(Shard(file, _top_level(found)) for file, found in elements.items())


def files_without_values(connection: duckdb.DuckDBPyConnection, column: str, shards: Sequence[Shard]) -> frozenset[str]:
    """Files whose footer says that every value of the column is null, or that there is no row."""
    files = ", ".join(literal(exactly(shard.file)) for shard in shards)
    query = (
        f"select file_name, bool_and(stats_null_count is not distinct from num_values) from parquet_metadata([{files}]) "
        f"where lower(path_in_schema) = {literal(column.lower())} group by file_name"
    )
    is_empty = {str(file): bool(empty) for file, empty in connection.execute(query).fetchall()}
    return frozenset(shard.file for shard in shards if shard.own_name(column) is not None and is_empty.get(shard.file, True))


def _top_level(elements: Sequence[tuple[str, str, int]]) -> dict[str, str]:
    """The children of the root among a schema's elements, which are listed depth first."""
    found: dict[str, str] = {}
    at = 1
    while at < len(elements):
        name, kind, _ = elements[at]
        found[name] = kind.strip('"')
        at = _after(elements, at)
    return found


def _after(elements: Sequence[tuple[str, str, int]], at: int) -> int:
    """The place after an element and all that is within it."""
    pending = 1
    while pending:
        pending += elements[at][2] - 1
        at += 1
    return at
