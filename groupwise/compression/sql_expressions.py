"""Formula expressions as DuckDB SQL: identifiers quoted, numbers as doubles, nothing of the user's text passed through."""

from __future__ import annotations

from collections.abc import Mapping

from groupwise.source.relation import quote
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Call, Column, Expression, Number, Operation

TABLE = "study"
"""Name of the study's rows in every query; columns are qualified with it, so that no alias of ours can take their place."""

FUNCTIONS = {"log": "ln", "exp": "exp", "sqrt": "sqrt"}


def double(value: float) -> str:
    """A number as a double literal (without an exponent DuckDB would read a decimal)."""
    text = repr(float(value))
    return f"({text})" if "e" in text else f"({text}e0)"


def as_sql(expression: Expression, moments: Mapping[str, tuple[float, float]], known: Mapping[Expression, str] | None = None) -> str:
    """A numeric expression as SQL of type double.

    Parameters
    ----------
    expression : any but ``C()``.
    moments : label inside ``center()`` or ``scale()`` -> (mean, sd), as in ``Schema``.
    known : expressions that are columns of the query already -> their SQL.
    """
    known = known or {}

    def write(part: Expression) -> str:
        if part in known:
            return known[part]
        match part:
            case Column(name):
                return f"cast({TABLE}.{quote(name)} as double)"
            case Number(value):
                return double(value)
            case Operation(operator, operands):
                return _operation(operator, [write(operand) for operand in operands])
            case Call(function, arguments):
                return call(function, arguments)

    def call(function: str, arguments: tuple[Expression, ...]) -> str:
        value = write(arguments[0])
        if function == "bin":
            width = write(arguments[1])
            return f"((floor({value} / {width}) + 0.5e0) * {width})"
        if function == "within":
            return f"({value} - {write(Call('between', arguments))})"
        if function in {"center", "scale"}:
            mean, sd = moments[expression_label(arguments[0])]
            return f"({value} - {double(mean)})" if function == "center" else f"(({value} - {double(mean)}) / {double(sd)})"
        return f"({value})" if function == "I" else f"{FUNCTIONS[function]}({value})"

    return write(expression)


def counted(expression: Expression, moments: Mapping[str, tuple[float, float]], known: Mapping[Expression, str] | None = None) -> str:
    """A number of successes: one that is calculated (a proportion times its trials) is rounded to the whole number that it stands for."""
    value = as_sql(expression, moments, known)
    return value if isinstance(expression, Column) else f"round({value})"


def _operation(operator: str, operands: list[str]) -> str:
    if operator == "**":
        return f"pow({operands[0]}, {operands[1]})"
    return f"({operator}{operands[0]})" if len(operands) == 1 else f"({operands[0]} {operator} {operands[1]})"
