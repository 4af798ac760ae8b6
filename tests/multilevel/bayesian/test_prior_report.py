"""Priors in words, the outcomes that they allow, and how much they matter."""

import numpy as np
import pandas as pd
import pytest

from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.bayesian.prior_report import describe_priors, prior_predictive
from multilevel.bayesian.priors import read_priors, resolve_priors
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.formula.parse import parse_formula


@pytest.fixture(scope="module")
def design() -> Design:
    rng = np.random.default_rng(2)
    g = rng.integers(6, size=200)
    frame = pd.DataFrame({"g": g.astype(str), "x": rng.normal(size=200)})
    frame["y"] = 20 + 2 * frame.x + rng.normal(0, 2, 6)[g] + rng.normal(0, 3, 200)
    formula = parse_formula("y ~ 1 + x + (1 + x | g)")
    return build_design(formula, cells_from_frame(formula, frame, "gaussian"))


def test_every_parameter_has_a_line_that_a_study_could_hold(design: Design) -> None:
    lines = describe_priors(design, "gaussian", resolve_priors(design, "gaussian", read_priors({"sigma": "half_cauchy(3)"})))
    assert [line.parameter for line in lines] == ["Intercept", "x", "sd(g, Intercept)", "sd(g, x)", "correlation(g)", "sigma"]
    assert lines[-1].prior == "half_cauchy(3)"
    assert all(line.meaning for line in lines)


def test_default_priors_allow_the_data_and_narrow_ones_show(design: Design) -> None:
    wide = prior_predictive(design, "gaussian", resolve_priors(design, "gaussian", read_priors(None)))
    assert wide.quantiles[0] < wide.observed_mean < wide.quantiles[-1]
    narrow = {"coefficients": {"Intercept": "normal(0, 1)", "x": "normal(0, 0.1)"}, "sds": {"g": "half_normal(0.1)"}}
    tight = prior_predictive(design, "gaussian", resolve_priors(design, "gaussian", read_priors(narrow)))
    assert tight.observed_mean > tight.quantiles[-1]
    assert wide.quantiles[-1] - wide.quantiles[0] > 5 * (tight.quantiles[-1] - tight.quantiles[0])


@pytest.mark.parity
def test_a_prior_against_the_data_is_sensitive_and_the_default_is_not(design: Design) -> None:
    default = fit_bayesian(design, "gaussian", sampling={"draws": 500}).record["prior_sensitivity"]
    against = fit_bayesian(design, "gaussian", priors={"coefficients": {"x": "normal(-1, 0.3)"}}, sampling={"draws": 500})
    assert default["x"] < 0.05
    assert against.record["prior_sensitivity"]["x"] > 0.05
    assert {line["parameter"] for line in against.record["priors"]} >= {"x", "sigma"}
