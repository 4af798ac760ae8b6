"""SQL conditions that users write (``where`` in a study): one row-wise expression over the relation's columns, or refused.

DuckDB's parser reads the text, a list of allowed parts decides, and DuckDB writes the SQL that is run from the tree that was checked. What
nobody thought of is refused: reading files or settings, another table, and whatever gives a different answer on every run.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from functools import lru_cache

import duckdb

from groupwise.source.relation import first_line, quote
from groupwise.source.user_sql.functions import CLOCK_WORDS, REFUSED, ROW_WISE, refusal
from groupwise.source.user_sql.parser import Tree, catalogue, check_size, nodes, parsed, same_tree, written
from groupwise.source.user_sql.sql_errors import RefusedSqlError, sentence
from groupwise.source.user_sql.statement import one_statement
from multilevel.errors import StudyError

SHOWN = 160
MOST_CHARACTERS = 10_000

CLASSES = frozenset({"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR", "TYPE"})
OPERATORS = frozenset(
    {"OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE", "OPERATOR_NULLIF", "COMPARE_IN", "COMPARE_NOT_IN"}
)
_TYPES = (
    "boolean bool tinyint smallint integer int bigint hugeint utinyint usmallint uinteger ubigint uhugeint int1 int2 int4 int8 float real "
    "float4 double float8 decimal numeric varchar text string char bpchar date time timestamp datetime timestamp_s timestamp_ms "
    "timestamp_ns timestamptz interval uuid"
)
TYPES = frozenset(_TYPES.split()) | {"timestamp with time zone", "time with time zone"}
DATE_PARTS = frozenset({"date_part", "datepart", "date_trunc", "datetrunc", "date_diff", "datediff", "date_sub", "datesub"})
"""Functions whose first argument names a part of a date; ``extract(part from ts)`` is the first of them."""

_REFUSED_CLASSES = {
    "SUBQUERY": "a query",
    "WINDOW": "a window function",
    "STAR": "* or columns()",
    "PARAMETER": "a parameter; write the value",
    "LAMBDA": "a lambda or ->",
    "POSITIONAL_REFERENCE": "a column by its number; write its name",
    "COLLATE": "a collation; compare lower() of both sides",
    "DEFAULT": "default",
}
_REFUSED_OPERATORS = {
    "ARRAY_EXTRACT": "a part of a list or text in [ ]",
    "ARRAY_SLICE": "a part of a list or text in [ ]",
    "STRUCT_EXTRACT": "a field of a struct",
    "GROUPING_FUNCTION": "grouping()",
    "OPERATOR_UNPACK": "* or columns()",
}
_PLAIN_PARTS = frozenset({"literal", "arguments", "order_bys", "qualified_name", "case_checks"})


def row_condition(text: str, columns: Collection[str], *, study: str, field: str = "where") -> str:
    """``text`` as a DuckDB expression, column names as the relation spells them.

    Raises
    ------
    StudyError : for anything that is not one row-wise condition over ``columns``; the message names the part that is refused.
    """
    try:
        return _condition(text, tuple(columns))
    except RefusedSqlError as error:
        shown = " ".join(text[:SHOWN].split())
        raise StudyError(f"{study}: {field}: {shown!r}: {sentence(error)}") from error


def condition_columns(condition: str) -> tuple[str, ...]:
    """Columns that a condition from ``row_condition`` reads, each once, in the order of appearance."""
    (statement,) = parsed(f"select ({condition})")
    return tuple(dict.fromkeys(node["column_names"][0] for _, node in nodes(statement) if node.get("class") == "COLUMN_REF"))


def is_missing(name: str, duckdb_type: str) -> str:
    """Predicate: there is no value in the column; NaN counts as none, as in pandas."""
    return f"({quote(name)} is null or isnan({quote(name)}))" if duckdb_type in ("DOUBLE", "FLOAT") else f"({quote(name)} is null)"


def check_type(connection: duckdb.DuckDBPyConnection, rows: str, condition: str, *, study: str, field: str = "where") -> None:
    """Raise StudyError unless ``condition`` is true or false for the rows of the SELECT ``rows``; reads no data."""
    try:
        kind = connection.sql(one_statement(f"select ({condition}) as condition from ({rows})")).types[0]
    except duckdb.Error as error:
        raise StudyError(f"{study}: {field}: {condition[:SHOWN]!r} does not fit the columns' types: {first_line(error)}") from error
    if str(kind) != "BOOLEAN":
        raise StudyError(f"{study}: {field}: {condition[:SHOWN]!r} is of type {kind}; write a condition that is true or false.")


@lru_cache(maxsize=64)
def _condition(text: str, columns: tuple[str, ...]) -> str:
    check_size(text, MOST_CHARACTERS)
    statement, expression = _expression(text)
    by_name = {name.lower(): name for name in columns}
    read = [node for _, node in nodes(expression) if node.get("class") == "COLUMN_REF"]
    for node in read:
        node["column_names"] = [_bound(node["column_names"], by_name, columns)]
    # sqlglot is read where a user has written SQL
    from groupwise.source.user_sql.second_opinion import agree_on_condition

    agree_on_condition(text, {node["column_names"][0].lower() for node in read})
    condition = written(statement).removeprefix("SELECT ")
    if not same_tree(_expression(condition)[1], expression):
        raise RefusedSqlError("cannot be written back as it was read; write it in plainer SQL")
    return condition


def _expression(text: str) -> tuple[Tree, Tree]:
    """The statement that selects the text and nothing else, and the text's own tree in it, every node of it allowed."""
    alone = parsed(f"select\n{text}\n")
    bracketed = parsed(f"select (\n{text}\n)")
    if len(alone) != 1:
        raise RefusedSqlError("write one condition, without semicolons")
    # text that closes our bracket and opens another cannot stand alone, and text with more than an expression cannot stand in brackets
    if len(bracketed) != 1 or not same_tree(alone, bracketed) or alone[0]["node"]["type"] != "SELECT_NODE":
        raise RefusedSqlError("write a condition such as amount > 0 and not is_fuel")
    picked = alone[0]["node"]["select_list"]
    for part, node in nodes(picked[0]):
        _check_node(part, node)
    if len(picked) != 1 or not same_tree(alone[0], parsed("select 1")[0] | {"node": _selecting(picked)}):
        raise RefusedSqlError("write a condition such as amount > 0 and not is_fuel")
    return alone[0], picked[0]


