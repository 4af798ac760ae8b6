"""The model in mathematics, as plain text and as LaTeX: likelihood, linear predictor, group-level distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multilevel.design.model import Design, DesignColumn, GroupBlock
from multilevel.families.registry import family_named, two_part_named
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula

if TYPE_CHECKING:
    from multilevel.families.two_part import TwoPart

KNOWN = "y[i] ~ Normal(μ[i], s[i]), s[i] = {known}"
KNOWN_LATEX = r"y_i \sim \mathrm{Normal}(\mu_i, s_i), \quad s_i = {known}"
WEIGHTED = "y[i] ~ Normal(μ[i], σ / √w[i]), w[i] = {known}"
WEIGHTED_LATEX = r"y_i \sim \mathrm{Normal}(\mu_i, \sigma / \sqrt{w_i}), \quad w_i = {known}"


@dataclass(frozen=True)
class Mathematics:
    """One line per statement, as plain text and as LaTeX."""

    plain: tuple[str, ...]
    latex: tuple[str, ...]

    @property
    def text(self) -> tuple[str, ...]:
        """What a terminal shows."""
        return self.plain


def mathematics(formula: Formula, designs: Sequence[Design], family: str) -> Mathematics:
    """Write the model out; y is the left-hand side of the formula, i a row, and j[i] the level that row i belongs to.

    ``designs`` are those of the one part, or of occurrence and amount of the two-part ``family``.
    """
    both = two_part_named(family)
    if both is None:
        [design] = designs
        return _of_one(formula, design, family)
    occurrence, amount = designs
    return _of_two(formula, both, occurrence, amount)


def _of_one(formula: Formula, design: Design, family: str) -> Mathematics:
    notation = family_named(family).notation
    likelihood, in_latex = notation.plain, notation.latex
    if formula.response.standard_error:
        likelihood, in_latex = KNOWN, KNOWN_LATEX
    elif formula.response.weights:
        likelihood, in_latex = WEIGHTED, WEIGHTED_LATEX
    known = formula.response.standard_error or formula.response.weights or ""
    trials = "1" if formula.response.trials is None else expression_label(formula.response.trials)
    plain = [f"y = {expression_label(formula.response.expression)}", _fill(likelihood, known, trials)]
    latex = [rf"y = {_text(expression_label(formula.response.expression))}", _fill(in_latex, _text(known), _text(trials))]
    plain.append(_predictor(formula, design, family))
    latex.append(_predictor_latex(formula, design, family))
    for index, block in enumerate(design.blocks):
        plain.append(_distribution(index, block))
        latex.append(_distribution_latex(index, block))
    return Mathematics(tuple(plain), tuple(latex))


def _of_two(formula: Formula, both: TwoPart, occurrence: Design, amount: Design) -> Mathematics:
    """Both likelihoods, both linear predictors, the distributions of both parts' effects, and E y."""
    first, second = (_of_one(formula, design, design.cells.family) for design in (occurrence, amount))
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


def _fill(template: str, known: str, trials: str) -> str:
    return template.replace("{known}", known).replace("{trials}", trials)


def _predictor(formula: Formula, design: Design, family: str) -> str:
    left = family_named(family).notation.predictor
    terms = [expression_label(offset) + "[i]" for offset in formula.offsets]
    terms += [f"β{_sub(j)}" + _times(column) for j, column in enumerate(design.population)]
    for index, block in enumerate(design.blocks):
        terms += [f"{_effect(index)}{_sub(j)}[{block.factor.name}[i]]" + _times(c) for j, c in enumerate(block.columns)]
    return f"{left} = " + (" + ".join(terms) or "0")


def _predictor_latex(formula: Formula, design: Design, family: str) -> str:
    left = family_named(family).notation.latex_predictor
    terms = [rf"{_text(expression_label(offset))}_i" for offset in formula.offsets]
    terms += [rf"\beta_{{{j}}}" + _times_latex(column) for j, column in enumerate(design.population)]
    for index, block in enumerate(design.blocks):
        level = rf"{_text(block.factor.name)}[i]"
        terms += [rf"{_effect(index)}_{{{j},\,{level}}}" + _times_latex(c) for j, c in enumerate(block.columns)]
    return f"{left} = " + (" + ".join(terms) or "0")


def _distribution(index: int, block: GroupBlock) -> str:
    letter, name = _effect(index), block.factor.name
    if len(block.columns) == 1:
        return f"{letter}₀[j] ~ Normal(0, τ{_sub(index)}),  j = 1 … {block.factor.n_levels} levels of {name}"
    effects = ", ".join(f"{letter}{_sub(j)}[j]" for j in range(len(block.columns)))
    return f"({effects}) ~ Normal(0, Σ{_sub(index)}),  j = 1 … {block.factor.n_levels} levels of {name}"


def _distribution_latex(index: int, block: GroupBlock) -> str:
    letter = _effect(index)
    levels = rf"j = 1, \dots, {block.factor.n_levels} \text{{ levels of }} {_text(block.factor.name)}"
    if len(block.columns) == 1:
        return rf"{letter}_{{0,j}} \sim \mathrm{{Normal}}(0, \tau_{{{index}}}), \quad {levels}"
    effects = ", ".join(rf"{letter}_{{{j}j}}" for j in range(len(block.columns)))
    return rf"({effects}) \sim \mathrm{{Normal}}(0, \Sigma_{{{index}}}), \quad {levels}"


def _effect(index: int) -> str:
    """b, c, d ... for the blocks; beyond z the letters repeat with primes."""
    letters = "bcdfghkmqruvwxz"
    return letters[index % len(letters)] + "'" * (index // len(letters))


def _times(column: DesignColumn) -> str:
    return "" if column.label == "Intercept" else f" · {column.label}[i]"


def _times_latex(column: DesignColumn) -> str:
    return "" if column.label == "Intercept" else rf" \cdot {_text(column.label)}_i"


def _sub(number: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(number))


def _text(label: str) -> str:
    """A label as upright text, LaTeX's special characters escaped."""
    special = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"} | {c: "\\" + c for c in "#$%&_{}"}
    return rf"\text{{{''.join(special.get(char, char) for char in label)}}}"
