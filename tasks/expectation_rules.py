"""Expectation suites as SQL: the row-level rules of ``expectations/*.json``, each as one predicate that is true for a broken row.

Null semantics are Great Expectations': a value rule looks at values that are present only; NaN counts as absent.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from expectations import read_suite
from multilevel.errors import StudyError
from tasks.relation import literal, quote

type Severity = Literal["critical", "warning", "info"]

ROW_RULES = (
    "expect_column_values_to_not_be_null",
    "expect_column_values_to_be_between",
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_match_regex",
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
)

_COMPARISONS: dict[type[ast.cmpop], str] = {ast.Eq: "=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


@dataclass(frozen=True)
class Rule:
    """One expectation of a suite.

    A row that breaks a critical or warning rule is quarantined; an info rule is only reported. A rule *fails* when fewer than ``mostly``
    of the rows it looks at keep it; a failed critical rule stops the run.
    """

    rule_id: str
    type: str
    kwargs: Mapping[str, Any]
    severity: Severity
    why: str

    @property
    def mostly(self) -> float:
        """Share of rows that must keep the rule."""
        return float(self.kwargs.get("mostly", 1.0))

    @property
    def quarantines(self) -> bool:
        """Whether broken rows leave the study."""
        return self.severity != "info"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads, its row condition's among them."""
        own = self.kwargs.get("column_list") or [self.kwargs["column"]]
        condition = self.kwargs.get("row_condition")
        names = [node.id for node in ast.walk(ast.parse(condition, mode="eval")) if isinstance(node, ast.Name)] if condition else []
        return tuple(dict.fromkeys([*own, *names]))


