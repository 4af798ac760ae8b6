"""What a study needs of its rows: types that fit, an outcome in the family's support, no nulls, at least two levels in every factor.

The needs are SQL predicates over the table ``study``, so that the one scan that applies the rules counts them too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from groupwise.compression.sql_expressions import TABLE, as_sql, counted
from groupwise.source.relation import literal, quote
from groupwise.study.study import Study
from groupwise.validation.missing_values import MISSING_LEVEL
from groupwise.validation.suite import value_kind
from multilevel.errors import StudyError
from multilevel.families.registry import family_named, has_two_parts, is_linear, statistics_of, two_part_named
from multilevel.formula.columns import columns_in, formula_columns, grouping_columns, predictor_expressions, response_columns
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Call, Column, Expression, Number, Operation

FROM_ALL_ROWS = frozenset({"center", "scale", "within", "between"})
"""Functions whose value needs other rows; what goes into them is checked instead."""


ROUNDING = "1e-6"
"""Relative error of a calculated number of successes: that of single precision, some steps of it."""


@dataclass(frozen=True)
class Need:
    """``breaks``: true for a row that breaks it; ``message``: what to say then; ``columns``: which columns to show."""

    breaks: str
    message: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Varied:
    """``values``: SQL over rows, of which one must have at least two different values; ``message``: what to say if none has."""

    values: tuple[str, ...]
    message: str
    columns: tuple[str, ...]


def row_needs(study: Study, types: Mapping[str, str]) -> list[Need]:
    """What every row must keep; StudyError where a column's type cannot fit."""
    _check_types(study, types)
    return [*_present(study, types), *_listed(study, types), *_outcome(study), *_finite(study), *_precisions(study)]


def column_needs(study: Study, types: Mapping[str, str]) -> list[Varied]:
    """What must differ between the rows that are left: every factor's level, and a gaussian outcome."""
    found = []
    for group in study.parsed_formula.groups:
        what = f"the grouping factor {group.name} has one level only; it needs at least two. Drop its group term"
        found.append(Varied(tuple(f"{TABLE}.{quote(name)}" for name in group.columns), what, group.columns))
    for name in _categorical(study, types):
        what = f"the predictor {name} has one level only; it needs at least two. Drop it from the formula, or take a longer window"
        found.append(Varied((f"{TABLE}.{quote(name)}",), what, (name,)))
    if is_linear(study.family):
        outcome = study.parsed_formula.response.expression
        what = "the outcome is the same in every row; there is nothing to explain"
        found.append(Varied((as_sql(outcome, {}),), what, columns_in(outcome)))
    return list(dict.fromkeys(found))


def _categorical(study: Study, types: Mapping[str, str]) -> list[str]:
    found = []
    for expression in predictor_expressions(study.parsed_formula):
        match expression:
            case Column(name) if value_kind(types[name]) in ("text", "boolean"):
                found.append(name)
            case Call("C", (Column(name), *_)):
                found.append(name)
            case _:
                pass
    return found


def _check_types(study: Study, types: Mapping[str, str]) -> None:
    formula = study.parsed_formula
    response = formula.response
    outcome = [*columns_in(response.expression), *(columns_in(response.trials) if response.trials is not None else ())]
    for name in outcome:
        kind = value_kind(types[name])
        is_binary = not has_two_parts(study.family) and statistics_of(study.family).size == "trials"
        if kind != "number" and not (kind == "boolean" and is_binary):
            allowed = "a number or true and false" if is_binary else "a number"
            raise StudyError(
                f"{study.name}: formula: the outcome {name} is {types[name]}; family {study.family} needs {allowed}."
                f"{_truth_hint(name, types[name]) if is_binary else _cast_hint(name, types[name])}"
            )
    for name in calculated_columns(study):
        if name in outcome:
            continue
        if value_kind(types[name]) not in ("number", "boolean"):
            raise StudyError(
                f"{study.name}: formula: {name} is {types[name]}; the formula calculates with it, so it must be a number."
                f"{_cast_hint(name, types[name])}"
            )


def calculated_columns(study: Study) -> list[str]:
    """Columns that must be numbers: of the outcome, of weights and offsets, and those that the formula calculates with."""
    formula = study.parsed_formula
    response = formula.response
    outcome = [*columns_in(response.expression), *(columns_in(response.trials) if response.trials is not None else ())]
    known = [name for name in (response.weights, response.standard_error) if name is not None]
    calculated = [name for part in predictor_expressions(formula) for name in _calculated(part)]
    offsets = [name for part in formula.offsets for name in columns_in(part)]
    return list(dict.fromkeys([*outcome, *known, *calculated, *offsets]))


def _truth_hint(name: str, kind: str) -> str:
    """What to write where a column holds yes and no as text."""
    if value_kind(kind) == "text":
        return f" If it holds yes and no (or true and false) as text, add types: {{{name}: BOOLEAN}} to the study."
    return _cast_hint(name, kind)


def _cast_hint(name: str, kind: str) -> str:
    """What to write where a column holds numbers as text, or days."""
    if value_kind(kind) == "text":
        return f" If it holds numbers as text, add types: {{{name}: DOUBLE}} to the study; values that are no numbers are then refused."
    if value_kind(kind) == "time":
        return f" Make a number of it in the line_items query, such as date_diff('day', date '2024-01-01', {name}) as days."
    return ""


