"""The SELECT that reads JSON files as one table, with the types that all of their values have."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from groupwise.source.relation import first_line, literal, quote
from groupwise.source.source_files import exactly
from groupwise.source.source_table import SourceTable
from multilevel.errors import SourceError


def json_table(connection: duckdb.DuckDBPyConnection, files: Sequence[str], subject: str) -> SourceTable:
    """One table of all files, columns matched by name, null where an object lacks one.

    Raises SourceError, beginning with ``subject``, where a file is no table of objects.
    """
    listed = ", ".join(literal(exactly(file)) for file in files)
    subject = f"{subject} {', '.join(files)[:200]}"
    try:
        # every row is looked at, so that no later one has another type
        found = connection.sql(f"from read_json([{listed}], sample_size = -1, maximum_sample_files = {max(len(files), 1)}, "
                               "union_by_name = true, hive_partitioning = false)")  # fmt: skip
    except duckdb.Error as error:
        raise SourceError(f"{subject} cannot be read: {first_line(error)}") from error
    types = dict(zip(found.columns, map(str, found.types), strict=True))
    if list(types) == ["json"]:
        raise SourceError(f"{subject} holds no objects with names; write a list of objects, or one object a line.")
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    picks = ", ".join(map(quote, types))
    return SourceTable(f"select {picks} from read_json([{listed}], columns = {{{columns}}}, hive_partitioning = false)")
