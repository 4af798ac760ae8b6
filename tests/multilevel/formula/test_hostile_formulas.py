"""Formulas beyond all measure are refused quickly and with a reason; odd names stay what they are."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multilevel.errors import FormulaError
from multilevel.formula.columns import formula_columns
from multilevel.formula.parse import parse_formula
from multilevel.formula.terms import MOST_TERMS

NAMES = [f"v{i}" for i in range(1_500)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y ~ " + "+".join(NAMES), "more than 1,000 terms"),
        ("y ~ " + "*".join(NAMES[:17]), "more than 1,000 terms"),
        ("y ~ " + " + ".join(["a*b*c*d*e*f*g*h*i"] * 300), "more than 1,000 terms"),
        ("y ~ (" + "+".join(NAMES[:600]) + " | g/h)", "more than 1,000 terms"),
        ("y ~ " + ":".join(NAMES), "nested too deeply"),
        ("y ~ " + "/".join(NAMES), "nested too deeply"),
        ("y ~ (1 | " + "/".join(NAMES) + ")", "nested too deeply"),
        ("y ~ " + "-" * 3_000 + "x", "nested too deeply"),
        ("y ~ I(" + "^".join(["x"] * 1_500) + ")", "nested too deeply"),
        ("y ~ I(" + "+".join(["x"] * 1_500) + ")", "nested too deeply"),
        ("y ~ " + "+".join(f"(1 | {name})" for name in NAMES), "10,000"),
        ("y ~ " + "x" * 301, "at most 300 characters"),
        ("y ~ I(x/1e999)", "`1e999` is too large"),
        ("y ~ I(x * 1e-400)", "`1e-400` is too small"),
        ("p(a, center(b)) ~ 1 + (1 | g)", "center.*predictors and offsets"),
        ("I(scale(y)) ~ 1 + (1 | g)", "predictors and offsets"),
        ("y ~ `a:b` + a:b", "two terms are both written a:b"),
        ("y ~ `log(x)` + log(x)", "are both written"),
        ("y ~ Intercept + (1 | g)", "are both written"),
        ("y ~ (1 | `a:b`) + (1 | a:b)", "are both written"),
        ("y ~ `a\x00`", "the character U[+]0000"),
    ],
)
def test_what_is_beyond_the_bounds_is_refused_in_time(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(FormulaError, match=message) as caught:
        parse_formula(text)
    assert time.process_time() - start < 2
    assert len(str(caught.value)) < 600


def test_as_many_terms_as_are_allowed_are_read() -> None:
    assert len(parse_formula("y ~ " + "+".join(NAMES[: MOST_TERMS - 1])).population) == MOST_TERMS
    assert len(parse_formula("y ~ " + " - ".join(NAMES[:900])).population) == 2
    assert len(parse_formula("y ~ a*b*c*d*e*f*g*h*i").population) == 512


def test_names_in_backquotes_keep_their_white_space() -> None:
    formula = parse_formula("y ~ `unit  price`\n + `a\tb`  + (1 | `g\n h`)")
    assert formula_columns(formula) == ("y", "unit  price", "a\tb", "g\n h")
    assert parse_formula(formula.text) == formula


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("yxg~+-*/:|^(),.`'\"1e90 \n\x00²é"), max_size=40))
def test_any_text_is_a_formula_or_refused(text: str) -> None:
    try:
        parse_formula(text)
    except FormulaError as error:
        assert str(error)
