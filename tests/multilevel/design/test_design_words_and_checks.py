"""What is said about a model before it is fitted: its words, its mathematics, its warnings and refusals."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.description.mathematics import mathematics
from multilevel.description.model_description import describe
from multilevel.design.build import build_design
from multilevel.design.checks import DesignWarning, check_design
from multilevel.design.model import Design
from multilevel.errors import FitError
from multilevel.formula.parse import parse_formula


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 3_000
    store = rng.permutation(np.arange(n) % 300)
    frame = pd.DataFrame({"store": store, "region": store % 6, "half": store % 2, "x": rng.normal(size=n), "w": rng.uniform(1, 2, n)})
    frame["twin"] = frame["region"].map(lambda r: f"T{(r + 2) % 6}")
    frame["same"] = 3.0
    frame["size"] = rng.normal(size=300)[store]
    frame["mistake"] = frame["size"]
    frame.loc[frame.index[frame["store"] == 17][0], "mistake"] += 1
    frame["line"] = np.arange(n)
    frame["y"] = rng.normal(size=n)
    frame["k"] = rng.poisson(2, n)
    frame["exposure"] = np.where(store == 3, 0.0, 1.0)
    frame["coin"] = rng.integers(0, 2, n)
    return frame


def design(formula: str, rows: pd.DataFrame, family: str = "gaussian") -> Design:
    parsed = parse_formula(formula)
    return build_design(parsed, cells_from_frame(parsed, rows, family))


def check(formula: str, rows: pd.DataFrame, family: str = "gaussian") -> tuple[DesignWarning, ...]:
    return check_design(parse_formula(formula), design(formula, rows, family))


@pytest.mark.parametrize(
    "formula",
    ["y ~ x + size + (1 + x | region/store)", "y ~ within(x, store) + between(x, store) + (1 | store) + (0 + x | region)", "y ~ x"],
)
def test_a_sound_model_has_nothing_to_be_said_against(formula: str, rows: pd.DataFrame) -> None:
    assert check(formula, rows) == ()


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ 1 + (1 | same)", r"same has one level \(3\.0\)"),
        ("y ~ 1 + (1 | store/region)", r"wrong way round: every store is within one region.*\(1 \| region/store\)"),
        ("y ~ 1 + (1 | region) + (1 | twin)", "region and twin are the same in these data: each of their 6 levels"),
        ("y ~ 1 + (1 | line)", "line has 3000 levels with 1 effects each for 3000 rows"),
    ],
)
def test_what_cannot_be_fitted_is_refused(formula: str, message: str, rows: pd.DataFrame) -> None:
    with pytest.raises(FitError, match=message):
        check(formula, rows)


def test_a_level_per_row_is_fine_where_it_can_be_told_from_the_residual(rows: pd.DataFrame) -> None:
    assert check("k ~ 1 + (1 | line)", rows, "poisson") == ()
    assert check("y | se(w) ~ 1 + (1 | line)", rows) == ()


def test_two_factors_may_be_the_same_where_different_terms_vary(rows: pd.DataFrame) -> None:
    assert check("y ~ x + (1 | region) + (0 + x | twin)", rows) == ()


def test_slopes_that_the_terms_outside_span_are_no_warning(rows: pd.DataFrame) -> None:
    assert check("y ~ C(coin) + (0 + C(coin) | region)", rows) == ()
    assert check("y ~ x + I(2*x) + (0 + I(2*x) | region)", rows)[1:] == ()
    assert check("y ~ x + (1 + center(x) | region)", rows) == ()
    assert check("y ~ x + (1 + I(x / 10) | region)", rows) == ()
    assert check("k ~ x + (1 + center(x) | region)", rows, "poisson") == ()


@pytest.mark.parametrize(
    ("formula", "kind", "message"),
    [
        ("y ~ same + (1 | store)", "no_variation", "same has no variation in these rows"),
        ("y ~ x + I(2*x) + (1 | store)", "aliased", "I(2 * x): determined by the terms before"),
        ("y ~ C(half):C(region) + (1 | store)", "no_variation", "no row is of this kind"),
        ("y ~ x + (1 + x | half)", "few_levels", "half has 2 levels, too few to learn how Intercept, x go together"),
        ("y ~ x + (1 + size | store)", "constant_slope", "size is constant within every level of store, so no level can tell its slope"),
        (
            "y ~ 1 + (1 + x | store)",
            "no_average",
            "x varies by store but has no coefficient outside the brackets: its slopes are taken to be 0",
        ),
        (
            "y ~ within(x, region) + (1 + x | region)",
            "no_average",
            "differences from that of within(x, region). Write within(x, region) in",
        ),
        ("y ~ mistake + (1 | store)", "nearly_constant", "mistake is constant within 299 of 300 levels of store, but not within 17"),
    ],
)
def test_what_changes_the_reading_is_a_warning(formula: str, kind: str, message: str, rows: pd.DataFrame) -> None:
    warning = next(found for found in check(formula, rows) if found.kind == kind)
    assert message in warning.message


@pytest.mark.parametrize(
    ("outcome", "family", "own"), [("w", "gamma", "shape"), ("k", "negative_binomial", "phi"), ("coin", "binomial", "0 or 1")]
)
def test_a_level_per_row_is_warned_of_where_the_family_varies_like_it(outcome: str, family: str, own: str, rows: pd.DataFrame) -> None:
    warning, *more = check(f"{outcome} ~ 1 + (1 | line)", rows, family)
    assert [found.check for found in more] == (["identified[line]"] if family == "binomial" else [])
    assert warning.kind == "level_per_row"
    assert "line has 3,000 effects for 3,000 rows" in warning.message
    assert own in warning.message
    assert check(f"{outcome} ~ 1 + (1 | store)", rows, family) == ()


def test_a_constant_slope_without_an_intercept_beside_it_is_no_warning(rows: pd.DataFrame) -> None:
    assert check("y ~ x + size + (0 + size | store)", rows) == ()
    assert check("y ~ x + size + (1 + size | region)", rows) == ()


@pytest.mark.parametrize("written", ["year", "I(-1 * year)"])
@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_intercepts_far_from_the_rows_are_a_warning(written: str, family: str, rows: pd.DataFrame) -> None:
    frame = rows.assign(year=2000.0 + np.arange(len(rows)) % 7)
    outcome = "y" if family == "gaussian" else "k"
    (warning,) = check(f"{outcome} ~ {written} + (1 + {written} | store)", frame, family)
    assert warning.kind == "far_from_zero"
    assert "lies far from 0 (mean " in warning.message
    assert "2003, sd 2), where the intercepts of store are" in warning.message
    assert check(f"{outcome} ~ center(year) + (1 + center(year) | store)", frame, family) == ()
    assert check(f"{outcome} ~ {written} + (1 | store)", frame, family) == ()
    assert check(f"{outcome} ~ {written} + (0 + {written} | store)", frame, family) == ()


def test_a_rare_category_is_not_far_from_zero(rows: pd.DataFrame) -> None:
    frame = rows.assign(usual=np.where(np.arange(len(rows)) % 200 == 0, "no", "yes"))
    assert check("y ~ usual + (1 + usual | region)", frame) == ()


def test_two_levels_without_correlation_are_no_warning(rows: pd.DataFrame) -> None:
    assert check("y ~ x + (1 + x || half)", rows) == ()


def test_an_exposure_of_zero_is_refused(rows: pd.DataFrame) -> None:
    built = design("k ~ 1 + offset(w) + (1 | store)", rows, "poisson")
    broken = replace(built, cells=replace(built.cells, size=np.where(np.arange(built.cells.n_cells) == 3, 0.0, built.cells.size)))
    with pytest.raises(FitError, match="offset is not finite in 1 of"):
        check_design(parse_formula("k ~ 1 + offset(w) + (1 | store)"), broken)


def test_every_term_is_explained(rows: pd.DataFrame) -> None:
    formula = parse_formula("y ~ x*size + between(x, region) + (1 + x | region/store)")
    words = describe(formula, [build_design(formula, cells_from_frame(formula, rows, "gaussian"))], "gaussian")
    assert words[0].startswith("y is normally distributed")
    assert "x: individual-level predictor" in words[2]
    assert "size: group-level predictor: constant within each region:store, so it is learned from 300 levels" in words[3]
    assert "between(x, region): contextual effect" in words[4]
    assert "x:size: cross-level interaction" in words[5]
    assert words[6].startswith("Intercept and x vary, correlated with each other, by region (6 levels): 12 effects, 3 variance parameters")
    assert "region:store (300 levels, each inside one region)" in words[7]


@pytest.mark.parametrize(
    ("formula", "family", "plain", "latex"),
    [
        ("y ~ x + (1 + x | half)", "gaussian", "y[i] ~ Normal(μ[i], σ)", r"y_i \sim \mathrm{Normal}(\mu_i, \sigma)"),
        (
            "y ~ x + (1 + x | half)",
            "gaussian",
            "μ[i] = β₀ + β₁ · x[i] + b₀[half[i]] + b₁[half[i]] · x[i]",
            r"(b_{0j}, b_{1j}) \sim \mathrm{Normal}(0, \Sigma_{0})",
        ),
        (
            "y ~ x + (1 + x || half)",
            "gaussian",
            "c₀[j] ~ Normal(0, τ₁),  j = 1 … 2 levels of half",
            r"c_{0j} \sim \mathrm{Normal}(0, \tau_{1})",
        ),
        ("y | se(w) ~ 1 + (1 | half)", "gaussian", "y[i] ~ Normal(μ[i], s[i]), s[i] = w", r"s_i = \text{w}"),
        ("k ~ 1 + offset(w) + (1 | half)", "poisson", "η[i] = w[i] + β₀ + b₀[half[i]]", r"\exp \eta_i"),
        ("p(k, line) ~ 1 + (1 | half)", "binomial", "y[i] ~ Binomial(line, p[i])", r"\mathrm{Binomial}(\text{line}, p_i)"),
    ],
)
def test_the_model_is_written_out(formula: str, family: str, plain: str, latex: str, rows: pd.DataFrame) -> None:
    parsed = parse_formula(formula)
    written = mathematics(parsed, [design(formula, rows, family)], family)
    assert plain in "\n".join(written.text)
    assert latex in "\n".join(written.latex)
    # MathML has the same symbols in the same order, a predictor's blocks on lines of their own
    shown = "".join("".join(ElementTree.fromstring(line).itertext()) for line in written.mathml)
    plain_symbols = "".join(written.text).translate(str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789"))
    assert letters(shown) == letters(plain_symbols)


def letters(written: str) -> str:
    return re.sub(r"[^\w~∼+=·]", "", written).replace("∼", "~").replace("_", "")


def test_names_are_text_in_every_form(rows: pd.DataFrame) -> None:
    hostile = rows.assign(**{"</mtext><script>x</script>": rows.x, "a_b$": rows.half})
    formula = "y ~ `</mtext><script>x</script>` + (1 | `a_b$`)"
    written = mathematics(parse_formula(formula), [design(formula, hostile)], "gaussian")
    for line in written.mathml:
        assert all(node.tag != "script" for node in ElementTree.fromstring(line).iter())
    assert any("</mtext><script>x</script>" in "".join(ElementTree.fromstring(line).itertext()) for line in written.mathml)
    assert any(r"\text{a\_b\$}" in line for line in written.latex)
