"""How an expression or a term is written in tables: ``x``, ``log(x)``, ``I(x^2)``, ``x:size``."""

from __future__ import annotations

from multilevel.formula.tree import Call, Column, Expression, Number, Operation

PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "negative": 3, "**": 4}
SPACED = {"+": " + ", "-": " - ", "*": " * ", "/": "/", "**": "^"}


def expression_label(expression: Expression) -> str:
    """The expression as R would deparse it, names without backquotes."""
    return _write(expression, 0)


def term_label(factors: tuple[Expression, ...]) -> str:
    """``Intercept`` for the empty product, else the factors joined by colons."""
    return ":".join(expression_label(factor) for factor in factors) or "Intercept"


def number_label(value: float) -> str:
    """A number without a needless fraction."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _write(expression: Expression, outer: int) -> str:
    match expression:
        case Column(name):
            return name
        case Number(value):
            return number_label(value)
        case Call(function, arguments):
            return f"{function}({_arguments(function, arguments)})"
        case Operation(operator, operands):
            return _write_operation(operator, operands, outer)


def _arguments(function: str, arguments: tuple[Expression, ...]) -> str:
    if function in {"within", "between"}:
        return f"{expression_label(arguments[0])}, {':'.join(expression_label(a) for a in arguments[1:])}"
    return ", ".join(expression_label(argument) for argument in arguments)


def _write_operation(operator: str, operands: tuple[Expression, ...], outer: int) -> str:
    level = PRECEDENCE["negative" if len(operands) == 1 else operator]
    if len(operands) == 1:
        text = operator + _write(operands[0], level)
    else:
        # powers group to the right, the others to the left: the other side needs brackets at equal precedence
        left, right = (level + 1, level) if operator == "**" else (level, level + 1)
        text = _write(operands[0], left) + SPACED[operator] + _write(operands[1], right)
    return f"({text})" if level < outer else text
