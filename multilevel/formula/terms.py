"""The algebra of terms: ``+ - : * /`` expanded as R does (Wilkinson and Rogers 1973; Chambers and Hastie 1992, section 2.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from multilevel.formula.expressions import factor_expression, position_of
from multilevel.formula.grammar import Binary, Grouping, Literal, Unary
from multilevel.formula.labels import expression_label, term_label
from multilevel.formula.repeated_names import alike
from multilevel.formula.syntax import Node, refusal
from multilevel.formula.tree import Expression, Term

type Product = tuple[tuple[str, Expression], ...]
"""Different factors, each with its label."""

MOST_TERMS = 1_000
"""Terms that a formula may stand for once ``*`` and ``/`` are expanded; nine names with ``*`` between them are 511."""


@dataclass(frozen=True)
class Expansion:
    """Products in the order written, the intercept apart (None where the formula does not say).

    ``order``: labels of all factors in the order of their first appearance in the text.
    """

    products: tuple[Product, ...] = ()
    intercept: bool | None = None
    order: tuple[str, ...] = ()


def expand_terms(node: Node, text: str) -> tuple[Term, ...]:
    """The terms of one side or of one group term, the intercept implied unless ``0 +`` or ``- 1`` takes it away.

    As in R, main effects come before interactions, and the factors of an interaction in the order in which they first appear.
    """
    return ordered_terms(expand(node, text))


def ordered_terms(expansion: Expansion) -> tuple[Term, ...]:
    """Expansion to terms: the intercept first, then by number of factors, then as written."""
    appearance = {label: place for place, label in enumerate(expansion.order)}
    sorted_products = [tuple(sorted(product, key=lambda factor: appearance[factor[0]])) for product in expansion.products]
    intercept: list[Product] = [()] if expansion.intercept in {None, True} else []
    products = [tuple(factor for _, factor in product) for product in intercept + sorted(sorted_products, key=len)]
    return tuple(Term(product, term_label(product)) for product in products)


def summands(node: Node) -> list[tuple[int, Node]]:
    """The parts of ``a + b - c``, each with its sign; a sum of a thousand terms is a thousand deep, so in a loop."""
    found: list[tuple[int, Node]] = []
    while isinstance(node, Binary) and node.operator.kind in {"PLUS", "MINUS"}:
        found.append((1 if node.operator.kind == "PLUS" else -1, node.right))
        node = node.left
    if isinstance(node, Unary):
        found.append((1 if node.operator.kind == "PLUS" else -1, node.right))
    else:
        found.append((1, node))
    return found[::-1]


def expand(node: Node, text: str) -> Expansion:
    """Expand a sum of terms (no group terms, no offsets: those are taken out before)."""
    if isinstance(node, Grouping):
        return expand(node.expression, text)
    if isinstance(node, Literal):
        return Expansion((), _intercept(node, text))
    if isinstance(node, Unary) or (isinstance(node, Binary) and node.operator.kind in {"PLUS", "MINUS"}):
        return total(((sign, expand(part, text)) for sign, part in summands(node)), text)
    if isinstance(node, Binary):
        return _binary(node, text)
    factor = factor_expression(node, text)
    label = expression_label(factor)
    return Expansion((((label, factor),),), order=(label,))


def total(parts: Iterable[tuple[int, Expansion]], text: str) -> Expansion:
    """``a + b - c``: what is there already is not added twice; ``- 1`` takes the intercept away, ``- 0`` gives it back.

    Raises
    ------
    FormulaError
        More than ``MOST_TERMS`` terms, found out before they are put together.
    """
    products: dict[frozenset[str], Product] = {}
    order: dict[str, None] = {}
    intercept: bool | None = None
    n_terms = 0
    for sign, part in parts:
        n_terms += len(part.products)
        refuse_too_many(n_terms, text)
        order |= dict.fromkeys(part.order)
        for product in part.products:
            if sign > 0:
                known = products.setdefault(_key(product), product)
                if known is not product:
                    _multiply(known, product, text)
            else:
                products.pop(_key(product), None)
        if part.intercept is not None:
            intercept = part.intercept if sign > 0 else not part.intercept
    return Expansion(tuple(products.values()), intercept, tuple(order))


def cross(left: Expansion, right: Expansion, text: str) -> Expansion:
    """``a : b``: every product of the left with every product of the right."""
    refuse_too_many(len(left.products) * len(right.products), text)
    products = {_key(product): product for product in (_multiply(a, b, text) for a in left.products for b in right.products)}
    return Expansion(tuple(products.values()), None, tuple(dict.fromkeys(left.order + right.order)))


def refuse_too_many(n_terms: int, text: str) -> None:
    """Raise FormulaError where a formula stands for more than ``MOST_TERMS`` terms."""
    if n_terms > MOST_TERMS:
        raise refusal(text, None, f"it stands for more than {MOST_TERMS:,} terms once * and / are expanded; write + for some of them")


def _binary(node: Binary, text: str) -> Expansion:
    kind = node.operator.kind
    if kind == "PIPE":
        raise refusal(text, position_of(node), "a group term is added to the formula in its own brackets: ... + (1 | group)")
    if kind == "STAR_STAR":
        raise refusal(text, position_of(node), "powers are arithmetic, so write I(x^2); for all interactions of a and b write a * b")
    if kind not in {"COLON", "STAR", "SLASH"}:
        raise refusal(text, int(node.operator.position), f"`{node.operator.lexeme}` is not an operator of the formula language")
    left, right = expand(node.left, text), expand(node.right, text)
    for side, expansion in ((node.left, left), (node.right, right)):
        if expansion.intercept is not None or not expansion.products:
            place = position_of(side)
            raise refusal(text, node.operator.position if place is None else place, "numbers cannot be part of a product; write I(x * 2)")
    if kind == "COLON":
        return cross(left, right, text)
    if kind == "STAR":
        return total(((1, left), (1, right), (1, cross(left, right, text))), text)
    everything: Product = ()
    for product in left.products:
        everything = _multiply(everything, product, text)
    return total(((1, left), (1, cross(Expansion((everything,), order=left.order), right, text))), text)


def _intercept(node: Literal, text: str) -> bool:
    if isinstance(node.value, float) and node.value in {0.0, 1.0}:
        return bool(node.value)
    raise refusal(
        text, None, f"the number {node.value:g} is not a term; only 1 (the intercept) and 0 (none) are, arithmetic goes inside I( )"
    )


def _multiply(left: Product, right: Product, text: str) -> Product:
    """The factors of both, each once; refused where one label stands for two, as `log(x)` for a column of that name."""
    factors = dict(left)
    for label, factor in right:
        if factors.setdefault(label, factor) != factor:
            raise alike(text, "predictors", label, (factors[label],), (factor,))
    return tuple(factors.items())


def _key(product: Product) -> frozenset[str]:
    return frozenset(label for label, _ in product)