def load_rules(suite: str, types: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules of ``expectations/<suite>.json``, all of them expressible in SQL over columns of ``types``; StudyError otherwise."""
    try:
        content = json.loads(read_suite(suite))
    except FileNotFoundError as error:
        raise StudyError(f"expectations: {suite}: there is no suite expectations/{suite}.json.") from error
    except json.JSONDecodeError as error:
        raise StudyError(f"expectations: {suite}: expectations/{suite}.json is not readable as JSON: {error}") from error
    rules = tuple(_rule(entry, suite) for entry in content["expectations"])
    repeated = {rule.rule_id for rule in rules if sum(other.rule_id == rule.rule_id for other in rules) > 1}
    if repeated:
        raise StudyError(f"expectations: {suite}: rule_id {', '.join(sorted(repeated))} is used twice.")
    for rule in rules:
        unknown = [name for name in rule.columns if name not in types]
        if unknown:
            raise StudyError(f"expectations: {suite}: rule {rule.rule_id} reads {', '.join(unknown)}, which the line items do not have.")
        broken(rule, types)
    return rules


def _rule(entry: Mapping[str, Any], suite: str) -> Rule:
    try:
        kind, kwargs, severity, meta = entry["type"], entry["kwargs"], entry["severity"], entry["meta"]
        rule = Rule(meta["rule_id"], kind, kwargs, severity, meta["why"])
    except KeyError as error:
        raise StudyError(f"expectations: {suite}: an expectation lacks {error}: {json.dumps(entry)[:160]}") from error
    if kind not in ROW_RULES:
        raise StudyError(f"expectations: {suite}: rule {rule.rule_id}: {kind} cannot be checked by the scan; use {', '.join(ROW_RULES)}.")
    if severity not in ("critical", "warning", "info"):
        raise StudyError(f"expectations: {suite}: rule {rule.rule_id}: severity {severity!r}; write critical, warning or info.")
    return rule


def applies(rule: Rule, types: Mapping[str, str]) -> str:
    """Predicate: the rule looks at this row (its condition holds and, for value rules, there is a value)."""
    condition = _condition(rule)
    if rule.type == "expect_column_values_to_not_be_null":
        return condition
    if rule.type == "expect_compound_columns_to_be_unique":
        absent = " and ".join(_absent(name, types) for name in rule.kwargs["column_list"])
        return f"{condition} and not ({absent})"
    return f"{condition} and not ({_absent(rule.kwargs['column'], types)})"


def broken(rule: Rule, types: Mapping[str, str]) -> str:
    """Predicate, never null: this row breaks the rule. Uniqueness rules read the column that ``duplicate_columns`` adds."""
    kwargs = rule.kwargs
    here = applies(rule, types)
    match rule.type:
        case "expect_column_values_to_not_be_null":
            fails = _absent(kwargs["column"], types)
        case "expect_column_values_to_be_between":
            fails = f"not ({_between(kwargs, types)})"
        case "expect_column_values_to_be_in_set":
            values = ", ".join(_value(value) for value in kwargs["value_set"])
            fails = f"{quote(kwargs['column'])} not in ({values})"
        case "expect_column_values_to_match_regex":
            fails = f"not regexp_matches({quote(kwargs['column'])}, {literal(kwargs['regex'])})"
        case _:
            fails = f"{quote(duplicate_name(rule))} > 1"
    return f"coalesce(({here}) and ({fails}), false)"


def duplicate_name(rule: Rule) -> str:
    """The column that counts rows alike under a uniqueness rule."""
    return f"duplicates of {rule.rule_id}"


def with_duplicates(sql: str, rules: Sequence[Rule], types: Mapping[str, str]) -> str:
    """``sql`` with one counting column for each uniqueness rule (a window over the rule's columns); ``sql`` itself without any."""
    unique = [rule for rule in rules if "unique" in rule.type]
    if not unique:
        return sql
    counts = []
    for rule in unique:
        keys = ", ".join(quote(name) for name in (rule.kwargs.get("column_list") or [rule.kwargs["column"]]))
        counts.append(f"count(*) filter ({applies(rule, types)}) over (partition by {keys}) as {quote(duplicate_name(rule))}")
    return f"select *, {', '.join(counts)} from ({sql})"


def _absent(column: str, types: Mapping[str, str]) -> str:
    name = quote(column)
    return f"({name} is null or isnan({name}))" if types[column] in ("DOUBLE", "FLOAT") else f"{name} is null"


def _between(kwargs: Mapping[str, Any], types: Mapping[str, str]) -> str:
    name = quote(kwargs["column"])
    parts = []
    for bound, operator, strict in (("min_value", ">=", "strict_min"), ("max_value", "<=", "strict_max")):
        value = kwargs.get(bound)
        if value is not None:
            text = (
                f"timestamp {literal(value)}"
                if isinstance(value, str) and types[kwargs["column"]].startswith(("DATE", "TIME"))
                else _value(value)
            )
            parts.append(f"{name} {operator[0] if kwargs.get(strict) else operator} {text}")
    return " and ".join(parts) or "true"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return literal(value) if isinstance(value, str) else repr(value)


def _condition(rule: Rule) -> str:
    """A pandas row condition as SQL: comparisons of a column with a constant, joined by and, or, not."""
    text = rule.kwargs.get("row_condition")
    if not text:
        return "true"
    if rule.kwargs.get("condition_parser") != "pandas":
        raise StudyError(f"expectations: rule {rule.rule_id}: row_condition needs condition_parser pandas.")
    return f"coalesce({_translate(ast.parse(text, mode='eval').body, rule)}, false)"


def _translate(node: ast.expr, rule: Rule) -> str:
    match node:
        case ast.BoolOp(op=op, values=values):
            return "(" + (" and " if isinstance(op, ast.And) else " or ").join(_translate(value, rule) for value in values) + ")"
        case ast.Compare(left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(value=value)]) if type(op) in _COMPARISONS:
            return f"{quote(name)} {_COMPARISONS[type(op)]} {_value(value)}"
        case _:
            raise StudyError(
                f"expectations: rule {rule.rule_id}: row_condition {rule.kwargs['row_condition']!r} cannot be checked by the scan; write "
                "comparisons of a column with a constant, joined by and, or."
            )
