"""What a database brings along that users' SQL can name: tables, views and macros."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb

_NAME = r'(?:"(?:[^"]|"")*"|[^\s".(]+)'
_VIEW = re.compile(
    rf"\s*create\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+)?view\s+(?:if\s+not\s+exists\s+)?{_NAME}(?:\.{_NAME})*"
    rf"\s*(?:\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\))?\s+as\s+(?P<query>.*?);?\s*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Macro:
    """What a macro is short for; ``is_table``: a query rather than an expression."""

    definition: str
    is_table: bool


@dataclass(frozen=True)
class SourceObjects:
    """Names are in lower case; a view or macro name may have several definitions, in other schemas or for other arguments."""

    schemas: frozenset[str] = frozenset({"main"})
    tables: frozenset[str] = frozenset()
    views: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    macros: Mapping[str, tuple[Macro, ...]] = field(default_factory=dict)


def read_objects(connection: duckdb.DuckDBPyConnection, database: str) -> SourceObjects:
    """The objects of the attached ``database``; no data is read."""

    def rows(query: str) -> list[tuple[str, ...]]:
        return connection.execute(f"{query} where not internal and database_name = $database", {"database": database}).fetchall()

    views: dict[str, tuple[str, ...]] = {}
    for name, sql in rows("select lower(view_name), sql from duckdb_views()"):
        views[name] = (*views.get(name, ()), sql)
    macros: dict[str, tuple[Macro, ...]] = {}
    for name, kind, definition in rows("select lower(function_name), function_type, macro_definition from duckdb_functions()"):
        macros[name] = (*macros.get(name, ()), Macro(definition or "", kind == "table_macro"))
    return SourceObjects(
        schemas=frozenset({"main"} | {row[0] for row in rows("select lower(schema_name) from duckdb_schemas()")}),
        tables=frozenset(row[0] for row in rows("select lower(table_name) from duckdb_tables()")),
        views=views,
        macros=macros,
    )


def view_query(sql: str) -> str | None:
    """The SELECT of a view's ``create view`` statement; None where that is not found."""
    found = _VIEW.fullmatch(sql)
    return found["query"] if found else None
