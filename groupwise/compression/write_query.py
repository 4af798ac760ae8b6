"""A query's result as a Parquet file, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import duckdb

from groupwise.source.relation import literal
from groupwise.source.user_sql.statement import run


def write_query(connection: duckdb.DuckDBPyConnection, sql: str, path: Path) -> Path:
    """Write the result under another name first: an interrupted COPY leaves a broken file behind."""
    partial = path.with_suffix(".partial")
    try:
        run(connection, f"copy ({sql}) to {literal(str(partial))} (format parquet, compression zstd, row_group_size 1000000)")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
