"""The one door to DuckDB for text that holds users' SQL: exactly one statement, of a kind that is meant."""

from __future__ import annotations

from typing import Any

import duckdb

from multilevel.errors import SourceError

KINDS = (duckdb.StatementType.SELECT, duckdb.StatementType.COPY, duckdb.StatementType.CREATE)


def one_statement(sql: str) -> Any:
    """The statement in ``sql``, parsed, for ``connection.execute`` and ``connection.sql``.

    Raises
    ------
    SourceError : there is not exactly one statement, or it is none that a run makes. duckdb.Error : no SQL.
    """
    found = duckdb.extract_statements(sql)
    if len(found) != 1 or found[0].type not in KINDS:
        kinds = ", ".join(str(statement.type).removeprefix("StatementType.") for statement in found[:5]) or "nothing"
        raise SourceError(f"the study's SQL came out as {len(found)} statements ({kinds}) where one query was meant; nothing was run.")
    return found[0]


def run(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyConnection:
    """Execute ``one_statement``."""
    return connection.execute(one_statement(sql))
