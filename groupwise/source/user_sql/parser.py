"""DuckDB's own parser as the judge of users' SQL: text to syntax trees and back, within bounds, without running anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import duckdb

from groupwise.source.user_sql.sql_errors import RefusedSqlError

type Tree = dict[str, Any]

MOST_BRACKETS = 50
MOST_TOKENS_WITHOUT_A_NAME = 50
"""Tokens in a row without a name or a constant (signs, brackets, keywords): on longer rows the parser takes minutes."""
MOST_DEPTH = 900
"""Levels of the tree as JSON, two to four for every level of nesting in the text."""
MOST_NODES = 60_000

_VALUES = frozenset({"identifier", "numeric_const", "string_const"})
_PLACES = frozenset({"query_location", "query_location_length", "is_operator"})
"""Parts of a tree that say how it was written, not what it means."""


def statements(text: str, *, most_characters: int) -> list[Tree]:
    """Syntax trees of the statements in ``text``.

    Raises
    ------
    RefusedSqlError : the text is too large to check in a second, is no SQL, or holds anything but SELECT statements.
    """
    check_size(text, most_characters)
    return parsed(text)


def check_size(text: str, most_characters: int) -> None:
    """Refuse a text that would take the parser more than a second, before it is parsed; raises RefusedSqlError."""
    if len(text) > most_characters:
        raise RefusedSqlError(f"{len(text):,} characters are too many to check; at most {most_characters:,}")
    if "\0" in text:
        raise RefusedSqlError("the text has a NUL character")
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise RefusedSqlError("the text is not valid Unicode")
    if _depth_of_brackets(text) > MOST_BRACKETS:
        raise RefusedSqlError(f"brackets are nested too deeply; at most {MOST_BRACKETS}")
    if _longest_without_a_name(text) > MOST_TOKENS_WITHOUT_A_NAME:
        raise RefusedSqlError(f"nested too deeply: more than {MOST_TOKENS_WITHOUT_A_NAME} signs and keywords in a row")


def parsed(text: str) -> list[Tree]:
    """Syntax trees of a text whose size was checked, or that DuckDB wrote itself."""
    try:
        answer = json.loads(_ask("select json_serialize_sql($text)", text))
    except RecursionError as error:
        raise RefusedSqlError("nested too deeply") from error
    if answer["error"]:
        raise RefusedSqlError(_reason(text, str(answer["error_message"])))
    found: list[Tree] = answer["statements"]
    for statement in found:
        _check_tree(statement)
    return found


def written(statement: Tree) -> str:
    """A statement's tree as SQL, by DuckDB: comments are gone and every name that needs quotes has them."""
    return _ask("select json_deserialize_sql($text)", json.dumps({"error": False, "statements": [statement]}))


def nodes(tree: Tree) -> Iterator[tuple[str, Tree]]:
    """Every node of a tree, with the name of the part of its parent that it stands in; parents first, from left to right."""
    pending: list[tuple[str, Any]] = [("", tree)]
    while pending:
        part, node = pending.pop()
        if isinstance(node, dict):
            yield part, node
            pending.extend(reversed(list(node.items())))
        elif isinstance(node, list):
            pending.extend((part, element) for element in reversed(node))


def scoped_nodes(tree: Tree) -> Iterator[tuple[Tree, frozenset[str]]]:
    """Every node of a tree, with the names (in lower case) of the common table expressions that a table's name can mean there."""
    pending: list[tuple[Any, frozenset[str]]] = [(tree, frozenset())]
    while pending:
        node, names = pending.pop()
        if isinstance(node, list):
            pending.extend((element, names) for element in reversed(node))
        elif isinstance(node, dict):
            inside: list[tuple[Any, frozenset[str]]] = []
            for entry in (node.get("cte_map") or {}).get("map", ()):
                own = frozenset({str(entry["key"]).lower()})
                # each sees those before it, itself only where it is recursive
                is_recursive = entry["value"]["query_node"]["type"] == "RECURSIVE_CTE_NODE"
                inside.append((entry["value"], names | own if is_recursive else names))
                names |= own
            yield node, names
            inside += [(value, names) for part, value in node.items() if part != "cte_map"]
            pending.extend(reversed(inside))


def same_tree(left: Any, right: Any) -> bool:
    """Whether two trees mean the same: alike but for places in the text and upper and lower case in the names of types."""
    pending = [(left, right)]
    while pending:
        a, b = pending.pop()
        if isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                return False
            pending += [(a[key], b[key]) for key in a if key not in _PLACES and not _is_type_name(a, key)]
            if a.get("class") == "TYPE" and str(a["qualified_name"]).upper() != str(b["qualified_name"]).upper():
                return False
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            pending += list(zip(a, b, strict=True))
        elif a != b:
            return False
    return True


def _is_type_name(node: Tree, key: str) -> bool:
    return node.get("class") == "TYPE" and key in {"type_name", "qualified_name"}


def _check_tree(tree: Tree) -> None:
    count = 0
    pending: list[tuple[int, Any]] = [(1, tree)]
    while pending:
        depth, node = pending.pop()
        if depth > MOST_DEPTH:
            raise RefusedSqlError("nested too deeply")
        if isinstance(node, dict):
            count += 1
            pending.extend((depth + 1, value) for value in node.values())
        elif isinstance(node, list):
            pending.extend((depth + 1, value) for value in node)
    if count > MOST_NODES:
        raise RefusedSqlError(f"{count:,} parts are too many to check; at most {MOST_NODES:,}")


def _depth_of_brackets(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth = max(0, depth - 1)
    return deepest


def _longest_without_a_name(text: str) -> int:
    run = longest = 0
    for _, kind in duckdb.tokenize(text):
        if kind.name in _VALUES:
            run = 0
        elif kind.name != "comment":
            run += 1
            longest = max(longest, run)
    return longest


def _reason(text: str, message: str) -> str:
    """DuckDB's words for what it cannot read, in ours where they would not help."""
    if message.startswith("Only SELECT"):
        if "pivot" in text.lower():
            return "a PIVOT that looks its columns up cannot be checked; list them (pivot ... on month in (1, 2))"
        return "it must hold exactly one SELECT statement"
    if message.startswith("Max expression depth"):
        return "nested too deeply"
    return f"not readable as SQL: {' '.join(message.split())[:200]}"


_lock = threading.Lock()


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    """One connection that only parses: it reaches no file, and opening one costs a hundred times as much as a question."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
        "enable_external_access": "false",
        "lock_configuration": "true",
    }
    return duckdb.connect(config=settings)


def _ask(question: str, text: str) -> str:
    with _lock:
        row = _connection().execute(question, {"text": text}).fetchone()
    return "" if row is None else str(row[0])


@cache
def catalogue() -> dict[str, tuple[tuple[str, str | None, str | None], ...]]:
    """DuckDB's own functions: name in lower case -> (function_type, stability, macro_definition) of every overload."""
    query = "select lower(function_name), function_type, stability, macro_definition from duckdb_functions() where internal"
    with _lock:
        rows = _connection().execute(query).fetchall()
    found: dict[str, list[tuple[str, str | None, str | None]]] = {}
    for name, kind, stability, definition in rows:
        found.setdefault(name, []).append((kind, stability, definition))
    return {name: tuple(dict.fromkeys(entries)) for name, entries in found.items()}


@cache
def system_tables() -> frozenset[str]:
    """Names of DuckDB's own tables and views that need no schema before them, in lower case."""
    query = "select lower(view_name) from duckdb_views() where internal and schema_name in ('main', 'pg_catalog')"
    with _lock:
        rows = _connection().execute(query).fetchall()
    return frozenset(row[0] for row in rows)
