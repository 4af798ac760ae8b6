"""Which columns of the line items an expression or a whole formula reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from multilevel.formula.tree import Call, Column, Expression, Formula, Number, Operation


def columns_in(expression: Expression) -> tuple[str, ...]:
    """Column names in the order of first appearance."""
    match expression:
        case Column(name):
            return (name,)
        case Number():
            return ()
        case Call(_, children) | Operation(_, children):
            return _unique(name for child in children for name in columns_in(child))


def categories_in(expression: Expression) -> tuple[str, ...]:
    """Columns that stand alone or inside ``C()``: those that may be categorical predictors."""
    match expression:
        case Column(name) | Call("C", (Column(name), *_)):
            return (name,)
        case _:
            return ()


def response_columns(formula: Formula) -> tuple[str, ...]:
    """Columns of the left-hand side: outcome, trials, weights, standard error."""
    response = formula.response
    parts = [response.expression] + ([response.trials] if response.trials is not None else [])
    known = [name for name in (response.weights, response.standard_error) if name is not None]
    return _unique([name for part in parts for name in columns_in(part)] + known)


def predictor_expressions(formula: Formula) -> tuple[Expression, ...]:
    """Every expression that multiplies a coefficient, population-level and group-level, each once, in the order of appearance."""
    terms = list(formula.population) + [term for group in formula.groups for term in group.terms]
    return tuple(dict.fromkeys(factor for term in terms for factor in term.factors))


def predictor_columns(formula: Formula) -> tuple[str, ...]:
    """Columns that predictors and offsets read."""
    return _unique(name for expression in (*predictor_expressions(formula), *formula.offsets) for name in columns_in(expression))


def grouping_columns(formula: Formula) -> tuple[str, ...]:
    """Columns that name levels of grouping factors, in the order of appearance."""
    return _unique(name for group in formula.groups for name in group.columns)


def not_grouped_by(formula: Formula, columns: Sequence[str]) -> tuple[str, ...]:
    """Those of ``columns`` by which no group term of the formula groups."""
    used = grouping_columns(formula)
    return tuple(name for name in columns if name not in used)


def formula_columns(formula: Formula) -> tuple[str, ...]:
    """Every column that the formula reads, each once: response, predictors and offsets, groups."""
    return _unique((*response_columns(formula), *predictor_columns(formula), *grouping_columns(formula)))


def standardised(expression: Expression) -> list[Expression]:
    """Expressions inside ``center()`` and ``scale()``, whose moments over all rows are needed."""
    match expression:
        case Call("center" | "scale", (value,)):
            return [*standardised(value), value]
        case Call(_, children) | Operation(_, children):
            return [inner for child in children for inner in standardised(child)]
    return []


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
