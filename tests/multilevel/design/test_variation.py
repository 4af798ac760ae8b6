"""Outcomes that hardly vary within their groups keep their digits; those that do not vary are refused with the factor's name."""

import numpy as np
import pandas as pd
import pytest

from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.checks import check_design
from multilevel.errors import FitError
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Twenty groups of three rows, 1.5 apart; ``y`` differs from its group's mean by 1e-6, ``exact`` by nothing."""
    rng = np.random.default_rng(15)
    g = np.repeat(np.arange(20), 3)
    noise = rng.normal(0, 1, 60)
    noise -= np.repeat(noise.reshape(20, 3).mean(1), 3)
    frame = pd.DataFrame({"g": g.astype(str), "h": np.tile(["0", "1", "2"], 20), "y": g * 1.5 + noise * 1e-6, "exact": g * 1.5})
    frame["noise"], frame["x"], frame["same"] = noise, rng.normal(size=60), 3.7
    frame["of_both"] = frame["exact"] + frame["h"].astype(int) * 0.7
    frame["of_x"] = frame["exact"] + 2.0 * frame["x"]
    frame["slope"] = g * frame["x"]
    frame["far"] = frame["exact"] + 1e9
    frame["one_group"] = np.where(frame["g"] == "3", frame["exact"] + noise, frame["exact"])
    frame["positive"] = np.exp(frame["exact"] / 10)
    frame["upper"], frame["count"], frame["four"] = (g > 9) * 1, g, 4
    return frame


def check(formula: str, rows: pd.DataFrame, family: str = "gaussian") -> list[str]:
    parsed = parse_formula(formula)
    return [warning.check for warning in check_design(parsed, build_design(parsed, cells_from_frame(parsed, rows, family)))]


def sds(formula: str, rows: pd.DataFrame) -> list[float]:
    parsed = parse_formula(formula)
    return [found.estimate for found in fit_linear(build_design(parsed, cells_from_frame(parsed, rows, "gaussian"))).components]


def anova(rows: pd.DataFrame, outcome: str) -> list[float]:
    """Balanced one-way analysis of variance: sd between groups of three, sd within."""
    means = rows.groupby("g")[outcome].transform("mean")
    within = float(((rows[outcome] - means) ** 2).sum() / 40)
    return [np.sqrt((3 * rows.groupby("g")[outcome].mean().var() - within) / 3), np.sqrt(within)]


def test_a_residual_of_a_ten_millionth_is_found_to_six_digits(rows: pd.DataFrame) -> None:
    assert check("y ~ 1 + (1 | g)", rows) == []
    assert sds("y ~ 1 + (1 | g)", rows)[0] == pytest.approx(8.874119675, rel=1e-6)


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4, 1e-6, 1e-7])
def test_sds_are_those_of_the_analysis_of_variance_however_little_is_left(size: float, rows: pd.DataFrame) -> None:
    sized = rows.assign(sized=rows["exact"] + size * rows["noise"])
    assert sds("sized ~ 1 + (1 | g)", sized) == pytest.approx(anova(sized, "sized"), rel=1e-6)


def test_the_posterior_finds_a_residual_of_a_ten_millionth(rows: pd.DataFrame) -> None:
    parsed = parse_formula("y ~ 1 + (1 | g)")
    design = build_design(parsed, cells_from_frame(parsed, rows, "gaussian"))
    fit = fit_bayesian(design, "gaussian", sampling={"draws": 500, "chains": 2})
    between, within = anova(rows, "y")
    assert [found.estimate for found in fit.components] == pytest.approx([between, within], rel=0.2)
    assert all(check.passed for check in fit.checks)


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4])
def test_crossed_factors_keep_their_digits_too(size: float, rows: pd.DataFrame) -> None:
    sized = rows.assign(sized=rows["of_both"] + size * rows["noise"])
    means = sized.groupby("g")["sized"].transform("mean") + sized.groupby("h")["sized"].transform("mean") - sized["sized"].mean()
    sigma2 = float(((sized["sized"] - means) ** 2).sum() / 38)
    between = [np.sqrt((n * sized.groupby(name)["sized"].mean().var() - sigma2) / n) for name, n in (("g", 3), ("h", 20))]
    assert check("sized ~ 1 + (1 | g) + (1 | h)", sized) == []
    assert sds("sized ~ 1 + (1 | g) + (1 | h)", sized) == pytest.approx([*between, np.sqrt(sigma2)], rel=1e-6)


