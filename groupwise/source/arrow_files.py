"""Arrow IPC (Feather) files as one table: read by Arrow itself, file after file, which DuckDB asks for the columns that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import duckdb

from groupwise.source.file_kinds import ARROW_TABLE
from multilevel.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa


def register_arrow(connection: duckdb.DuckDBPyConnection, files: Sequence[str], study: str) -> None:
    """Give a connection the files as a view ``ARROW_TABLE``; SourceError where one cannot be read or has other types than the first."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    schemas = {file: _schema(file, study) for file in files}
    first, expected = next(iter(schemas.items()))
    for file, schema in schemas.items():
        names = dict.fromkeys([*expected.names, *schema.names])
        name = next((name for name in names if _kind(schema, name) != _kind(expected, name)), None)
        if name is not None:
            raise SourceError(
                f"{study}: source.arrow: the files do not agree on {name}: it is {_kind(expected, name)} in {first} and "
                f"{_kind(schema, name)} in {file}. Write the files with the same columns and types."
            )
    try:
        connection.register(ARROW_TABLE, ds.dataset(list(files), schema=expected, format="ipc"))
    except (pa.ArrowException, duckdb.Error) as error:
        raise SourceError(f"{study}: source.arrow {', '.join(files)[:200]} cannot be read: {str(error)[:200]}") from error


def _schema(file: str, study: str) -> pa.Schema:
    import pyarrow as pa

    try:
        with pa.OSFile(file, "rb") as opened:
            return pa.ipc.open_file(opened).schema
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{study}: source.arrow {file} is no Arrow IPC file (Feather version 2); write it with pyarrow.feather.write_feather or "
            "polars.DataFrame.write_ipc."
        ) from error


def _kind(schema: pa.Schema, name: str) -> str:
    return str(schema.field(name).type) if name in schema.names else "not there"
