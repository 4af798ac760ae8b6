"""Rows that are no line items of a study, such as those to predict at: files of their own, read as the study's source is read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from groupwise.source.casts import cast_line_items, check_casts
from groupwise.source.file_kinds import ARROW_TABLE, KINDS, kind_of
from groupwise.source.relation import first_line, open_source, quote
from groupwise.source.sealing import readable
from groupwise.source.shards.shard_select import parquet_table
from groupwise.source.source_table import ColumnUse, SourceTable
from groupwise.source.text_files.csv_table import csv_table
from groupwise.source.text_files.json_table import json_table
from groupwise.source.time_limit import close
from groupwise.study.study import Study
from groupwise.study.study_source import CsvOptions
from multilevel.errors import SourceError


def read_rows(study: Study, files: Sequence[str], named: str) -> pa.Table:
    """Every row and column of files of one kind, in the order of the files.

    CSV is read with the ``options`` of the study, where its source is CSV; columns that it gives ``types`` have them.

    Parameters
    ----------
    files : paths of this machine, or addresses of Parquet files; a file of no known suffix counts as Parquet. named : begins messages.

    Raises
    ------
    SourceError : the files cannot be read as one table, or are a database. DataError : a value is not of the study's type.
    """
    kind = kind_of(files[0]) or "parquet"
    if kind == "database":
        raise SourceError(f"{named}: {files[0]} is a database; write the rows to a Parquet, CSV, JSON or Arrow file first.")
    paths = [file if "://" in file else str(Path(file).absolute()) for file in files]
    with tempfile.TemporaryDirectory(prefix="groupwise-") as place:
        connection = open_source(None, named, Path(place), paths, kind, zone=study.zone)
        try:
            table = _table(connection, study, paths, kind, named, Path(place))
            found = connection.sql(table.sql)
            columns = {name: str(stored) for name, stored in zip(found.columns, found.types, strict=True)}
            types = {name: wanted for name, wanted in study.types.items() if name in columns}
            check_casts(connection, table.sql, "true", types, columns, named)
            rows: Any = connection.sql(cast_line_items(table.sql, types, columns)).to_arrow_table()
        except (duckdb.Error, pa.ArrowException) as error:
            raise SourceError(f"{named}: cannot be read as {KINDS[kind].removesuffix(' file')}: {first_line(error)}") from error
        finally:
            close(connection)
    return rows


def _table(connection: duckdb.DuckDBPyConnection, study: Study, paths: Sequence[str], kind: str, named: str, folder: Path) -> SourceTable:
    use = ColumnUse((), (), tuple(study.types))
    match kind:
        case "parquet":
            return parquet_table(connection, [file for path in paths for file in readable(path)], use, named, with_folders=False)
        case "csv":
            return csv_table(connection, paths, study.source.options or CsvOptions(), use, named, folder, everything=True)
        case "json":
            return json_table(connection, paths, f"{named}:")
        case _:
            return SourceTable(f"select * from {quote(ARROW_TABLE)}")