@pytest.mark.parametrize(
    ("formula", "family", "message"),
    [
        ("exact ~ 1 + (1 | g)", "gaussian", r"^varies_within\[g\]: exact hardly varies"),
        ("exact ~ 1 + (1 | g) + (1 | h)", "gaussian", r"^varies_within\[g\]"),
        ("far ~ 1 + (1 | g)", "gaussian", r"^varies_within\[g\]"),
        ("log(positive) ~ 1 + (1 | g)", "gaussian", r"^varies_within\[g\]"),
        ("of_x ~ x + (1 | g)", "gaussian", r"^varies_within\[g\].*the population-level terms"),
        ("slope ~ x + (1 + x | g)", "gaussian", r"^varies_within\[g\]"),
        ("of_both ~ 1 + (1 | g) + (1 | h)", "gaussian", r"^varies_within\[g\].*all group-level terms together"),
        ("same ~ 1 + (1 | g)", "gaussian", r"^same is 3\.7 in all 60 rows"),
        ("positive ~ 1 + (1 | g)", "gamma", r"^varies_within\[g\].*no shape"),
        ("same ~ 1 + (1 | g)", "gamma", r"^varies_within\[g\]"),
        ("upper ~ 1 + (1 | g)", "binomial", r"^varies_within\[g\]: upper is 0 in all rows or 1 in all rows"),
        ("upper ~ x + (1 | g) + (1 | h)", "binomial", r"^varies_within\[g\]"),
    ],
)
def test_outcomes_that_do_not_vary_are_refused(formula: str, family: str, message: str, rows: pd.DataFrame) -> None:
    with pytest.raises(FitError, match=message):
        check(formula, rows, family)


@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("outcome", ["count", "four"])
def test_counts_that_do_not_vary_fail_a_check(outcome: str, family: str, rows: pd.DataFrame) -> None:
    assert check(f"{outcome} ~ 1 + (1 | g)", rows, family) == ["varies_within[g]"]


def test_outcomes_that_vary_somewhere_are_nothing_to_speak_of(rows: pd.DataFrame) -> None:
    assert check("one_group ~ 1 + (1 | g)", rows) == []
    assert sds("one_group ~ 1 + (1 | g)", rows) == pytest.approx(anova(rows, "one_group"), rel=1e-6)
    assert check("of_x ~ 1 + (1 | g)", rows) == []
    assert check("noise ~ x + (1 + x | h)", rows) == []
    assert check("exact ~ x + (1 | h)", rows) == []
    # as many columns as rows: whatever the outcome, nothing could be left
    assert check("noise ~ x + (1 + x | g) + (1 | h)", rows) == []


def reproduced(shape: float) -> pd.DataFrame:
    """Gamma outcomes of 8 groups of 15 with a predictor that differs in every row."""
    rng = np.random.default_rng(18)
    g, x = np.arange(120) % 8, rng.normal(size=120)
    y = np.exp(0.4 * x + 0.5 * rng.normal(size=8)[g] + rng.normal(size=120) / np.sqrt(shape))
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})


@pytest.mark.parametrize("shape", [2e10, 1e12, 1e14, np.inf])
@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (1 + x | g)"])
def test_gamma_outcomes_that_the_terms_reproduce_are_refused(formula: str, shape: float) -> None:
    with pytest.raises(FitError, match=r"^varies_within\[g\]: y hardly varies.*all group-level terms together"):
        check(formula, reproduced(shape), "gamma")


def test_gamma_outcomes_with_a_large_shape_have_the_errors_of_their_logarithms() -> None:
    frame = reproduced(2e9)
    assert check("y ~ x + (1 | g)", frame, "gamma") == []
    designs = {}
    for formula, family in (("y ~ x + (1 | g)", "gamma"), ("log(y) ~ x + (1 | g)", "gaussian")):
        parsed = parse_formula(formula)
        designs[family] = build_design(parsed, cells_from_frame(parsed, frame, family))
    gamma, logs = fit_generalised(designs["gamma"], "gamma").components[0], fit_linear(designs["gaussian"], method="ml").components[0]
    assert gamma.estimate == pytest.approx(logs.estimate, rel=1e-4)
    assert gamma.std_error == pytest.approx(logs.std_error, rel=0.05)


def test_known_standard_errors_need_no_variation_within(rows: pd.DataFrame) -> None:
    assert check("exact | se(same) ~ 1 + (1 | g)", rows) == []
