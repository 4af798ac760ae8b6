"""The algebra of terms: ``+ - : * /`` expanded as R does (Wilkinson and Rogers 1973; Chambers and Hastie 1992, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

from formulae.expr import Binary, Grouping, Literal, Unary

from multilevel.formula.expressions import factor_expression, position_of
from multilevel.formula.labels import expression_label, term_label
from multilevel.formula.names import check_factors
from multilevel.formula.syntax import Node, refusal
from multilevel.formula.tree import Expression, Term

type Product = tuple[Expression, ...]


@dataclass(frozen=True)
class Expansion:
    """Products in the order written, the intercept apart (None where the formula does not say).

    ``order``: labels of all factors in the order of their first appearance in the text; ``factors``: the factors themselves, which may be
    more than there are labels.
    """

    products: tuple[Product, ...] = ()
    intercept: bool | None = None
    order: tuple[str, ...] = ()
    factors: tuple[Expression, ...] = ()


def expand_terms(node: Node, text: str) -> tuple[Term, ...]:
    """The terms of one side or of one group term, the intercept implied unless ``0 +`` or ``- 1`` takes it away.

    As in R, main effects come before interactions, and the factors of an interaction in the order in which they first appear.
    """
    expansion = expand(node, text)
    check_factors(text, expansion.factors)
    return ordered_terms(expansion)


def ordered_terms(expansion: Expansion) -> tuple[Term, ...]:
    """Expansion to terms: the intercept first, then by number of factors, then as written."""
    appearance = {label: place for place, label in enumerate(expansion.order)}
    sorted_products = [tuple(sorted(product, key=lambda factor: appearance[expression_label(factor)])) for product in expansion.products]
    intercept: list[Product] = [()] if expansion.intercept in {None, True} else []
    products = intercept + sorted(sorted_products, key=len)
    return tuple(Term(product, term_label(product)) for product in products)


def expand(node: Node, text: str) -> Expansion:
    """Expand a sum of terms (no group terms, no offsets: those are taken out before)."""
    if isinstance(node, Grouping):
        return expand(node.expression, text)
    if isinstance(node, Literal):
        return Expansion((), _intercept(node, text))
    if isinstance(node, Unary):
        removed = expand(node.right, text)
        return removed if node.operator.kind == "PLUS" else subtract(Expansion(), removed)
    if isinstance(node, Binary):
        return _binary(node, text)
    factor = factor_expression(node, text)
    return Expansion(((factor,),), order=(expression_label(factor),), factors=(factor,))


def add(left: Expansion, right: Expansion) -> Expansion:
    """``a + b``: what is there already is not added twice."""
    intercept = left.intercept if right.intercept is None else right.intercept
    return Expansion(_union(left.products, right.products), intercept, _in_order(left, right), _all_factors(left, right))


def subtract(left: Expansion, right: Expansion) -> Expansion:
    """``a - b``: ``- 1`` takes the intercept away, ``- 0`` gives it back."""
    gone = {_key(product) for product in right.products}
    intercept = left.intercept if right.intercept is None else not right.intercept
    return Expansion(
        tuple(product for product in left.products if _key(product) not in gone),
        intercept,
        _in_order(left, right),
        _all_factors(left, right),
    )


def cross(left: Expansion, right: Expansion) -> Expansion:
    """``a : b``: every product of the left with every product of the right."""
    return Expansion(
        _union((), tuple(_multiply(a, b) for a in left.products for b in right.products)),
        None,
        _in_order(left, right),
        _all_factors(left, right),
    )


def _binary(node: Binary, text: str) -> Expansion:
    kind = node.operator.kind
    if kind == "PIPE":
        raise refusal(text, position_of(node), "a group term is added to the formula in its own brackets: ... + (1 | group)")
    if kind == "STAR_STAR":
        raise refusal(text, position_of(node), "powers are arithmetic, so write I(x^2); for all interactions of a and b write a * b")
    if kind not in {"PLUS", "MINUS", "COLON", "STAR", "SLASH"}:
        raise refusal(text, int(node.operator.position), f"`{node.operator.lexeme}` is not an operator of the formula language")
    left, right = expand(node.left, text), expand(node.right, text)
    if kind == "PLUS":
        return add(left, right)
    if kind == "MINUS":
        return subtract(left, right)
    for side, expansion in ((node.left, left), (node.right, right)):
        if expansion.intercept is not None or not expansion.products:
            place = position_of(side)
            raise refusal(text, node.operator.position if place is None else place, "numbers cannot be part of a product; write I(x * 2)")
    if kind == "COLON":
        return cross(left, right)
    if kind == "STAR":
        return add(add(left, right), cross(left, right))
    everything: Product = ()
    for product in left.products:
        everything = _multiply(everything, product)
    return add(left, cross(Expansion((everything,)), right))


def _intercept(node: Literal, text: str) -> bool:
    if isinstance(node.value, float) and node.value in {0.0, 1.0}:
        return bool(node.value)
    raise refusal(
        text, None, f"the number {node.value:g} is not a term; only 1 (the intercept) and 0 (none) are, arithmetic goes inside I( )"
    )


def _multiply(left: Product, right: Product) -> Product:
    return tuple({expression_label(factor): factor for factor in (*left, *right)}.values())


def _union(left: tuple[Product, ...], right: tuple[Product, ...]) -> tuple[Product, ...]:
    merged: dict[frozenset[str], Product] = {}
    for product in (*left, *right):
        merged.setdefault(_key(product), product)
    return tuple(merged.values())


def _in_order(left: Expansion, right: Expansion) -> tuple[str, ...]:
    return tuple(dict.fromkeys(left.order + right.order))


def _all_factors(left: Expansion, right: Expansion) -> tuple[Expression, ...]:
    return tuple(dict.fromkeys(left.factors + right.factors))


def _key(product: Product) -> frozenset[str]:
    return frozenset(expression_label(factor) for factor in product)
