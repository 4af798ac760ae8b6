"""Rules of a study and of its expectation suite (``expectations/*.json``), refused at load where the scan could not check them.

A rule means the same to both of its executors (the DuckDB scan and Great Expectations), so whatever only one of them knows, or the two
read differently, is an error here and never skipped.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from groupwise.study.study import Study
from groupwise.study.user_text import show_value
from groupwise.validation.regex import UnclearRegexError, python_regex
from groupwise.validation.suite_file import suite_entries
from multilevel.errors import StudyError

type Severity = Literal["critical", "warning", "info"]
type Keep = Literal["one", "first", "last"]
type ValueKind = Literal["number", "text", "boolean", "time", "other"]

MOST_CHARACTERS = 2_000
"""Length of a row condition or a regex up to which it is checked within a second."""
LARGEST = 10**38
SHOWN = 160
SEVERITIES = ("critical", "warning", "info")
_EVERYWHERE = frozenset({"mostly", "row_condition", "condition_parser"})
ROW_RULES: Mapping[str, frozenset[str]] = {
    "expect_column_values_to_not_be_null": frozenset({"column"}),
    "expect_column_values_to_be_between": frozenset({"column", "min_value", "max_value", "strict_min", "strict_max"}),
    "expect_column_values_to_be_in_set": frozenset({"column", "value_set"}),
    "expect_column_values_to_match_regex": frozenset({"column", "regex"}),
    "expect_column_values_to_be_unique": frozenset({"column"}),
    "expect_compound_columns_to_be_unique": frozenset({"column_list"}),
}
"""Types of rules, each with the keyword arguments that it knows."""


@dataclass(frozen=True)
class Rule:
    """One expectation of a suite, or one rule of a study.

    A row that breaks a critical or warning rule is quarantined; an info rule is only reported. A rule *fails* when fewer than ``mostly``
    of the rows it looks at keep it; a failed critical rule stops the run, a failed warning is shown. With ``keep``, one of the rows that
    are alike stays and the others break the rule: ``one`` by the order of all columns, ``first`` and ``last`` by ``order_by`` before those.
    ``written``: where the rule stands, for messages.
    """

    rule_id: str
    type: str
    kwargs: Mapping[str, Any]
    severity: Severity
    why: str
    keep: Keep | None = None
    order_by: str | None = None
    written: str = "rules"

    @property
    def mostly(self) -> float:
        """Share of rows that must keep the rule; copies that are dropped are no failure unless the rule says how many there may be."""
        return float(self.kwargs.get("mostly", 1.0 if self.keep is None else 0.0))

    @property
    def quarantines(self) -> bool:
        """Whether broken rows leave the study."""
        return self.severity != "info"

    @property
    def is_unique(self) -> bool:
        """Whether the rule compares a row with the others."""
        return self.type.endswith("_unique")

    @property
    def own_columns(self) -> tuple[str, ...]:
        """Columns that the rule is about."""
        return tuple(self.kwargs["column_list"]) if "column_list" in self.kwargs else (self.kwargs["column"],)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads, its row condition's among them."""
        ordering = () if self.order_by is None else (self.order_by,)
        return tuple(dict.fromkeys([*self.own_columns, *(name for name, _ in comparisons(self)), *ordering]))

    @property
    def place(self) -> str:
        """Where the rule stands, and its name."""
        return f"{self.written}: rule {self.rule_id}"


def study_rules(study: Study) -> tuple[Rule, ...]:
    """Rules of the study's suite and of the study itself, as they are written; StudyError where the suite is none."""
    written = f"{study.name}: rules"
    own = tuple(_rule(rule.entry(), written) for rule in study.rules)
    return _named_apart((*(read_rules(study.expectations) if study.expectations is not None else ()), *own), written)


def read_rules(suite: str) -> tuple[Rule, ...]:
    """Rules of ``expectations/<suite>.json`` as they are written; StudyError where that is no suite.

    A suite in the working directory's ``expectations/`` comes before the project's own of the same name.
    """
    written = f"expectations: {suite}"
    return _named_apart(tuple(_rule(entry, written) for entry in suite_entries(suite)), written)


def fitting_rules(rules: Sequence[Rule], types: Mapping[str, str]) -> tuple[Rule, ...]:
    """The rules, all of them with a meaning for columns of ``types``; StudyError otherwise."""
    for rule in rules:
        _check_columns(rule, types)
        for problem in _problems(rule, types):
            raise StudyError(f"{rule.place}: {problem}.")
    return tuple(rules)


def load_rules(study: Study, types: Mapping[str, str]) -> tuple[Rule, ...]:
    """``study_rules``, all of them with a meaning for columns of ``types``; StudyError otherwise."""
    return fitting_rules(study_rules(study), types)


def _named_apart(rules: tuple[Rule, ...], written: str) -> tuple[Rule, ...]:
    names = [rule.rule_id for rule in rules]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise StudyError(f"{written}: rule_id {', '.join(repeated)} is used twice.")
    return rules


def value_kind(duckdb_type: str) -> ValueKind:
    """What a column's values can be compared with."""
    if duckdb_type in ("VARCHAR", "BOOLEAN"):
        return "text" if duckdb_type == "VARCHAR" else "boolean"
    if duckdb_type.endswith("]") or "(" in duckdb_type.removeprefix("DECIMAL("):
        return "text" if duckdb_type.startswith("ENUM(") and duckdb_type.endswith(")") else "other"
    if duckdb_type == "DATE" or duckdb_type.startswith("TIMESTAMP"):
        return "time"
    is_number = duckdb_type.startswith(("DECIMAL(", "FLOAT", "DOUBLE")) or duckdb_type.endswith("INT") or duckdb_type.endswith("INTEGER")
    return "number" if is_number else "other"


