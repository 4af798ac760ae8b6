"""Names that a formula gives twice: the tables, and the statistics behind them, tell terms and factors apart by their labels alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from multilevel.errors import FormulaError
from multilevel.formula.columns import predictor_expressions
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Column, Expression, Formula

INTERCEPT = "Intercept"

RESIDUAL = "residual"
"""The grouping factor under which ``variance_components`` has sigma and the dispersions."""


def check_names(formula: Formula) -> None:
    """Refuse two expressions, terms or grouping factors that the tables would write alike.

    Raises
    ------
    FormulaError
        Names the label, both meanings, and the column to rename.
    """
    terms = [*formula.population, *(term for group in formula.groups for term in group.terms)]
    products = [tuple(sorted(term.factors, key=expression_label)) for term in terms]
    _refuse_twice(
        formula.text, "predictors", [((expression,), expression_label(expression)) for expression in predictor_expressions(formula)]
    )
    # the column `Intercept` is refused where the model has no intercept too: tables and priors know that by its label
    labelled = [(product, ":".join(map(expression_label, product)) or INTERCEPT) for product in [(), *products]]
    _refuse_twice(formula.text, "terms", labelled)
    _refuse_twice(formula.text, "grouping factors", [(tuple(map(Column, group.columns)), group.name) for group in formula.groups])
    if any(group.columns == (RESIDUAL,) for group in formula.groups):
        raise FormulaError(
            f"The formula `{formula.text}` cannot be used: the tables write {RESIDUAL} for what group-level terms leave, so it cannot be a "
            "grouping factor too. Rename the column in line_items."
        )


def _refuse_twice(text: str, what: str, labelled: Iterable[tuple[Sequence[Expression], str]]) -> None:
    seen: dict[str, Sequence[Expression]] = {}
    for meaning, label in labelled:
        first = seen.setdefault(label, meaning)
        if first != meaning:
            raise alike(text, what, label, first, meaning)


def alike(text: str, what: str, label: str, first: Sequence[Expression], second: Sequence[Expression]) -> FormulaError:
    """The error for two meanings of one label."""
    return FormulaError(
        f"The formula `{text}` cannot be used: two {what} are both written {label} in the tables, {_described(first)} and "
        f"{_described(second)}. Rename the column `{_renamed(first, second)}` in line_items."
    )


def _described(parts: Sequence[Expression]) -> str:
    if not parts:
        return "the model's own intercept"
    words = [f"the column `{part.name}`" if isinstance(part, Column) else f"the expression {expression_label(part)}" for part in parts]
    return " together with ".join(words)


def _renamed(*meanings: Sequence[Expression]) -> str:
    """The column that took a name with the signs of terms in it."""
    names = [part.name for parts in meanings for part in parts if isinstance(part, Column)]
    return max(names, key=lambda name: sum(not (sign.isalnum() or sign in "_ ") for sign in name))
