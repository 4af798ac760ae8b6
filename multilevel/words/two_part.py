"""A two-part model in words and in mathematics: what is said of each part, and what is published of both."""

from __future__ import annotations

from multilevel.design.hurdle import AMOUNT_FAMILY
from multilevel.design.model import Design
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula
from multilevel.words.mathematics import Mathematics, mathematics
from multilevel.words.model import describe

_AMOUNT_WORDS = {
    "hurdle_lognormal": "its logarithm is normally distributed around its expectation, with one residual standard deviation",
    "hurdle_gamma": "it has a gamma distribution, its expectation on the log scale",
}
_AMOUNT_PLAIN = {
    "hurdle_lognormal": "log y[i] ~ Normal(μ[i], σ)  where y[i] > 0",
    "hurdle_gamma": "y[i] ~ Gamma(mean exp η[i], shape α)  where y[i] > 0",
}
_AMOUNT_LATEX = {
    "hurdle_lognormal": r"\log y_i \sim \mathrm{Normal}(\mu_i, \sigma) \quad \text{where } y_i > 0",
    "hurdle_gamma": r"y_i \sim \mathrm{Gamma}(\text{mean } \exp \eta_i, \text{shape } \alpha) \quad \text{where } y_i > 0",
}
_EXPECTED_PLAIN = {
    "hurdle_lognormal": "E y[i] = p[i] · exp(μ[i] + σ²/2), published with a σ of each level",
    "hurdle_gamma": "E y[i] = p[i] · exp η[i]",
}
_EXPECTED_LATEX = {
    "hurdle_lognormal": r"\mathrm{E}\, y_i = p_i \exp(\mu_i + \sigma^2 / 2)",
    "hurdle_gamma": r"\mathrm{E}\, y_i = p_i \exp \eta_i",
}


def two_part_words(formula: Formula, family: str, occurrence: Design, amount: Design) -> list[str]:
    """Sentences on the two parts and how they are put together, then those that both parts' terms share."""
    y = expression_label(formula.response.expression)
    above, rows = amount.cells.n_rows, occurrence.cells.n_rows
    return [
        f"{y} has two parts, each with coefficients and group effects of its own: whether it is above zero, and how much where it is.",
        f"Occurrence: {y} > 0 happens or not, its probability on the logit scale ({above:,} of {rows:,} line items).",
        f"Amount: where {y} > 0, {_AMOUNT_WORDS[family]} ({above:,} line items).",
        f"Published of both: the expected {y}, zeros included: the probability times the expected amount, averaged over the common mix.",
        *describe(formula, occurrence, "binomial")[1:],
    ]


def two_part_mathematics(formula: Formula, family: str, occurrence: Design, amount: Design) -> Mathematics:
    """Both likelihoods, both linear predictors, the distributions of both parts' effects, and E y."""
    first, second = mathematics(formula, occurrence, "binomial"), mathematics(formula, amount, AMOUNT_FAMILY[family])
    plain = [
        first.plain[0],
        "1{y[i] > 0} ~ Bernoulli(p[i]),  logit p[i] = η[i]",
        *first.plain[2:],
        _AMOUNT_PLAIN[family] + ",  with coefficients of its own:",
        *second.plain[2:],
        _EXPECTED_PLAIN[family],
    ]
    latex = [
        first.latex[0],
        r"1\{y_i > 0\} \sim \mathrm{Bernoulli}(p_i), \quad \mathrm{logit}\, p_i = \eta_i",
        *first.latex[2:],
        _AMOUNT_LATEX[family],
        *second.latex[2:],
        _EXPECTED_LATEX[family],
    ]
    return Mathematics(tuple(plain), tuple(latex))
