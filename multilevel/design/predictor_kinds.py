"""How to read a column of the design: within whose levels it is constant, and what kind of predictor that makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.cells.statistics import CellStatistics
from multilevel.design.coding import CodedColumn
from multilevel.design.model import DesignColumn, Factor, PredictorKind
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Call, Expression, Term


@dataclass(frozen=True)
class Reader:
    """What kinds are read from: the cells, the factors from coarse to fine, and every term of the formula."""

    cells: CellStatistics
    factors: tuple[Factor, ...]
    terms: frozenset[str]


def reader_of(cells: CellStatistics, factors: Mapping[tuple[str, ...], Factor], terms: Sequence[Term]) -> Reader:
    """Factors from coarse to fine, each once."""
    ordered = sorted(factors.values(), key=lambda factor: factor.n_levels)
    return Reader(cells, tuple(ordered), frozenset(term.label for term in terms))


def interpret(column: CodedColumn, reader: Reader) -> DesignColumn:
    """The design column, with its kind and the coarsest factor within whose levels it is constant."""
    constant = None if column.feature or column.term.is_intercept else constant_within(column.multiplier, reader.factors)
    kind = _kind(column.term, constant, reader)
    return DesignColumn(column.label, column.multiplier, column.feature, kind, constant, column.numbers, column.indicators)


def constant_within(values: Floats, factors: Sequence[Factor]) -> str | None:
    """Name of the first factor within whose levels ``values`` (C,) do not vary, or None; None also where they never vary at all."""
    if np.all(values == values[0]):
        return None
    return next((factor.name for factor in factors if is_constant_within(values, factor)), None)


def is_constant_within(values: Floats, factor: Factor) -> bool:
    """Whether cells of the same level always have the same value, up to the rounding of means over their rows."""
    of_level = np.empty(factor.n_levels, dtype=values.dtype)
    of_level[factor.codes] = values
    return bool(np.all(np.abs(of_level[factor.codes] - values) <= rounding_of(values)))


def rounding_of(values: Floats) -> float:
    """Differences up to here are rounding of means over rows: 1e-9 of the spread of ``values`` (C,), and a few hundred units in the last
    place of the largest, which is all there is of a value far from zero."""
    return 1e-9 * float(np.std(values)) + 1e-13 * float(np.abs(values).max(initial=0.0))


def _kind(term: Term, constant: str | None, reader: Reader) -> PredictorKind:
    if len(term.factors) == 1:
        factor = term.factors[0]
        if isinstance(factor, Call) and factor.function == "within":
            return "within"
        if isinstance(factor, Call) and factor.function == "between":
            # beside x itself the coefficient is between minus within: the contextual effect (Mundlak 1978)
            return "contextual" if expression_label(factor.arguments[0]) in reader.terms else "between"
    if constant is not None:
        return "group_level"
    return "cross_level" if len(term.factors) > 1 and _crosses_levels(term, reader) else "individual"


def _crosses_levels(term: Term, reader: Reader) -> bool:
    """Whether one part of a product is constant within a factor's levels while another varies there."""
    values = [_values(factor, reader.cells) for factor in term.factors]
    for grouping in reader.factors:
        steady = [value is not None and is_constant_within(value, grouping) for value in values]
        if any(steady) and not all(steady):
            return True
    return False


def _values(expression: Expression, cells: CellStatistics) -> Floats | None:
    """(C,) values of one part of a term where each cell has one, else None."""
    name = expression_label(expression)
    if name in cells.numbers:
        return cells.numbers[name]
    if name in cells.labels:
        return cells.labels[name].codes.astype(np.float64)
    if name in cells.features and cells.is_fixed(cells.features.index(name)).all():
        return cells.mean[:, cells.features.index(name)]
    return None
