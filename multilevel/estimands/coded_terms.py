"""What a term of one predictor compares: a level with the reference, a number with one a step higher, a number twice as high.

A coefficient is read in units that somebody can picture: a step is one where the predictor's values differ by ones and tens, else a power
of ten near their spread; of a logarithm it is a doubling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from multilevel.design.model import Design, DesignColumn
from multilevel.formula.columns import columns_in, predictor_expressions
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Call, Column, Expression, Formula

UNIT_SPREAD = (0.5, 30.0)
"""Standard deviations of a predictor for which a step is one."""

SAME = 1e-9
"""A sum of a mean and the distance from it is off by rounding."""

type Means = Literal["within", "between"]


@dataclass(frozen=True)
class CodedTerm:
    """A term of one predictor.

    predictor : its column.
    level, reference, categories : of a categorical one, what is compared with what, and the name of its labels in the cells (``week``,
        ``C(week)``); None of a number.
    step : how much more of a number is compared, on the scale of the term.
    is_log : of its logarithm, so that a step is a doubling. is_standard : of ``scale(x)``, so that a step is one standard deviation.
    is_flag : of a number that is 0 or 1 for every line item. means, group : of its distance from the mean of a group, or of that mean.
    """

    term: str
    predictor: str
    level: str | None = None
    reference: str | None = None
    categories: str | None = None
    step: float = 1.0
    is_log: bool = False
    is_standard: bool = False
    is_flag: bool = False
    means: Means | None = None
    group: str | None = None


def coded_terms(design: Design, formula: Formula) -> list[CodedTerm]:
    """Population terms of one predictor that stands in no other term and, if categorical, is coded against a reference.

    ``within(x, g)`` and ``between(x, g)`` may stand side by side: each changes while the other stays.
    """
    alone = {term.label: term.factors[0] for term in formula.population if len(term.factors) == 1}
    found = []
    for column in design.population:
        if column.indicators:
            coded = _of_level(column, design, formula)
        else:
            expression = alone.get(column.label)
            coded = None if expression is None else _of_number(column, expression, design)
        if coded is not None and _stands_alone(coded, formula):
            found.append(coded)
    return found


def _of_level(column: DesignColumn, design: Design, formula: Formula) -> CodedTerm | None:
    """None for an interaction, and where every level has a column, so that none is the reference."""
    if len(column.indicators) > 1 or column.numbers:
        return None
    [(name, place)] = column.indicators
    if any(other.indicators == ((name, 0),) for other in design.population):
        return None
    [predictor] = {read for each in predictor_expressions(formula) if expression_label(each) == name for read in columns_in(each)}
    values = design.cells.labels[name].values
    return CodedTerm(column.label, predictor, str(values[place]), str(values[0]), name)


def _of_number(column: DesignColumn, expression: Expression, design: Design) -> CodedTerm | None:
    """None for arithmetic (``I(x ** 2)``), of which no single step is a step of x."""
    match expression:
        case Column(name) | Call("center" | "bin", (Column(name), *_)):
            is_flag = not column.feature and set(np.unique(column.multiplier)) == {0.0, 1.0}
            return CodedTerm(column.label, name, step=1.0 if is_flag else _step(column, design), is_flag=is_flag)
        case Call("scale", (Column(name), *_)):
            return CodedTerm(column.label, name, is_standard=True)
        case Call("log", (Column(name),)):
            return CodedTerm(column.label, name, step=math.log(2.0), is_log=True)
        case Call("within" | "between" as means, (Column(name), *groups)):
            is_flag = _is_flag_about_means(expression, design)
            step = 1.0 if is_flag and means == "within" else _step(column, design)
            return CodedTerm(column.label, name, step=step, is_flag=is_flag, means=_means(means), group=_group(groups))
        case Call("within" | "between" as means, (Call("log", (Column(name),)), *groups)):
            return CodedTerm(column.label, name, step=math.log(2.0), is_log=True, means=_means(means), group=_group(groups))
        case _:
            return None


def _is_flag_about_means(expression: Call, design: Design) -> bool:
    """Whether distances from means and the means, where both are in the model, add up to 0 or 1 for every line item."""
    labels = [expression_label(Call(function, expression.arguments)) for function in ("within", "between")]
    columns = {column.label: column for column in design.population}
    found = [columns[label] for label in labels if label in columns]
    if len(found) < 2 or any(column.feature for column in found):
        return False
    values = found[0].multiplier + found[1].multiplier
    return bool(np.all(np.minimum(np.abs(values), np.abs(values - 1.0)) < SAME))


def _means(function: str) -> Means:
    return "within" if function == "within" else "between"


def _group(expressions: list[Expression]) -> str:
    return ":".join(name for expression in expressions for name in columns_in(expression))


def _step(column: DesignColumn, design: Design) -> float:
    """One, or the power of ten below the spread of the column's values over line items."""
    cells = design.cells
    weight = cells.line_items / cells.line_items.sum()
    values = np.asarray(column.multiplier, dtype=float)
    square = values**2
    if column.feature:
        place = column.feature - 1
        mean = cells.mean[:, place] - column.shift
        square = square * (mean**2 + cells.cross[:, place, place] / cells.weight)
        values = values * mean
    spread = math.sqrt(max(float(weight @ square) - float(weight @ values) ** 2, 0.0))
    if UNIT_SPREAD[0] <= spread < UNIT_SPREAD[1] or not spread:
        return 1.0
    return float(10.0 ** math.floor(math.log10(spread)))


def _stands_alone(coded: CodedTerm, formula: Formula) -> bool:
    """Whether no other expression of the formula reads the predictor, but its own means."""
    products = [term for terms in (formula.population, *(group.terms for group in formula.groups)) for term in terms]
    if any(len(term.factors) > 1 and any(coded.predictor in columns_in(each) for each in term.factors) for term in products):
        return False
    reading = [each for each in predictor_expressions(formula) if coded.predictor in _read(each)]
    means = [each for each in reading if isinstance(each, Call) and each.function in {"within", "between"}]
    return len(reading) == 1 or (coded.means is not None and len(reading) == len(means) == 2)


def _read(expression: Expression) -> tuple[str, ...]:
    """Columns whose values an expression takes; those that only name the group of a mean are none."""
    if isinstance(expression, Call) and expression.function in {"within", "between"}:
        return columns_in(expression.arguments[0])
    return columns_in(expression)
