"""Formulas in lme4's language: what they mean, and what is refused with which words."""

import pytest

from multilevel.errors import FormulaError
from multilevel.formula.columns import formula_columns
from multilevel.formula.parse import parse_formula
from multilevel.formula.tree import Call, Column, Number, Operation, Response


def terms(text: str) -> list[str]:
    return [term.label for term in parse_formula(text).population]


def groups(text: str) -> list[tuple[list[str], str]]:
    return [([term.label for term in group.terms], group.name) for group in parse_formula(text).groups]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y ~ 1", ["Intercept"]),
        ("y ~ x", ["Intercept", "x"]),
        ("y ~ 0 + x", ["x"]),
        ("y ~ x - 1", ["x"]),
        ("y ~ -1 + x", ["x"]),
        ("y ~ 0 + x + 1", ["Intercept", "x"]),
        ("y ~ a * b", ["Intercept", "a", "b", "a:b"]),
        ("y ~ a / b", ["Intercept", "a", "a:b"]),
        ("y ~ a / b / c", ["Intercept", "a", "a:b", "a:b:c"]),
        ("y ~ (a + b) : c", ["Intercept", "a:c", "b:c"]),
        ("y ~ (a + b) / c", ["Intercept", "a", "b", "a:b:c"]),
        ("y ~ a * b * c - a:b:c", ["Intercept", "a", "b", "c", "a:b", "a:c", "b:c"]),
        ("y ~ a:b + a", ["Intercept", "a", "a:b"]),
        ("y ~ b + b:a + a:b + b", ["Intercept", "b", "b:a"]),
        ("y ~ a + a:a", ["Intercept", "a"]),
        ("y ~ I(x^2) + I(x**2)", ["Intercept", "I(x^2)"]),
        ("y ~ I(-x^2 / (3 - 1))", ["Intercept", "I(-x^2/(3 - 1))"]),
        ("y ~ I((a - b) - c) + I(a - (b - c))", ["Intercept", "I(a - b - c)", "I(a - (b - c))"]),
        ("y ~ log(x + 0.5) + log(I(x + 0.5))", ["Intercept", "log(x + 0.5)", "log(I(x + 0.5))"]),
        ("y ~ center(x) + scale(x) + bin(x, 1e-1) + C(week)", ["Intercept", "center(x)", "scale(x)", "bin(x, 0.1)", "C(week)"]),
        ("y ~ within(x, g) + between(x, a:b)", ["Intercept", "within(x, g)", "between(x, a:b)"]),
        ("y ~ `on sale` + _x + x.1", ["Intercept", "on sale", "_x", "x.1"]),
        ("y ~ `a ~ b`", ["Intercept", "a ~ b"]),
        ("y ~ log", ["Intercept", "log"]),
        ("y ~\n  x +\n  z", ["Intercept", "x", "z"]),
    ],
)
def test_population_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y ~ (1 | g)", [(["Intercept"], "g")]),
        ("y ~ (x | g)", [(["Intercept", "x"], "g")]),
        ("y ~ (0 + x | g)", [(["x"], "g")]),
        ("y ~ (x - 1 | g)", [(["x"], "g")]),
        ("y ~ (1 + x | a/b)", [(["Intercept", "x"], "a"), (["Intercept", "x"], "a:b")]),
        ("y ~ (1 | a/b/c)", [(["Intercept"], "a"), (["Intercept"], "a:b"), (["Intercept"], "a:b:c")]),
        ("y ~ (1 | a:b)", [(["Intercept"], "a:b")]),
        ("y ~ (1 | a:b/c)", [(["Intercept"], "a:b"), (["Intercept"], "a:b:c")]),
        ("y ~ (1 + x || g)", [(["Intercept"], "g"), (["x"], "g")]),
        ("y ~ (x || a/b)", [(["Intercept"], "a"), (["x"], "a"), (["Intercept"], "a:b"), (["x"], "a:b")]),
        ("y ~ (0 + x * z || g)", [(["x"], "g"), (["z"], "g"), (["x:z"], "g")]),
        ("y ~ (1 | g) + (0 + x | g)", [(["Intercept"], "g"), (["x"], "g")]),
        ("y ~ (1 | `income group`)", [(["Intercept"], "income group")]),
    ],
)
def test_group_terms(text: str, expected: list[tuple[list[str], str]]) -> None:
    assert groups(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log(y) ~ 1", Response(Call("log", (Column("y"),)))),
        ("I(a/b) ~ 1", Response(Call("I", (Operation("/", (Column("a"), Column("b"))),)))),
        ("p(s, n) ~ 1", Response(Column("s"), trials=Column("n"))),
        ("p(s, 10) ~ 1", Response(Column("s"), trials=Number(10.0))),
        ("y | weights(w) ~ 1", Response(Column("y"), weights="w")),
        ("y | se(`std error`) ~ 1", Response(Column("y"), standard_error="std error")),
    ],
)
def test_responses(text: str, expected: Response) -> None:
    assert parse_formula(text).response == expected


