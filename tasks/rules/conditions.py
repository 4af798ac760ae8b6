"""SQL conditions that users write (``where`` in a study): one row-wise expression over the relation's columns, or refused.

What may stand in a condition is a list of allowed parts, so that a part nobody thought of is refused: reading files or settings, another
table, and whatever gives a different answer on every run (``random()``, ``now()``: as_of is the only clock).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from multilevel.errors import StudyError
from tasks.relation import first_line, quote

SHOWN = 160

_PARTS = (
    "And Or Not Paren Column Identifier Literal Boolean Null EQ NEQ GT GTE LT LTE NullSafeEQ NullSafeNEQ Is Between In Case If",
    "Like ILike Escape SimilarTo Glob RegexpLike RegexpILike RegexpFullMatch",
    "Add Sub Mul Div IntDiv Mod Neg Pow DPipe Cast TryCast DataType DataTypeParam Interval Var Tuple",
    "Coalesce Nullif Greatest Least Abs Sign Round Floor Ceil Ln Log Exp Sqrt IsNan IsInf",
    "Lower Upper Trim Length Substring Left Right Replace Concat ConcatWs StartsWith EndsWith Contains StrPosition",
    "Extract Year Quarter Month Week Day DayOfMonth DayOfWeek DayOfWeekIso DayOfYear Hour Minute Second Dayname Monthname LastDay",
    "Date TimestampTrunc DateTrunc DateDiff DateAdd DateSub TimeToStr StrToTime DateFromParts",
)

ALLOWED = frozenset(name for line in _PARTS for name in line.split())
"""Names of sqlglot's node classes that read nothing but the row and give the same answer every time."""

ALLOWED_FUNCTIONS = frozenset({"date_part", "isfinite", "prefix", "suffix"})
"""DuckDB functions of the same kind for which sqlglot has no class."""


def row_condition(text: str, columns: Collection[str], *, study: str, field: str = "where") -> str:
    """``text`` as a DuckDB expression, column names quoted as the relation spells them.

    Raises
    ------
    StudyError : for anything that is not one row-wise condition over ``columns``; the message names the part that is refused.
    """
    prefix = f"{study}: {field}: {text[:SHOWN]!r}"
    expression = _parsed(text, prefix)
    for node in expression.walk():
        _check_node(node, prefix)
    by_name = {name.lower(): name for name in columns}
    for column in list(expression.find_all(exp.Column)):
        if column.table:
            raise StudyError(f"{prefix}: {column.sql()}: write column names without a table.")
        if column.name.lower() not in by_name:
            raise StudyError(f"{prefix}: the line items have no column {column.name}; {_offer(column.name, columns)}")
        column.set("this", exp.to_identifier(by_name[column.name.lower()], quoted=True))
    # a comment could close the one that it is written back as
    return str(expression.sql(dialect="duckdb", comments=False))


def condition_columns(condition: str) -> tuple[str, ...]:
    """Columns that a condition from ``row_condition`` reads, each once, in the order of appearance."""
    found = sqlglot.parse_one(condition, dialect="duckdb").find_all(exp.Column, bfs=False)
    return tuple(dict.fromkeys(column.name for column in found))


def is_missing(name: str, duckdb_type: str) -> str:
    """Predicate: there is no value in the column; NaN counts as none, as in pandas."""
    return f"({quote(name)} is null or isnan({quote(name)}))" if duckdb_type in ("DOUBLE", "FLOAT") else f"({quote(name)} is null)"


def check_type(connection: duckdb.DuckDBPyConnection, rows: str, condition: str, *, study: str, field: str = "where") -> None:
    """Raise StudyError unless ``condition`` is true or false for the rows of the SELECT ``rows``; reads no data."""
    try:
        kind = connection.sql(f"select ({condition}) as condition from ({rows})").types[0]
    except duckdb.Error as error:
        raise StudyError(f"{study}: {field}: {condition!r} does not fit the columns' types: {first_line(error)}") from error
    if str(kind) != "BOOLEAN":
        raise StudyError(f"{study}: {field}: {condition!r} is of type {kind}; write a condition that is true or false.")


def _parsed(text: str, prefix: str) -> exp.Expression:
    try:
        parsed = sqlglot.parse(text, dialect="duckdb")
    except RecursionError as error:
        raise StudyError(f"{prefix}: nested too deeply.") from error
    except SqlglotError as error:
        raise StudyError(f"{prefix}: not readable as a SQL condition: {_reason(error)}") from error
    if len(parsed) != 1 or parsed[0] is None:
        raise StudyError(f"{prefix}: write one condition, without semicolons.")
    expression = parsed[0]
    if not isinstance(expression, exp.Expression):
        raise StudyError(f"{prefix}: write a condition such as amount > 0 and not is_fuel.")
    return expression


def _check_node(node: exp.Expression, prefix: str) -> None:
    if isinstance(node, exp.Anonymous):
        if node.name.lower() not in ALLOWED_FUNCTIONS:
            raise StudyError(f"{prefix}: the function {node.name} may not be used in a condition.")
    elif type(node).__name__ not in ALLOWED:
        raise StudyError(
            f"{prefix}: {node.sql(dialect='duckdb', comments=False)[:80]!r} may not be used; write a row-wise condition over columns: no "
            "queries, aggregates, windows, files, or functions of the clock or of chance."
        )


def _reason(error: SqlglotError) -> str:
    """The parser's own description, without the colours that its message carries."""
    found = [str(entry["description"]) for entry in getattr(error, "errors", []) if entry.get("description")]
    return found[0] if found else type(error).__name__


def _offer(name: str, columns: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(columns), n=1)
    return f"did you mean {close[0]}?" if close else f"they have {', '.join(sorted(columns))} (text is written in single quotes)."
