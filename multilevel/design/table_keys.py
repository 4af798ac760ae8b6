"""Keys of the published tables, from the design alone: rows that a key would not tell apart are refused before anything is fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from multilevel.cells.statistics import CellStatistics
from multilevel.design.coding import CodedColumn, code_terms
from multilevel.design.factors import full_labels
from multilevel.design.model import Design, Factor
from multilevel.errors import FitError
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula

NAMED = 3
"""Labels that a message names."""


def check_keys(formula: Formula, design: Design) -> None:
    """Refuse labels that stand for two things in a table: terms, and levels within a grouping factor.

    Raises
    ------
    FitError
        Names the labels, what they stand for, and what to rename.
    """
    _check_terms(formula, design.cells)
    for factor in {block.factor.name: block.factor for block in design.blocks}.values():
        _check_levels(factor)


def _check_terms(formula: Formula, cells: CellStatistics) -> None:
    """Every label belongs to one column of one term, outside the brackets and in them."""
    known: dict[str, frozenset[str]] = {}
    for terms in (formula.population, *(group.terms for group in formula.groups)):
        coded = code_terms(terms, cells)
        repeated = [label for label, times in Counter(column.label for column in coded).items() if times > 1]
        for column in coded:
            parts = frozenset(map(expression_label, column.term.factors))
            if column.label in repeated or known.setdefault(column.label, parts) != parts:
                raise FitError(_term_message(column.label, coded))


def _term_message(label: str, coded: Sequence[CodedColumn]) -> str:
    terms = list(dict.fromkeys(column.term.label for column in coded if column.label == label))
    of = f"the terms {' and '.join(terms)}" if len(terms) > 1 else f"the term {terms[0]} and another of the formula, or two of its levels"
    return (
        f"Two coefficients would both be written {label} in the tables, of {of}: names or levels with brackets or colons in them make them "
        "meet. Rename the column, or replace the brackets and colons in the levels, in line_items."
    )


def _check_levels(factor: Factor) -> None:
    """Levels of several columns are written with colons between their labels, in ``parent_level`` and wherever a level is named whole."""
    labels = full_labels(factor)
    repeated = [str(label) for label, times in Counter(labels.tolist()).items() if times > 1]
    if len(factor.columns) > 1 and repeated:
        raise FitError(
            f"Different levels of {factor.name} are written alike in the tables: {', '.join(repeated[:NAMED])}"
            f"{f' and {len(repeated) - NAMED} more' if len(repeated) > NAMED else ''}. Labels with colons in them make them meet: replace "
            f"the colons in {' or '.join(factor.columns)}, in line_items."
        )
