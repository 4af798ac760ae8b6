"""How often a step reads the line items, from DuckDB's own profile of every query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pytest

from groupwise.source import relation
from groupwise.source.sealing import seal


class Profiled:
    """A connection that keeps the profile of every query."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, scans: list[str]) -> None:
        self._connection = connection
        self._scans = scans
        self._pending = False

    def execute(self, *arguments: Any, **named: Any) -> duckdb.DuckDBPyConnection:
        self._harvest()
        found = self._connection.execute(*arguments, **named)
        self._pending = True
        return found

    def _harvest(self) -> None:
        """The profile of the query before, whose rows have been fetched by now."""
        if self._pending:
            self._pending = False
            profile = json.loads(self._connection.get_profiling_information("json"))
            self._scans += tables_of(profile.get("operator", []))

    def close(self) -> None:
        self._harvest()
        self._connection.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def tables_of(operators: list[dict[str, Any]]) -> Iterator[str]:
    """The tables that are read to their ends: of those below a limit the first rows are looked at."""
    for operator in operators:
        if operator["type"].endswith("LIMIT"):
            continue
        table = operator["extra_info"].get("Table")
        if operator["type"] in ("TABLE_SCAN", "SEQ_SCAN") and table is not None:
            yield table.rpartition(".")[2]
        yield from tables_of(operator.get("children", []))


@contextmanager
def counted_scans(patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The table of every scan on a connection to a source, in order."""
    scans: list[str] = []
    watched = relation.watched

    def profiled(connection: duckdb.DuckDBPyConnection, *arguments: Any) -> None:
        connection.execute("set enable_profiling = 'no_output'")
        seal(connection, *arguments)

    with patch.context() as own:
        own.setattr(relation, "watched", lambda connection: Profiled(watched(connection), scans))
        own.setattr(relation, "seal", profiled)
        yield scans
