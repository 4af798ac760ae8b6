"""Rules as SQL: two predicates a rule, ``applies`` (the rule looks at this row) and ``broken`` (the row breaks it).

Null semantics are Great Expectations': a value rule looks at values that are present only; NaN counts as absent.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from datetime import datetime

import duckdb

from groupwise.source.conditions import is_missing
from groupwise.source.relation import first_line, literal, quote
from groupwise.source.sealing import seal
from groupwise.source.user_sql.statement import run
from groupwise.validation.suite import Rule, condition_tree, value_kind
from multilevel.errors import StudyError

_COMPARISONS: dict[type[ast.cmpop], str] = {ast.Eq: "=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def applies(rule: Rule, types: Mapping[str, str]) -> str:
    """Predicate: the rule's condition holds and, for rules about values, there is a value."""
    condition = f"coalesce({_translate(condition_tree(rule), rule, types)}, false)"
    if rule.type == "expect_column_values_to_not_be_null":
        return condition
    absent = " and ".join(is_missing(name, types[name]) for name in rule.own_columns)
    return f"({condition} and not ({absent}))"


def broken(rule: Rule, types: Mapping[str, str]) -> str:
    """Predicate, never null: this row breaks the rule. A uniqueness rule reads the column that ``with_duplicates`` adds."""
    column = rule.own_columns[0]
    match rule.type:
        case "expect_column_values_to_not_be_null":
            fails = is_missing(column, types[column])
        case "expect_column_values_to_be_between":
            fails = f"not ({_between(rule, column, types)})"
        case "expect_column_values_to_be_in_set":
            fails = f"{_operand(column, types)} not in ({', '.join(_constant(value, types[column]) for value in rule.kwargs['value_set'])})"
        case "expect_column_values_to_match_regex":
            fails = f"not regexp_matches({quote(column)}, {literal(rule.kwargs['regex'])})"
        case _:
            fails = f"{quote(duplicate_name(rule))} > 1"
    return f"coalesce({applies(rule, types)} and ({fails}), false)"


def duplicate_name(rule: Rule) -> str:
    """The column that counts rows alike under a uniqueness rule."""
    return f"duplicates of {rule.rule_id}"


def with_duplicates(sql: str, rules: Sequence[Rule], types: Mapping[str, str]) -> str:
    """``sql`` with one counting column for each uniqueness rule (a window over the rule's columns); ``sql`` itself without any."""
    counts = []
    for rule in rules:
        if rule.is_unique:
            counted = _numbered(rule, rules, types) if rule.keep else _alike(rule, types)
            counts.append(f"{counted} as {quote(duplicate_name(rule))}")
    return f"select *, {', '.join(counts)} from ({sql})" if counts else sql


def _alike(rule: Rule, types: Mapping[str, str]) -> str:
    return f"count(*) filter ({applies(rule, types)}) over (partition by {', '.join(map(quote, rule.own_columns))})"


def _numbered(rule: Rule, rules: Sequence[Rule], types: Mapping[str, str]) -> str:
    """The row's place among those alike, in an order that follows from the rows' values alone: rows that break no other rule come first."""
    spoilt = [broken(other, types) for other in rules if other.quarantines and not other.is_unique]
    order = [f"({' or '.join(spoilt)})"] if spoilt else []
    if rule.order_by is not None:
        order.append(f"{quote(rule.order_by)} {'desc' if rule.keep == 'last' else 'asc'} nulls last")
    order += [f"{quote(name)} nulls last" for name in types]
    keys = ", ".join([applies(rule, types), *map(quote, rule.own_columns)])
    return f"row_number() over (partition by {keys} order by {', '.join(order)})"


def check_expressible(rules: Sequence[Rule], types: Mapping[str, str]) -> None:
    """Run every rule once on a row of nulls, so that what DuckDB cannot check is refused at load; StudyError names the rule."""
    nulls = ", ".join(f"cast(null as {kind}) as {quote(name)}" for name, kind in types.items())
    with duckdb.connect(config={"autoinstall_known_extensions": "false", "python_enable_replacements": "false"}) as connection:
        seal(connection, (), None)
        for rule in rules:
            regex = rule.kwargs.get("regex")
            tried = "" if regex is None else f", regexp_matches('', {literal(regex)})"
            rows = with_duplicates(f"select {nulls}", [rule], types)
            try:
                run(connection, f"select {broken(rule, types)}{tried} from ({rows})").fetchall()
            except duckdb.Error as error:
                raise StudyError(f"{rule.place} cannot be checked by the scan: {first_line(error)}") from error


def _between(rule: Rule, column: str, types: Mapping[str, str]) -> str:
    parts = []
    for bound, operator, strict in (("min_value", ">", "strict_min"), ("max_value", "<", "strict_max")):
        value = rule.kwargs.get(bound)
        if value is not None:
            sign = operator if rule.kwargs.get(strict) else f"{operator}="
            parts.append(f"{_operand(column, types)} {sign} {_constant(value, types[column])}")
    return " and ".join(parts)


def _operand(column: str, types: Mapping[str, str]) -> str:
    """A column as it is compared: fractions as doubles, as pandas holds them; times with a zone as a clock there reads."""
    if types[column] == "TIMESTAMP WITH TIME ZONE":
        return f"cast({quote(column)} as timestamp)"
    is_fraction = types[column] in ("DOUBLE", "FLOAT") or types[column].startswith("DECIMAL(")
    return f"cast({quote(column)} as double)" if is_fraction and value_kind(types[column]) == "number" else quote(column)


def _constant(value: object, duckdb_type: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        is_time = value_kind(duckdb_type) == "time"
        return f"timestamp {literal(datetime.fromisoformat(value).isoformat(sep=' '))}" if is_time else literal(value)
    return f"cast({value!r} as double)" if isinstance(value, float) else repr(value)


def _translate(node: ast.expr, rule: Rule, types: Mapping[str, str]) -> str:
    """A pandas row condition: comparisons of a column with a constant, joined by and, or."""
    match node:
        case ast.Constant(value=True):
            return "true"
        case ast.BoolOp(op=op, values=values):
            word = " and " if isinstance(op, ast.And) else " or "
            # a null compares as false in pandas, and false it must be before it is joined
            return "(" + word.join(f"coalesce({_translate(value, rule, types)}, false)" for value in values) + ")"
        case ast.Compare(left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(value=value)]) if type(op) in _COMPARISONS:
            # NaN is above every number to DuckDB, and compares as false in pandas
            compared = f"{_operand(name, types)} {_COMPARISONS[type(op)]} {_constant(value, types[name])}"
            return f"(not {is_missing(name, types[name])} and {compared})"
        case _:
            raise StudyError(
                f"{rule.place}: row_condition {rule.kwargs['row_condition']!r} cannot be checked by the scan; write "
                "comparisons of a column with a constant, joined by and, or."
            )
