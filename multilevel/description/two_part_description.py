"""A two-part model in words and in mathematics: what is said of each part, and what is published of both."""

from __future__ import annotations

from multilevel.description.mathematics import Mathematics, mathematics
from multilevel.description.model_description import describe
from multilevel.design.model import Design
from multilevel.families.registry import family_named
from multilevel.families.two_part import TwoPart
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula


def two_part_words(formula: Formula, occurrence: Design, amount: Design) -> list[str]:
    """Sentences on the two parts and how they are put together, then those that both parts' terms share."""
    y = expression_label(formula.response.expression)
    family = family_named(amount.cells.family)
    above, rows = amount.cells.n_rows, occurrence.cells.n_rows
    return [
        f"{y} has two parts, each with coefficients and group effects of its own: whether it is above zero, and how much where it is.",
        f"Occurrence: {y} > 0 happens or not, its probability on the logit scale ({above:,} of {rows:,} line items).",
        f"Amount: where {y} > 0, {family.words.amount} ({above:,} line items).",
        f"Published of both: the expected {y}, zeros included: the probability times the expected amount, averaged over the common mix.",
        *describe(formula, occurrence, occurrence.cells.family)[1:],
    ]


def two_part_mathematics(formula: Formula, both: TwoPart, occurrence: Design, amount: Design) -> Mathematics:
    """Both likelihoods, both linear predictors, the distributions of both parts' effects, and E y."""
    first, second = (mathematics(formula, design, design.cells.family) for design in (occurrence, amount))
    log, log_latex = ("log ", r"\log ") if both.log_amount else ("", "")
    notation = both.amount.notation
    plain = [
        first.plain[0],
        "1{y[i] > 0} ~ Bernoulli(p[i]),  logit p[i] = η[i]",
        *first.plain[2:],
        f"{log}{notation.plain}  where y[i] > 0,  with coefficients of its own:",
        *second.plain[2:],
        both.expected,
    ]
    latex = [
        first.latex[0],
        r"1\{y_i > 0\} \sim \mathrm{Bernoulli}(p_i), \quad \mathrm{logit}\, p_i = \eta_i",
        *first.latex[2:],
        log_latex + notation.latex + r" \quad \text{where } y_i > 0",
        *second.latex[2:],
        both.expected_latex,
    ]
    return Mathematics(tuple(plain), tuple(latex))
