"""The model in mathematics: likelihood, linear predictor, group-level distributions; as plain text, as LaTeX and as MathML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from multilevel.design.model import Design, DesignColumn, GroupBlock
from multilevel.families.notation import (
    ABOVE,
    APART,
    BETA,
    COMMA,
    DISTRIBUTED,
    DOTS,
    EQUALS,
    ETA,
    LEFT,
    LEVEL,
    MU,
    PLUS,
    QUAD,
    RIGHT,
    ROW,
    SIGMA,
    SIGMA_MATRIX,
    TAU,
    TIMES,
    ZERO,
    P,
    Written,
    Y,
    applied,
    at,
    call,
    join,
    level_of,
    number,
    over_root,
    symbol,
    text,
)
from multilevel.families.registry import family_named, two_part_named
from multilevel.families.two_part import TwoPart
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula

EFFECTS = "bcdfghkmqruvwxz"
"""Letters of the blocks' effects; beyond the last they repeat with primes."""

CONTINUED = '<mspace width="2em"/>'


@dataclass(frozen=True)
class Mathematics:
    """One line per statement, in each form; of MathML, a linear predictor goes on in a line for each block."""

    plain: tuple[str, ...]
    latex: tuple[str, ...]
    mathml: tuple[str, ...]

    @property
    def text(self) -> tuple[str, ...]:
        """What a terminal shows."""
        return self.plain


type Statement = tuple[Written, ...]
"""A statement in one or more pieces that belong to one line if there is room."""


def mathematics(formula: Formula, designs: Sequence[Design], family: str) -> Mathematics:
    """Write the model out; y is the left-hand side of the formula, i a row, and j[i] the level that row i belongs to.

    ``designs`` are those of the one part, or of occurrence and amount of the two-part ``family``.
    """
    both = two_part_named(family)
    if both is None:
        [design] = designs
        statements: Sequence[Statement] = [(_meaning(formula),), (_likelihood(formula, family),), *_of_one(formula, design)]
    else:
        statements = _of_two(formula, both, *designs)
    return Mathematics(
        tuple("".join(piece.plain for piece in pieces) for pieces in statements),
        tuple("".join(piece.latex for piece in pieces) for pieces in statements),
        tuple(
            f'<math display="inline"><mrow>{CONTINUED if place else ""}{piece.mathml}</mrow></math>'
            for pieces in statements
            for place, piece in enumerate(pieces)
        ),
    )


def _meaning(formula: Formula) -> Written:
    return symbol("y") + EQUALS + text(expression_label(formula.response.expression))


def _likelihood(formula: Formula, family: str) -> Written:
    response = formula.response
    if response.standard_error:
        own = at(symbol("s"), ROW)
        return Y + DISTRIBUTED + call("Normal", MU, own) + COMMA + own + EQUALS + text(response.standard_error)
    if response.weights:
        own = at(symbol("w"), ROW)
        return Y + DISTRIBUTED + call("Normal", MU, over_root(SIGMA, own)) + COMMA + own + EQUALS + text(response.weights)
    trials = number(1) if response.trials is None else text(expression_label(response.trials))
    return family_named(family).notation.outcome.filled(trials=trials)


def _of_one(formula: Formula, design: Design) -> list[Statement]:
    """The linear predictor and the distributions of the effects of one part."""
    return [_predictor(formula, design), *[(_distribution(index, block),) for index, block in enumerate(design.blocks)]]


def _of_two(formula: Formula, both: TwoPart, occurrence: Design, amount: Design) -> list[Statement]:
    """Both likelihoods, both linear predictors, the distributions of both parts' effects, and E y."""
    is_above = number(1) + Written("{", r"\{", "<mo>{</mo>") + Y + ABOVE + ZERO + Written("}", r"\}", "<mo>}</mo>")
    own = both.amount.notation.outcome
    amounts = applied("log", own, r"\log ") if both.log_amount else own
    return [
        (_meaning(formula),),
        (is_above + DISTRIBUTED + call("Bernoulli", P) + QUAD + applied("logit", P) + EQUALS + ETA,),
        *_of_one(formula, occurrence),
        (amounts + APART + text("where ") + Y + ABOVE + ZERO + text(",  with coefficients of its own:"),),
        *_of_one(formula, amount),
        (both.expected,),
    ]


def _predictor(formula: Formula, design: Design) -> Statement:
    """The linear predictor: the population's part, then a piece for each block."""
    population = [at(text(expression_label(offset)), ROW) for offset in formula.offsets]
    population += [_times(at(BETA, number(j)), column) for j, column in enumerate(design.population)]
    blocks = [list(_effects(index, block)) for index, block in enumerate(design.blocks)]
    if not population and blocks:
        population = blocks.pop(0)
    left = family_named(design.cells.family).notation.predictor + EQUALS
    return (left + join(population or [ZERO], PLUS), *[PLUS + join(block, PLUS) for block in blocks])


def _effects(index: int, block: GroupBlock) -> Iterator[Written]:
    for j, column in enumerate(block.columns):
        yield _times(at(_letter(index), number(j), level_of(block.factor.name)), column)


def _times(coefficient: Written, column: DesignColumn) -> Written:
    return coefficient if column.label == "Intercept" else coefficient + TIMES + at(text(column.label), ROW)


def _distribution(index: int, block: GroupBlock) -> Written:
    effects = [at(_letter(index), number(j), LEVEL) for j in range(len(block.columns))]
    levels = LEVEL + EQUALS + number(1) + DOTS + number(block.factor.n_levels) + text(" levels of ") + text(block.factor.name)
    if len(effects) == 1:
        return effects[0] + DISTRIBUTED + call("Normal", ZERO, at(TAU, number(index))) + QUAD + levels
    return LEFT + join(effects, COMMA) + RIGHT + DISTRIBUTED + call("Normal", ZERO, at(SIGMA_MATRIX, number(index))) + QUAD + levels


def _letter(index: int) -> Written:
    return symbol(EFFECTS[index % len(EFFECTS)] + "'" * (index // len(EFFECTS)))
