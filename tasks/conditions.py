"""SQL conditions that users write (``where`` in a study): one row-wise expression over the relation's columns, or refused."""

from __future__ import annotations

from collections.abc import Collection

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from multilevel.errors import StudyError

FORBIDDEN: tuple[type[exp.Expression], ...] = (
    exp.Query,
    exp.AggFunc,
    exp.Window,
    exp.Command,
    exp.DDL,
    exp.DML,
    exp.Parameter,
    exp.Placeholder,
    exp.Star,
    exp.Table,
)

SAFE_UNKNOWN_FUNCTIONS = frozenset(
    {"contains", "starts_with", "prefix", "suffix", "isodow", "isfinite", "isnan", "isinf", "regexp_matches"}
)
"""DuckDB functions that read nothing but their arguments although the parser has no name of its own for them."""


def row_condition(text: str, columns: Collection[str], *, study: str, field: str = "where") -> str:
    """``text`` as a quoted DuckDB expression; raises StudyError for anything that is not one row-wise condition over ``columns``."""
    prefix = f"{study}: {field}: {text!r}"
    try:
        parsed = sqlglot.parse(text, dialect="duckdb")
    except SqlglotError as error:
        raise StudyError(f"{prefix}: not readable as a SQL condition: {' '.join(str(error).split())[:160]}") from error
    if len(parsed) != 1 or parsed[0] is None:
        raise StudyError(f"{prefix}: write one condition, without semicolons.")
    expression = parsed[0]
    if not isinstance(expression, exp.Expression) or isinstance(expression, exp.Alias):
        raise StudyError(f"{prefix}: write a condition such as amount > 0 and not is_fuel.")
    for node in expression.walk():
        _check_node(node, prefix)
    by_name = {name.lower(): name for name in columns}
    for column in list(expression.find_all(exp.Column)):
        if column.table:
            raise StudyError(f"{prefix}: {column.sql()}: write column names without a table.")
        if column.name.lower() not in by_name:
            raise StudyError(f"{prefix}: the line items have no column {column.name}; they have {', '.join(sorted(columns))}.")
        column.set("this", exp.to_identifier(by_name[column.name.lower()], quoted=True))
    return str(expression.sql(dialect="duckdb"))


def _check_node(node: exp.Expression, prefix: str) -> None:
    if isinstance(node, FORBIDDEN):
        raise StudyError(f"{prefix}: {node.sql()[:80]}: only row-wise conditions over columns; no queries, aggregates or windows.")
    if isinstance(node, exp.Anonymous) and node.name.lower() not in SAFE_UNKNOWN_FUNCTIONS:
        raise StudyError(f"{prefix}: the function {node.name} may not be used in a condition.")
    if type(node).__name__.startswith("Read"):
        raise StudyError(f"{prefix}: {node.sql()[:80]}: files may not be read in a condition.")