def test_offsets_are_kept_apart() -> None:
    formula = parse_formula("y ~ x + offset(log(e)) + offset(z)")
    assert formula.offsets == (Call("log", (Column("e"),)), Column("z"))
    assert [term.label for term in formula.population] == ["Intercept", "x"]


def test_every_column_is_found_once() -> None:
    formula = parse_formula("log(amount) ~ within(price, g:h) * size + offset(log(e)) + (1 + x | a/b) + (1 | size)")
    assert formula_columns(formula) == ("amount", "price", "g", "h", "size", "x", "e", "a", "b")


@pytest.mark.parametrize("operator", ["-x^2", "-(x^2)"])
def test_a_power_binds_tighter_than_a_minus_sign(operator: str) -> None:
    assert parse_formula(f"y ~ I({operator})").population[1].factors == parse_formula("y ~ I(-x^2)").population[1].factors


def test_powers_group_to_the_right() -> None:
    x, two = Column("x"), Number(2.0)
    assert parse_formula("y ~ I(x^x^2)").population[1].factors == (Call("I", (Operation("**", (x, Operation("**", (x, two)))),)),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("y x", "no ~"),
        ("y ~ x ~ z", "more than one ~"),
        ("~ x", "outcome is missing"),
        ("y ~", "ends too early"),
        ("y ~ x +", "ends too early"),
        ("y ~ (1 | g", "ends too early"),
        ("y ~ x)", "never opened"),
        ("y ~ x z", "character 7, `z`: an operator"),
        ("y ~ x | g", r"own brackets; write \(1 \| group\)"),
        ("y ~ x:(1 | g)", "own brackets"),
        ("y ~ x - (1 | g)", "only be added"),
        ("y ~ (1 | )", "expected before"),
        ("y ~ ( | g)", "expected before"),
        ("y ~ (0 | g)", "nothing varies"),
        ("y ~ (1 | a + b)", r"\(1 \| a\) \+ \(1 \| b\)"),
        ("y ~ (1 | C(week))", "any column may group"),
        ("y ~ (1 | a/a)", "a column twice"),
        ("y ~ (1 | g) + (1 | g)", "`1` varies by g twice"),
        ("y ~ (1 | g) + (x | g)", "`1` varies by g twice"),
        ("y ~ (1 | a/b) + (1 | a)", "`1` varies by a twice"),
        ("y ~ (1 | a:b) + (1 | b:a)", "`1` varies by b:a twice"),
        (
            "y ~ poly(x, 2)",
            r"character 5.*`poly` is not one of .*log, exp, sqrt, I, C, center, scale, bin, within, between; write x \+ I\(x\^2\)",
        ),
        ("cbind(a, b) ~ x", r"p\(successes, trials\)"),
        ("y ~ cbind(a, b)", r"p\(successes, trials\)"),
        ("y ~ factor(x)", r"write C\(x\)"),
        ("y ~ np.log(x)", "`np.log` is not one of"),
        ("y ~ __import__(os)", "`__import__` is not one of"),
        ("y ~ x^2", r"I\(x\^2\)"),
        ("y ~ (a + b)^2", r"a \* b"),
        ("y ~ 2 * x", r"inside I\( \)"),
        ("y ~ 1:x", "numbers cannot be part of a product"),
        ("y ~ x > 3", "comparisons"),
        ("y ~ 'x'", "quotes"),
        ("y ~ `x", "never closed"),
        ("y ~ ``", "empty"),
        ("y ~ .", "name the columns"),
        ("y ~ x; drop table t", "semicolons"),
        ("y ~ a %in% b", "a/b or a:b"),
        ("y ~ log(x, 2)", "one argument"),
        ("y ~ bin(x)", "a column and a width"),
        ("y ~ bin(x, 0)", "positive number"),
        ("y ~ bin(x, z)", "positive number"),
        ("y ~ within(x)", "the grouping column"),
        ("y ~ log(within(x, g))", "predictor of its own"),
        ("y ~ I(C(x) + 1)", "predictor of its own"),
        ("y ~ offset(x, z)", "one argument"),
        ("y ~ log(offset(x))", "stands alone"),
        ("sqrt(y) ~ x", "line_items"),
        ("y + z ~ x", "outcome is a column"),
        ("y | w ~ x", r"weights\(column\) or se\(column\)"),
        ("y | se(log(s)) ~ x", r"weights\(column\) or se\(column\)"),
        ("p(s) ~ x", "two columns"),
        ("y ~ p(s, n)", "left of the ~"),
        ("y ~ log(x)(z)", "operator"),
        ("y ~ x + @", "Unexpected character"),
        ("y ~ " + "(" * 3000 + "x" + ")" * 3000, "nested too deeply"),
    ],
)
def test_what_is_refused_says_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        parse_formula(text)
