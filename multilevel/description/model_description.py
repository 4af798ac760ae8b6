"""The model in words: each term's kind, what varies by what, how the outcome is distributed; for ``groupwise plan`` and the report."""

from __future__ import annotations

from collections.abc import Sequence

from multilevel.cells.statistics import CellStatistics
from multilevel.design.model import Design, DesignColumn, GroupBlock
from multilevel.families.registry import family_named
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula


def describe(formula: Formula, designs: Sequence[Design], family: str) -> list[str]:
    """One sentence for the outcome, or four for one of two parts, one per population term, one per group term.

    Parameters
    ----------
    formula : of the study. designs : of its one part, or of occurrence and amount, whose terms are the same.
    family : a name in ``multilevel.families.registry``.
    """
    whole = designs[0]
    if len(designs) == 1:
        outcome = [_outcome(formula, whole.cells, family), *([_offset(formula, family)] if formula.offsets else [])]
    else:
        outcome = _two_parts(formula, whole, designs[1])
    terms = [_coefficient(column, whole) for column in whole.population]
    terms += [f"{label} was left out: the terms before it determine it." for label in whole.aliased]
    return [*outcome, *terms, *(_group(block) for block in whole.blocks)]


def _two_parts(formula: Formula, occurrence: Design, amount: Design) -> list[str]:
    """What is said of each part, and what is published of both."""
    y = expression_label(formula.response.expression)
    family = family_named(amount.cells.family)
    above, rows = amount.cells.n_rows, occurrence.cells.n_rows
    return [
        f"{y} has two parts, each with coefficients and group effects of its own: whether it is above zero, and how much where it is.",
        f"Occurrence: {y} > 0 happens or not, its probability on the logit scale ({above:,} of {rows:,} line items).",
        f"Amount: where {y} > 0, {family.words.amount} ({above:,} line items).",
        f"Published of both: the expected {y}, zeros included: the probability times the expected amount, averaged over the common mix.",
    ]


def outcome_label(formula: Formula) -> str:
    """The left-hand side as written."""
    response = formula.response
    label = expression_label(response.expression)
    return label if response.trials is None else f"p({label}, {expression_label(response.trials)})"


def _outcome(formula: Formula, cells: CellStatistics, family: str) -> str:
    words = family_named(family).words
    distribution = words.distribution
    if cells.has_moments:
        spread = "known standard errors" if cells.known_sigma else "one residual standard deviation"
        weighted = f", each row weighted by {formula.response.weights}" if formula.response.weights else ""
        distribution += f", with {spread}{weighted}"
    if words.single is not None and formula.response.trials is None:
        distribution = words.single
    return f"{outcome_label(formula)} {distribution}."


def _offset(formula: Formula, family: str) -> str:
    offsets = " + ".join(expression_label(expression) for expression in formula.offsets)
    scale = "the expectation" if family_named(family).link.is_linear else "the linear predictor"
    return f"{offsets} is added to {scale} with a coefficient of 1 (an offset)."


def _coefficient(column: DesignColumn, design: Design) -> str:
    if column.label == "Intercept":
        return "Intercept: the expectation where every other term is 0 (categories at their first level) and the group is an average one."
    levels = {block.factor.name: block.factor.n_levels for block in design.blocks}
    within = column.constant_within
    constant = f"constant within each {within}, so it is learned from {levels[within]} levels, not from the rows" if within else ""
    meanings = {
        "individual": "individual-level predictor: it varies between rows of the same group",
        "group_level": f"group-level predictor: {constant}",
        "within": "within-group effect: how the outcome goes with a row's difference from its group's mean",
        "between": f"between-group effect: how groups with a higher mean differ; {constant}",
        "contextual": f"contextual effect (between minus within): what the group's mean adds for rows with the same value; {constant}",
        "cross_level": "cross-level interaction: how the slope of a row-level predictor depends on a group-level one",
    }
    return f"{column.label}: {meanings[column.kind]}."


def _group(block: GroupBlock) -> str:
    factor, k = block.factor, len(block.columns)
    terms = [column.label for column in block.columns]
    nested = f", each inside one {factor.parent_name}" if factor.parent_name else ""
    if terms == ["Intercept"]:
        what = "The level of the outcome varies"
    elif k == 1:
        what = f"The coefficient of {terms[0]} varies"
    else:
        what = f"{', '.join(terms[:-1])} and {terms[-1]} vary, correlated with each other,"
    effects = f"{block.n_effects:,} effects, {k * (k + 1) // 2} variance parameter{'s' if k > 1 else ''}"
    return f"{what} by {factor.name} ({factor.n_levels:,} levels{nested}): {effects}, drawn towards the average as far as the data allow."