def comparisons(rule: Rule) -> list[tuple[str, object]]:
    """Column and constant of every comparison in the rule's row condition."""
    found: list[tuple[str, object]] = []
    for node in ast.walk(condition_tree(rule)):
        match node:
            case ast.Compare(left=ast.Name(id=name), comparators=[ast.Constant(value=value)]):
                found.append((name, value))
    return found


def condition_tree(rule: Rule) -> ast.expr:
    """The row condition as a syntax tree, ``True`` without one; ValueError where it cannot be read."""
    text = rule.kwargs.get("row_condition")
    if text is None:
        return ast.Constant(value=True)
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise ValueError(f"row_condition must be a text of at most {MOST_CHARACTERS:,} characters")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"row_condition {show_value(text)} is not readable; write comparisons such as size == 'S' and amount > 0"
        ) from error


def _rule(entry: Mapping[str, Any], written: str) -> Rule:
    kind, kwargs, severity, meta = entry["type"], entry["kwargs"], entry["severity"], entry["meta"]
    rule = Rule(meta["rule_id"], kind, kwargs, severity, meta["why"], meta.get("keep"), meta.get("order_by"), written)
    prefix = rule.place
    if kind not in ROW_RULES:
        raise StudyError(f"{prefix}: {kind} cannot be checked by the scan; use {', '.join(ROW_RULES)}.")
    if severity not in SEVERITIES:
        raise StudyError(f"{prefix}: severity {severity!r}; write critical, warning or info.")
    unknown = sorted(set(kwargs) - ROW_RULES[kind] - _EVERYWHERE)
    if unknown:
        raise StudyError(f"{prefix}: {kind} is checked without {', '.join(unknown)}; it takes {', '.join(sorted(ROW_RULES[kind]))}.")
    return rule


def _check_columns(rule: Rule, types: Mapping[str, str]) -> None:
    wanted = rule.kwargs.get("column_list" if "compound" in rule.type else "column")
    named = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        raise StudyError(f"{rule.place}: {rule.type} needs a column (or a column_list).")
    try:
        unknown = [name for name in rule.columns if name not in types]
    except ValueError as error:
        raise StudyError(f"{rule.place}: {error}.") from error
    if unknown:
        raise StudyError(f"{rule.place} reads {', '.join(unknown)}, which the line items do not have.")


def _problems(rule: Rule, types: Mapping[str, str]) -> list[str]:
    """What is wrong with the rule's values, for columns of these types."""
    kwargs = rule.kwargs
    found = []
    mostly = kwargs.get("mostly", 1.0)
    if not _is_number(mostly) or not 0 < mostly <= 1:
        found.append(f"mostly {mostly!r} must be above 0 and at most 1")
    if kwargs.get("row_condition") is not None and kwargs.get("condition_parser") != "pandas":
        found.append("row_condition needs condition_parser pandas")
    for name, value in comparisons(rule):
        if not fits(value, value_kind(types[name])):
            found.append(f"row_condition compares {name} ({types[name]}) with {value!r}")
    kind = value_kind(types[rule.own_columns[0]])
    match rule.type:
        case "expect_column_values_to_be_between":
            found += _bound_problems(rule, kind, types)
        case "expect_column_values_to_be_in_set":
            values = kwargs.get("value_set")
            if not isinstance(values, list) or not values or kind == "time" or not all(fits(value, kind) for value in values):
                found.append(f"value_set {values!r} must list values of the kind of {rule.own_columns[0]} ({types[rule.own_columns[0]]})")
        case "expect_column_values_to_match_regex":
            found += _regex_problems(kwargs.get("regex"), kind)
    return found


def _bound_problems(rule: Rule, kind: ValueKind, types: Mapping[str, str]) -> list[str]:
    column = rule.own_columns[0]
    bounds = {name: rule.kwargs[name] for name in ("min_value", "max_value") if rule.kwargs.get(name) is not None}
    if not bounds:
        return ["needs min_value or max_value"]
    if kind not in ("number", "time"):
        return [f"{column} is {types[column]}, which has no order that both executors share"]
    return [f"{name} {value!r} does not fit {column} ({types[column]})" for name, value in bounds.items() if not fits(value, kind)]


def _regex_problems(regex: object, kind: ValueKind) -> list[str]:
    if not isinstance(regex, str) or kind != "text":
        return ["a regex is for text columns"]
    if len(regex) > MOST_CHARACTERS:
        return [f"a regex may have {MOST_CHARACTERS:,} characters"]
    try:
        python_regex(regex)
    except (UnclearRegexError, RecursionError, OverflowError) as error:
        return [f"regex {show_value(regex)}: {error}"]
    return []


def fits(value: object, kind: ValueKind) -> bool:
    """Whether a constant can be compared with values of this kind: numbers, texts, booleans, ISO dates and times without a zone."""
    match kind:
        case "number":
            return _is_number(value)
        case "text":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "time":
            return isinstance(value, str) and _is_naive_time(value)
        case _:
            return False


def _is_number(value: object) -> bool:
    """Whether a value is a number that DuckDB's types can hold."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < LARGEST
    return isinstance(value, float) and math.isfinite(value)


def _is_naive_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False
