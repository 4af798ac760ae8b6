"""Columns of a term: treatment coding of categorical predictors by R's rule of marginality, numbers, features, and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from multilevel.arrays import Floats
from multilevel.cells.cell_plan import feature_label
from multilevel.cells.statistics import CellStatistics, Labels
from multilevel.errors import FitError
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Expression, Term


@dataclass(frozen=True)
class CodedColumn:
    """A column of a term before it is interpreted; ``multiplier`` (C,), the rest as in ``DesignColumn``."""

    label: str
    term: Term
    multiplier: Floats
    feature: int
    numbers: tuple[str, ...] = ()
    indicators: tuple[tuple[str, int], ...] = ()
    shift: float = 0.0


def code_terms(terms: Sequence[Term], cells: CellStatistics, ones: Floats | None = None) -> list[CodedColumn]:
    """Columns of every term, in order; the first factor of an interaction varies fastest, as in R.

    ``ones`` (C,) is shared by all columns that the key does not touch, which saves memory where there are millions of cells.

    Raises
    ------
    FitError
        If the cells do not carry what a term needs (they were made for another formula).
    """
    full = indicator_coding(terms, set(cells.labels))
    constant = np.ones(cells.n_cells) if ones is None else ones
    return [column for term in terms for column in _code_term(term, full, cells, constant)]


def indicator_coding(terms: Sequence[Term], categorical: set[str]) -> set[tuple[str, str]]:
    """(term label, factor label) pairs that need an indicator for every level instead of contrasts with the reference.

    A factor gets contrasts in a term where the term without it (its margin) is in the model, else all indicators; without an
    intercept the first categorical term gets all of them. Source: Chambers and Hastie (1992), section 2.4.1; R's ``terms.formula``.
    """
    present: set[frozenset[str]] = {_names(term) for term in terms} | {frozenset()}
    full = {
        (term.label, name)
        for term in terms
        for name in map(expression_label, term.factors)
        if name in categorical and _names(term) - {name} not in present
    }
    first = next((term for term in terms if term.factors and _names(term) <= categorical), None)
    if first is not None and not any(term.is_intercept for term in terms):
        full.add((first.label, expression_label(first.factors[0])))
    return full


def _names(term: Term) -> frozenset[str]:
    return frozenset(expression_label(factor) for factor in term.factors)


def _code_term(term: Term, full: set[tuple[str, str]], cells: CellStatistics, ones: Floats) -> list[CodedColumn]:
    numeric, feature, numbers = _numeric_part(term, cells, ones)
    choices = [_choices(term, factor, full, cells.labels) for factor in term.factors]
    coded = []
    # reversed twice: itertools.product runs the last factor fastest, R the first
    for choice in product(*reversed(choices)):
        parts = list(reversed(choice))
        multiplier = numeric
        for part, level in parts:
            if level is not None:
                labels = cells.labels[part]
                multiplier = multiplier * (labels.codes == level)
        label = ":".join(part if level is None else f"{part}[{cells.labels[part].values[level]}]" for part, level in parts)
        indicators = tuple((part, level) for part, level in parts if level is not None)
        coded.append(CodedColumn(label or "Intercept", term, multiplier, feature, numbers, indicators))
    return coded


def _choices(term: Term, factor: Expression, full: set[tuple[str, str]], labels: Mapping[str, Labels]) -> list[tuple[str, int | None]]:
    name = expression_label(factor)
    if name not in labels:
        return [(name, None)]
    first = 0 if (term.label, name) in full else 1
    return [(name, level) for level in range(first, len(labels[name].values))]


def _numeric_part(term: Term, cells: CellStatistics, ones: Floats) -> tuple[Floats, int, tuple[str, ...]]:
    """Product of the key numbers, which feature multiplies it (0: none, because all is fixed within a cell), and the labels of both."""
    multiplier = ones
    rest = []
    numbers = []
    for factor in term.factors:
        name = expression_label(factor)
        if name in cells.numbers:
            multiplier = multiplier * cells.numbers[name]
            numbers.append(name)
        elif name not in cells.labels:
            rest.append(factor)
    if not rest:
        return multiplier, 0, tuple(numbers)
    label = feature_label(rest)
    if label not in cells.features:
        raise FitError(
            f"The cells carry no `{label}`, which the term `{term.label}` needs; they carry {', '.join(cells.features) or 'no features'}."
        )
    index = cells.features.index(label)
    if cells.is_fixed(index).all():
        return multiplier * cells.mean[:, index], 0, (*numbers, label)
    return multiplier, index + 1, (*numbers, label)
