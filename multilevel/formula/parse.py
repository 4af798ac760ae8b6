"""Formula text to ``Formula``: the one way in. Nothing is evaluated as Python or as SQL."""

from __future__ import annotations

import re
from functools import lru_cache

from multilevel.formula.columns import standardised
from multilevel.formula.expressions import (
    calculation,
    call_expression,
    function_of,
    is_name,
    level_columns,
    name_of,
    position_of,
)
from multilevel.formula.grammar import Binary, Call, Grouping
from multilevel.formula.repeated_names import check_names
from multilevel.formula.syntax import Node, refusal, syntax_tree
from multilevel.formula.terms import Expansion, expand, expand_terms, ordered_terms, refuse_too_many, summands, total
from multilevel.formula.tree import Call as FunctionCall
from multilevel.formula.tree import Column, Expression, Formula, GroupTerm, Response


@lru_cache(maxsize=128)
def parse_formula(text: str) -> Formula:
    """Read a formula in lme4's language.

    Parameters
    ----------
    text : for example ``log(amount) ~ 1 + on_sale + (1 | income_group) + (1 + on_sale | department/category)``. Line breaks are spaces.

    Returns
    -------
    Formula
        ``*`` and ``/`` expanded, ``||`` split into one group term per term, ``a/b`` into the factors ``a`` and ``a:b``.

    Raises
    ------
    FormulaError
        If the text cannot be read, names a function that is not on the list, repeats a group term, or gives two things one
        name. The message says where.

    Source: Bates et al. (2015), section 2, for the group terms; Chambers and Hastie (1992), section 2.4, for the others.
    """
    flat = _one_line(text)
    root = syntax_tree(flat)
    population: list[tuple[int, Expansion]] = []
    offsets: list[Expression] = []
    groups: list[GroupTerm] = []
    n_terms = 0
    for sign, node in summands(root.right):
        if _is_group(node):
            _only_added(sign, node, flat)
            own = _group_terms(node, flat)
            groups.extend(own)
            n_terms += sum(len(group.terms) for group in own)
        elif function_of(node) == "offset":
            _only_added(sign, node, flat)
            offsets.append(_offset(node, flat))
        else:
            part = expand(node, flat)
            population.append((sign, part))
            n_terms += len(part.products)
        refuse_too_many(n_terms, flat)
    _refuse_repeats(groups, flat)
    formula = Formula(flat, _response(root.left, flat), ordered_terms(total(population, flat)), tuple(offsets), tuple(groups))
    check_names(formula)
    return formula


def _one_line(text: str) -> str:
    """White space as single spaces, but for that of a name in backquotes, which is the column's own."""
    parts = text.strip().split("`")
    return "`".join(part if inside % 2 else re.sub(r"\s+", " ", part) for inside, part in enumerate(parts))


def _is_group(node: Node) -> bool:
    return isinstance(node, Grouping) and isinstance(node.expression, Binary) and node.expression.operator.kind == "PIPE"


def _only_added(sign: int, node: Node, text: str) -> None:
    if sign < 0:
        raise refusal(text, position_of(node), "group terms and offsets can only be added, not taken away; leave it out instead")


def _group_terms(node: Grouping, text: str) -> list[GroupTerm]:
    bar = node.expression
    terms = expand_terms(bar.left, text)
    if not terms:
        raise refusal(text, int(bar.operator.position), "nothing varies by this group; write (1 | group) or (0 + x | group)")
    factors = _nested_factors(bar.right, text)
    split = [(term,) for term in terms] if bar.operator.lexeme == "||" else [terms]
    return [GroupTerm(part, columns) for columns in factors for part in split]


def _nested_factors(node: Node, text: str) -> list[tuple[str, ...]]:
    """``a/b/c`` to the factors ``a``, ``a:b`` and ``a:b:c``."""
    if isinstance(node, Grouping):
        return _nested_factors(node.expression, text)
    if isinstance(node, Binary) and node.operator.kind == "SLASH":
        outer = _nested_factors(node.left, text)
        inner = _nested_factors(node.right, text)
        return outer + [_distinct(outer[-1] + columns, node, text) for columns in inner]
    if isinstance(node, Binary) and node.operator.kind in {"PLUS", "STAR"}:
        raise refusal(text, int(node.operator.position), "a group term has one factor; write each apart: (1 | a) + (1 | b) + (1 | a:b)")
    return [_distinct(level_columns(node, text), node, text)]


def _distinct(columns: tuple[str, ...], node: Node, text: str) -> tuple[str, ...]:
    if len(set(columns)) < len(columns):
        raise refusal(text, position_of(node), f"the factor {':'.join(columns)} names a column twice")
    return columns


def _offset(node: Call, text: str) -> Expression:
    if len(node.args) != 1:
        raise refusal(text, position_of(node), "offset( ) takes one argument, for example offset(log(exposure))")
    return calculation(node.args[0], text)


def _refuse_repeats(groups: list[GroupTerm], text: str) -> None:
    seen: set[tuple[frozenset[str], str]] = set()
    for group in groups:
        for term in group.terms:
            key = (frozenset(group.columns), term.label)
            if key in seen:
                written = "1" if term.is_intercept else term.label
                raise refusal(
                    text,
                    None,
                    f"`{written}` varies by {group.name} twice, so the two cannot be told apart; keep one of them "
                    f"(a/b already stands for a and a:b, and (x | g) for (1 + x | g); to separate a slope write (0 + x | g))",
                )
            seen.add(key)


def _response(node: Node, text: str) -> Response:
    response = _read_response(node, text)
    for part in (response.expression, response.trials):
        if part is not None and standardised(part):
            raise refusal(
                text, position_of(node), "center( ) and scale( ) are for predictors and offsets; calculate such an outcome in line_items"
            )
    return response


def _read_response(node: Node, text: str) -> Response:
    if isinstance(node, Binary) and node.operator.kind == "PIPE":
        return _known_precision(node, text)
    function = function_of(node)
    if function == "p":
        if len(node.args) != 2:
            raise refusal(text, position_of(node), "p(successes, trials) takes two columns")
        return Response(calculation(node.args[0], text), trials=calculation(node.args[1], text))
    return Response(_outcome(node, text))


def _outcome(node: Node, text: str) -> Expression:
    if is_name(node):
        return Column(name_of(node))
    function = function_of(node)
    if function in {"log", "I"}:
        return call_expression(node, text)
    if function == "cbind":
        raise refusal(text, position_of(node), "write p(successes, trials); where R has cbind(a, b), trials is a + b")
    raise refusal(
        text,
        position_of(node),
        "the outcome is a column, log(column), I( ) or p(successes, trials); make any other in line_items",
    )


def _known_precision(node: Binary, text: str) -> Response:
    function = function_of(node.right)
    if function not in {"weights", "se"} or len(node.right.args) != 1 or not is_name(node.right.args[0]):
        raise refusal(text, int(node.operator.position), "after the outcome's | comes weights(column) or se(column)")
    column = name_of(node.right.args[0])
    outcome = _outcome(node.left, text)
    return Response(outcome, weights=column) if function == "weights" else Response(outcome, standard_error=column)


def is_log(expression: Expression) -> bool:
    """Whether an outcome is modelled on its logarithm."""
    return isinstance(expression, FunctionCall) and expression.function == "log"