def _selecting(picked: Sequence[Tree]) -> Tree:
    return {**parsed("select 1")[0]["node"], "select_list": list(picked)}


def _check_node(part: str, node: Tree) -> None:
    kind = node.get("class")
    if kind is None:
        if part not in _PLAIN_PARTS:
            raise RefusedSqlError(f"{part} may not be used in a condition")
        return
    if kind not in CLASSES:
        what = _REFUSED_CLASSES.get(kind, kind.lower())
        raise RefusedSqlError(f"a condition looks at one row only and may not hold {what}")
    if node.get("alias"):
        raise RefusedSqlError("write a condition without a name for it")
    if kind == "OPERATOR" and node["type"] not in OPERATORS:
        what = _REFUSED_OPERATORS.get(node["type"], node["type"].lower().removeprefix("operator_"))
        raise RefusedSqlError(f"a condition may not hold {what}; calculate it in the query (line_items)")
    if kind == "FUNCTION":
        _check_function(node)
    if kind == "TYPE" and (len(node["qualified_name"]["path"]) != 1 or node["type_name"].lower() not in TYPES):
        raise RefusedSqlError(f"a cast to {node['type_name'][:60]!r} may not be used; cast to numbers, varchar, dates or times")


def _check_function(node: Tree) -> None:
    name = node["function_name"].lower()
    if len(node["qualified_name"]["path"]) != 1:
        raise RefusedSqlError(f"write {name}(...) without a name and a dot before it")
    reason = refusal(name, len(node["arguments"]))
    if reason is not None:
        raise RefusedSqlError(f"the function {name} may not be used in a condition: it {reason}")
    if name not in ROW_WISE:
        raise RefusedSqlError(f"the function {name[:60]} may not be used in a condition{_why(name)}")
    if node["filter"] is not None or node["distinct"] or node["export_state"] or node["order_bys"]["orders"]:
        raise RefusedSqlError(f"{name} may not be used with filter, distinct or order by")
    if any(argument["name"] for argument in node["arguments"]):
        raise RefusedSqlError(f"write the arguments of {name} without names")
    if name in DATE_PARTS and node["arguments"]:
        part = node["arguments"][0]["expression"].get("literal", {"text": "day"})["text"]
        if not part.isidentifier():
            raise RefusedSqlError(f"{name} has no part {part[:60]!r} of a date; write year, month, day or such")


def _why(name: str) -> str:
    if any(kind in {"aggregate", "window"} for kind, _, _ in catalogue().get(name, ())):
        return ": it looks at other rows; calculate it in the query (line_items)"
    close = difflib.get_close_matches(name, ROW_WISE, n=1)
    return f"; did you mean {close[0]}?" if close else "; calculate it in the query (line_items)"


def _bound(path: Sequence[str], by_name: dict[str, str], columns: Sequence[str]) -> str:
    """A column's name as the relation spells it."""
    if len(path) != 1:
        raise RefusedSqlError(f"{'.'.join(path)[:80]}: write column names without a table")
    name = path[0]
    if name.lower() in by_name:
        return by_name[name.lower()]
    if name.lower() in CLOCK_WORDS:
        raise RefusedSqlError(f"{name} may not be used in a condition: it {REFUSED[name.lower()]}")
    raise RefusedSqlError(f"the line items have no column {name[:80]}; {_offer(name, columns)}")


def _offer(name: str, columns: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, list(columns), n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"they have {', '.join(sorted(columns))[:SHOWN]} (text is written in single quotes)"
