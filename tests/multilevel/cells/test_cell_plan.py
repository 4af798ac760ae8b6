"""What joins the cell key and what is kept as moments, by family."""

import pytest

from multilevel.cells.cell_plan import CellPlan, plan_cells
from multilevel.cells.column_facts import ColumnKind, Schema
from multilevel.errors import DataError, FormulaError
from multilevel.formula.labels import expression_label
from multilevel.formula.parse import parse_formula

KINDS: dict[str, ColumnKind] = {"y": "number", "g": "text", "store": "number", "f": "text", "b": "boolean", "x": "number", "z": "number"}
KINDS |= {"u": "number", "v": "number", "w": "number", "day": "temporal", "k": "number"}


def plan(formula: str, family: str = "gaussian", **distinct: int) -> CellPlan:
    return plan_cells(parse_formula(formula), Schema(KINDS, distinct={"x": 10**6, "z": 10**6} | distinct), family)


def keys(found: CellPlan) -> list[str]:
    return [expression_label(key) for key in found.keys]


@pytest.mark.parametrize(
    ("formula", "distinct", "expected_keys", "features"),
    [
        ("y ~ x + (1 | g)", {}, ["g"], ("x",)),
        ("y ~ u + (1 | g)", {"u": 20}, ["g", "u"], ()),
        ("y ~ u + (1 | g)", {"u": 21}, ["g"], ("u",)),
        ("y ~ f*x + b + (1 + x | g)", {}, ["g", "f", "b"], ("x",)),
        ("y ~ u*x + I(u^2) + (1 | g)", {"u": 3}, ["g", "u"], ("x",)),
        ("y ~ x*z + (1 | g)", {}, ["g"], ("x", "z", "x:z")),
        ("y ~ bin(x, 5) + (1 | g)", {}, ["g", "bin(x, 5)"], ()),
        ("y ~ C(u) + day + (1 | g)", {"u": 500}, ["g", "u", "day"], ()),
        ("y ~ store + (1 | store)", {}, ["store"], ()),
        ("y ~ within(x, g) + between(x, g) + (1 | g)", {}, ["g"], ("within(x, g)",)),
        ("y ~ u + v + w + (1 | g)", {"u": 20, "v": 20, "w": 20}, ["g", "u", "v"], ("w",)),
        ("y ~ u + v + w + (1 | g)", {"u": 20, "v": 5, "w": 20}, ["g", "u", "v"], ("w",)),
        ("y ~ I(u*v) + v + (1 | g)", {"u": 20, "v": 1000}, ["g"], ("I(u * v)", "v")),
    ],
)
def test_gaussian_keeps_moments_of_what_would_split_the_cells(
    formula: str, distinct: dict[str, int], expected_keys: list[str], features: tuple[str, ...]
) -> None:
    found = plan(formula, **distinct)
    assert keys(found) == expected_keys
    assert found.feature_labels == features


@pytest.mark.parametrize("family", ["binomial", "poisson", "negative_binomial", "gamma"])
def test_under_other_links_every_predictor_joins_the_key(family: str) -> None:
    found = plan("k ~ x + I(z^2) + f + (1 | g)", family)
    assert keys(found) == ["g", "f", "x", "z"]
    assert found.features == ()


def test_a_poisson_exposure_is_summed_and_any_other_offset_joins_the_key() -> None:
    assert keys(plan("k ~ 1 + offset(log(x)) + (1 | g)", "poisson")) == ["g"]
    assert keys(plan("k ~ 1 + offset(log(x)) + (1 | g)", "negative_binomial")) == ["g", "x"]
    assert keys(plan("y ~ 1 + offset(x) + (1 | g)", "gaussian")) == ["g"]


@pytest.mark.parametrize(
    ("formula", "family", "message"),
    [
        ("y ~ 1", "student", "family: `student` is not one of gaussian, binomial"),
        ("p(k, y) ~ 1", "poisson", "belongs to family binomial"),
        ("log(y) ~ 1", "gamma", "has its own link"),
        ("y | weights(x) ~ 1", "binomial", "belong to family gaussian"),
    ],
)
def test_a_response_that_does_not_fit_its_family_is_refused(formula: str, family: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        plan(formula, family)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ nowhere", "no column `nowhere`, which the formula names. They have: b, day, f"),
        ("y ~ log(f)", "column `f` holds text"),
        ("y ~ within(day, g) + (1 | g)", "column `day` holds temporal"),
        ("log(f) ~ 1", "column `f` holds text"),
        ("f ~ 1", "outcome `f` holds text"),
    ],
)
def test_a_column_that_cannot_be_used_so_is_refused(formula: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        plan(formula)
