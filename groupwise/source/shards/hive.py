"""Folders that carry a column (``region=NORTH/part.parquet``): what their path says never replaces a file's own column silently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

import duckdb

from groupwise.source.relation import literal
from groupwise.source.shards.footer_schemas import Shard
from groupwise.source.source_files import exactly


def folder_values(file: str) -> dict[str, str]:
    """Key -> value of the ``key=value`` folders above a file."""
    pairs = [part.split("=", 1) for part in PurePosixPath(file).parts[:-1] if "=" in part]
    return {key: unquote(value) for key, value in pairs if key}


def common_keys(shards: Sequence[Shard]) -> tuple[str, ...]:
    """Keys of the folders, where all files have the same; otherwise DuckDB reads none of them."""
    keys = {tuple(folder_values(shard.file)) for shard in shards}
    return next(iter(keys)) if len(keys) == 1 else ()


def collisions(shards: Sequence[Shard]) -> list[str]:
    """Keys of the folders that a file below has as a column too, where DuckDB would read the folders at all: all files have the same."""
    return [name for name in common_keys(shards) if any(shard.own_name(name) is not None for shard in shards)]


def file_that_differs(connection: duckdb.DuckDBPyConnection, key: str, shards: Sequence[Shard]) -> str | None:
    """The first file whose own column ``key`` holds, by its footer, anything but its folder's value; None where all are the same."""
    files = ", ".join(literal(exactly(shard.file)) for shard in shards)
    query = (
        "select file_name, min(stats_min_value), max(stats_max_value), bool_and(coalesce(stats_null_count = 0, false)), "
        f"count(*) = count(stats_min_value) from parquet_metadata([{files}]) where lower(path_in_schema) = {literal(key.lower())} "
        "group by file_name order by file_name"
    )
    for file, low, high, has_no_null, is_known in connection.execute(query).fetchall():
        value = folder_values(str(file))[key]
        if not (is_known and has_no_null and str(low) == value == str(high)):
            return str(file)
    return None
