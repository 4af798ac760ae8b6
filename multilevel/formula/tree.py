"""What a formula says, before any data is seen: expressions, terms, group terms.

A formula is parsed into these frozen values once (``multilevel.formula.parse``) and only ever read afterwards: the design, the SQL
and the words of ``groupwise plan`` all come from here. Nothing in them is evaluated as Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Column:
    """A column of the line items, by name."""

    name: str


@dataclass(frozen=True)
class Number:
    """A numeric literal."""

    value: float


@dataclass(frozen=True)
class Call:
    """A function of the list ``log exp sqrt I C center scale bin within between``, applied to expressions."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Operation:
    """Arithmetic inside ``I()``: unary or binary ``+ - * / **``."""

    operator: Literal["+", "-", "*", "/", "**"]
    operands: tuple[Expression, ...]


type Expression = Column | Number | Call | Operation


@dataclass(frozen=True)
class Term:
    """A product of expressions; the empty product is the intercept. ``label`` is how tables write it (``x:size``)."""

    factors: tuple[Expression, ...]
    label: str

    @property
    def is_intercept(self) -> bool:
        """Whether this is the constant term."""
        return not self.factors


@dataclass(frozen=True)
class GroupTerm:
    """``(terms | factor)``: coefficients that vary by the levels of a factor, correlated among each other.

    ``||`` is already split into one group term per term. ``columns`` holds the columns whose combination names a level, outermost
    first; ``name`` joins them with colons, so ``(1 | department/category)`` gives ``department`` and ``department:category``.
    """

    terms: tuple[Term, ...]
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """The grouping factor as the tables write it."""
        return ":".join(self.columns)


@dataclass(frozen=True)
class Response:
    """The left-hand side: ``y``, ``log(y)``, ``p(successes, trials)``; known precisions as ``y | weights(w)``, ``y | se(s)``."""

    expression: Expression
    trials: Expression | None = None
    weights: str | None = None
    standard_error: str | None = None


@dataclass(frozen=True)
class Formula:
    """A parsed formula: response, population-level terms (``*`` expanded), offsets and group terms, in the order written."""

    text: str
    response: Response
    population: tuple[Term, ...]
    offsets: tuple[Expression, ...]
    groups: tuple[GroupTerm, ...]