def _calculated(expression: Expression, inside: bool = False) -> list[str]:
    """Columns that an expression calculates with; a bare column or ``C(column)`` may be of any type, as may a grouping column."""
    match expression:
        case Column(name):
            return [name] if inside else []
        case Call("C", _) | Number():
            return []
        case Call("within" | "between", arguments):
            return _calculated(arguments[0], inside=True)
        case Call(_, parts) | Operation(_, parts):
            return [name for part in parts for name in _calculated(part, inside=True)]


def _rules_of(name: str, outcome: Collection[str], groups: Collection[str]) -> str:
    """What ``missing`` may say of a column."""
    if name in outcome:
        return "exclude"
    return "exclude or level" if name in groups else "exclude, level or mean_and_indicator"


def _present(study: Study, types: Mapping[str, str]) -> list[Need]:
    groups, outcome = grouping_columns(study.parsed_formula), response_columns(study.parsed_formula)
    found = []
    for name in formula_columns(study.parsed_formula):
        own = f"{TABLE}.{quote(name)}"
        is_float = types[name] in ("DOUBLE", "FLOAT")
        broken = f"({own} is null or not isfinite({own}))" if is_float else f"({own} is null)"
        what = "null, NaN or infinite" if is_float else "null"
        rule = _rules_of(name, outcome, groups)
        hint = f"say what to do with them under missing ({name}: {rule}), or leave them out by where"
        found.append(Need(broken, f"{name} is {what}; {hint}", (name,)))
    return found


def _listed(study: Study, types: Mapping[str, str]) -> list[Need]:
    """A level that the study's own list lacks has no place in it."""
    found = []
    for name, listed in study.levels.items():
        own = f"{TABLE}.{quote(name)}"
        allowed = [*listed, *([MISSING_LEVEL] if study.missing.get(name) == "level" else [])]
        if value_kind(types[name]) == "number":
            own, values = f"cast({own} as double)", [f"try_cast({literal(level)} as double)" for level in allowed]
        else:
            own, values = f"cast({own} as varchar)", [literal(level) for level in allowed]
        message = f"{name} has a level that levels: {name}: [{', '.join(listed)}] does not list; add it, or leave such rows out by where"
        found.append(Need(f"({own} not in ({', '.join(values)}))", message, (name,)))
    return found


def _outcome(study: Study) -> list[Need]:
    response = study.parsed_formula.response
    expression = response.expression
    inner = expression.arguments[0] if study.is_lognormal and isinstance(expression, Call) else expression
    y = as_sql(inner, {})
    names = columns_in(expression)
    support = (two_part_named(study.family) or family_named(study.family)).support
    found = []
    if response.trials is not None:
        n = as_sql(response.trials, {})
        names = tuple(dict.fromkeys([*names, *columns_in(response.trials)]))
        broken = f"{counted(expression, {})} < 0 or {counted(expression, {})} > {n} or {not_whole(expression)} or {n} <> floor({n})"
        found.append(Need(f"({broken})", "p(successes, trials) needs whole numbers with 0 <= successes <= trials", names))
    elif study.is_lognormal:
        hint = "log(y) needs an outcome above zero; leave the rest out by where, or take another family"
        found.append(Need(f"({y} <= 0)", hint, names))
    elif support is not None:
        broken, hint = support.sql.replace("{y}", y), support.message.replace("{name}", expression_label(inner))
        found.append(Need(f"({broken})", hint, names))
    return [*found, Need(f"(not isfinite({y}))", f"the outcome {expression_label(inner)} is not a finite number", names)]


def not_whole(expression: Expression) -> str:
    """Condition: no whole number; one that is calculated, such as a proportion times its trials, is so up to rounding."""
    value = as_sql(expression, {})
    if isinstance(expression, Column):
        return f"{value} <> floor({value})"
    return f"abs({value} - round({value})) > least(0.01e0, {ROUNDING} * greatest(1e0, abs({value})))"


def _finite(study: Study) -> list[Need]:
    """Calculated predictors and offsets: a zero inside ``log()`` or a division gives no finite number."""
    formula = study.parsed_formula
    parts = [part for expression in (*predictor_expressions(formula), *formula.offsets) for part in _row_wise(expression)]
    return [
        Need(
            f"(not isfinite({as_sql(part, {})}))",
            f"{expression_label(part)} is not a finite number: look for zeros and negative values inside it, and leave them out by where",
            columns_in(part),
        )
        for part in dict.fromkeys(parts)
    ]


def _row_wise(expression: Expression) -> Sequence[Expression]:
    """The largest calculated parts that one row alone determines."""
    match expression:
        case Column() | Number() | Call("C", _):
            return ()
        case Call(_, parts) | Operation(_, parts):
            if _needs_all_rows(expression):
                return [inner for part in parts for inner in _row_wise(part)]
            return (expression,)


def _needs_all_rows(expression: Expression) -> bool:
    match expression:
        case Call(function, parts):
            return function in FROM_ALL_ROWS or any(_needs_all_rows(part) for part in parts)
        case Operation(_, parts):
            return any(_needs_all_rows(part) for part in parts)
        case _:
            return False


def _precisions(study: Study) -> list[Need]:
    response = study.parsed_formula.response
    known = [("weights", response.weights), ("se", response.standard_error)]
    return [
        Need(f"({TABLE}.{quote(name)} <= 0)", f"{kind}({name}) must be above zero", (name,)) for kind, name in known if name is not None
    ]
