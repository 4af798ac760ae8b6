"""Syntax nodes to expressions: columns, numbers, arithmetic and the functions of the list, with their arguments checked."""

from __future__ import annotations

from multilevel.formula import tree
from multilevel.formula.grammar import Binary, Call, Grouping, Literal, QuotedName, Unary, Variable
from multilevel.formula.syntax import Node, refusal

FUNCTIONS = ("log", "exp", "sqrt", "I", "C", "center", "scale", "bin", "within", "between")
STANDALONE = {"C", "within", "between"}
"""These make a predictor of their own and cannot be part of a calculation."""

OPERATORS = {"PLUS": "+", "MINUS": "-", "STAR": "*", "SLASH": "/", "STAR_STAR": "**"}

SUGGESTIONS = {
    "cbind": "for counts already added up write p(successes, trials); where R has cbind(a, b), trials is a + b",
    "poly": "write x + I(x^2) instead, or center(x) + I((x - 10)^2) with a number of your choice",
    "factor": "write C(x)",
    "as.factor": "write C(x)",
    "ns": "splines are not supported; write bin(x, width) with C( ) around it, or I(x^2)",
    "bs": "splines are not supported; write bin(x, width) with C( ) around it, or I(x^2)",
    "s": "smooth terms are not supported; write C(bin(x, width)), or I(x^2)",
    "cut": "write C(bin(x, width))",
    "log10": "write I(log(x)/2.302585092994046)",
    "log2": "write I(log(x)/0.6931471805599453)",
    "log1p": "write log(x + 1)",
    "mean": "for the mean of x in each level of g write between(x, g)",
    "p": "p(successes, trials) belongs on the left of the ~",
    "weights": "weights(w) belongs to the outcome: y | weights(w) ~ ...",
    "se": "se(s) belongs to the outcome: y | se(s) ~ ...",
    "offset": "offset( ) stands alone as a term: ... + offset(log(exposure))",
}


def position_of(node: Node) -> int | None:
    """Where a node begins in the text, as far as its tokens tell."""
    fallback: int | None = None
    while True:
        if isinstance(node, Variable):
            return int(node.name.position)
        if isinstance(node, QuotedName):
            return int(node.expression.position)
        if isinstance(node, Unary):
            return int(node.operator.position)
        if isinstance(node, Call | Grouping):
            node = node.callee if isinstance(node, Call) else node.expression
        elif isinstance(node, Binary):
            node, fallback = node.left, int(node.operator.position)
        else:
            return fallback


def is_name(node: Node) -> bool:
    """Whether the node is a plain or backquoted column name."""
    return isinstance(node, Variable | QuotedName)


def name_of(node: Node) -> str:
    """The column name of a node for which ``is_name`` holds."""
    return str(node.name.lexeme) if isinstance(node, Variable) else str(node.expression.lexeme[1:-1])


def function_of(node: Node) -> str | None:
    """The function's name if the node is a call of a plain name, else None."""
    return str(node.callee.name.lexeme) if isinstance(node, Call) and isinstance(node.callee, Variable) else None


def factor_expression(node: Node, text: str) -> tree.Expression:
    """One factor of a term: a column or a call; arithmetic needs ``I()``."""
    if is_name(node):
        return tree.Column(name_of(node))
    if isinstance(node, Call):
        return call_expression(node, text)
    raise refusal(text, position_of(node), "arithmetic must be written inside I( ), for example I(x^2) or I(x/10)")


def call_expression(node: Node, text: str) -> tree.Call:
    """A call of one of ``FUNCTIONS``, arguments checked.

    Raises
    ------
    FormulaError
        For any other function, or wrong arguments.
    """
    function = function_of(node)
    if function is None:
        raise refusal(text, position_of(node), "only a function can stand before these brackets; an operator (+ - : * /) may be missing")
    if function not in FUNCTIONS:
        hint = f"; {SUGGESTIONS[function]}" if function in SUGGESTIONS else ""
        raise refusal(text, position_of(node), f"`{function}` is not one of the functions {', '.join(FUNCTIONS)}{hint}")
    if function in {"within", "between"}:
        return _level_mean(function, node, text)
    expected = 2 if function == "bin" else 1
    if len(node.args) != expected:
        _refuse_count(function, expected, node, text)
    if function == "bin":
        return tree.Call("bin", (calculation(node.args[0], text), _width(node, text)))
    return tree.Call(function, (calculation(node.args[0], text),))


def calculation(node: Node, text: str) -> tree.Expression:
    """An expression inside a function: columns, numbers, ``+ - * / ^`` and the functions that calculate."""
    if isinstance(node, Grouping):
        return calculation(node.expression, text)
    if isinstance(node, Literal):
        return tree.Number(float(node.value))
    if isinstance(node, Unary):
        return tree.Operation("-" if node.operator.kind == "MINUS" else "+", (calculation(node.right, text),))
    if isinstance(node, Binary):
        if node.operator.kind not in OPERATORS:
            raise refusal(text, int(node.operator.position), f"`{node.operator.lexeme}` has no meaning inside a function")
        return tree.Operation(OPERATORS[node.operator.kind], (calculation(node.left, text), calculation(node.right, text)))  # type: ignore[arg-type]
    if isinstance(node, Call) and function_of(node) in STANDALONE:
        raise refusal(text, position_of(node), f"{function_of(node)}( ) makes a predictor of its own and cannot be part of a calculation")
    return factor_expression(node, text)


def _level_mean(function: str, node: Node, text: str) -> tree.Call:
    if len(node.args) != 2:
        raise refusal(text, position_of(node), f"{function}(x, g) takes a number and the grouping column whose level means are meant")
    return tree.Call(function, (calculation(node.args[0], text), *(tree.Column(name) for name in level_columns(node.args[1], text))))


def level_columns(node: Node, text: str) -> tuple[str, ...]:
    """Columns that together name a level: ``g`` or ``a:b``."""
    if isinstance(node, Grouping):
        return level_columns(node.expression, text)
    if isinstance(node, Binary) and node.operator.kind == "COLON":
        return level_columns(node.left, text) + level_columns(node.right, text)
    if is_name(node):
        return (name_of(node),)
    function = function_of(node)
    if function is not None:
        raise refusal(
            text,
            position_of(node),
            f"levels are named by columns, not by {function}( ); any column may group, so name it alone or make one in line_items",
        )
    raise refusal(text, position_of(node), "levels are named by columns: g, a:b or a/b")


def _width(node: Node, text: str) -> tree.Number:
    width = node.args[1]
    if not (isinstance(width, Literal) and float(width.value) > 0):
        raise refusal(text, position_of(node), "bin(x, width) needs a positive number as its width, for example bin(age, 10)")
    return tree.Number(float(width.value))


def _refuse_count(function: str, expected: int, node: Node, text: str) -> None:
    takes = "a column and a width, for example bin(age, 10)" if expected == 2 else "one argument"
    raise refusal(text, position_of(node), f"{function}( ) takes {takes}, not {len(node.args)} arguments")
