"""A second parser's reading of users' SQL (sqlglot): where it reads something else than DuckDB does, the text is refused."""

from __future__ import annotations

from collections.abc import Collection

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from groupwise.source.user_sql.sql_errors import RefusedSqlError

_NEVER = (exp.Command, exp.DDL, exp.DML, exp.Copy, exp.Attach, exp.Detach, exp.Pragma, exp.Set, exp.Use, exp.Describe, exp.Into)
_NOT_IN_A_CONDITION = (*_NEVER, exp.Query, exp.AggFunc, exp.Window, exp.Star, exp.Placeholder, exp.Parameter, exp.Lambda)


def agree_on_condition(text: str, columns: Collection[str]) -> None:
    """Refuse a condition that sqlglot reads as anything but one expression over ``columns`` (in lower case)."""
    expression = _one(text)
    found = next((node for node in expression.walk() if isinstance(node, _NOT_IN_A_CONDITION)), None)
    if found is not None:
        raise RefusedSqlError(f"read by a second parser as more than a condition ({type(found).__name__}); write it in plainer SQL")
    names = {column.name.lower() for column in expression.find_all(exp.Column)}
    if names != set(columns):
        odd = ", ".join(sorted(names ^ set(columns)))[:80]
        raise RefusedSqlError(f"two parsers do not find the same columns in it ({odd}); write it in plainer SQL")


def agree_on_query(text: str) -> None:
    """Refuse a query that sqlglot reads as several statements or as more than a SELECT; what it cannot read it has no opinion on."""
    try:
        expression = _one(text)
    except RefusedSqlError as error:
        if isinstance(error.__cause__, SqlglotError | RecursionError):
            return
        raise
    found = next((node for node in expression.walk() if isinstance(node, _NEVER)), None)
    if found is not None or not isinstance(expression, exp.Query | exp.Values | exp.Table | exp.Pivot):
        kind = type(expression if found is None else found).__name__
        raise RefusedSqlError(f"read by a second parser as more than a SELECT ({kind}); write it in plainer SQL")


def _one(text: str) -> exp.Expression:
    try:
        found = sqlglot.parse(text, dialect="duckdb")
    except RecursionError as error:
        raise RefusedSqlError("nested too deeply") from error
    except SqlglotError as error:
        entries = getattr(error, "errors", None) or [{}]
        reason = str(entries[0].get("description") or type(error).__name__)
        raise RefusedSqlError(f"not readable as SQL to a second parser (sqlglot: {reason}); write it in plainer SQL") from error
    if len(found) != 1 or not isinstance(found[0], exp.Expression):
        raise RefusedSqlError(f"read by a second parser as {len(found)} statements; write one")
    return found[0]
