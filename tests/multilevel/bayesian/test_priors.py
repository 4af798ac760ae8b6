"""Priors: scaled from the statistics, overridable, refused when wrong."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad

from multilevel.bayesian.distributions import POSITIVE, Prior, parse_prior
from multilevel.bayesian.priors import Priors, column_moments, read_priors, resolve_priors
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.errors import StudyError
from multilevel.formula.parse import parse_formula


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": rng.integers(6, size=300).astype(str), "x": rng.normal(3.0, 2.0, 300), "d": rng.integers(2, size=300)})
    return data.assign(y=10 + 0.5 * data.x + rng.normal(0, 4, 300), k=rng.poisson(3.0, 300))


def design_of(text: str, frame: pd.DataFrame, family: str = "gaussian") -> Design:
    formula = parse_formula(text)
    return build_design(formula, cells_from_frame(formula, frame, family))


@pytest.mark.parametrize("written", ["half_normal(2)", "half_student_t(4, 1)", "half_cauchy(5)", "exponential(3)", "log_normal(-1, 0.5)"])
def test_a_positive_prior_integrates_to_one_and_its_draws_follow_it(written: str) -> None:
    prior = parse_prior(written, "sigma", POSITIVE)
    assert quad(lambda x: np.exp(prior.log_density(np.array(x))), 0, np.inf)[0] == pytest.approx(1.0, abs=1e-6)
    median = np.median(prior.sample(20_000, np.random.default_rng(1)))
    assert quad(lambda x: np.exp(prior.log_density(np.array(x))), 0, median)[0] == pytest.approx(0.5, abs=0.015)


def test_default_scales_follow_the_sds_of_outcome_and_predictor(frame: pd.DataFrame) -> None:
    design = design_of("y ~ 1 + x + (1 + x | g)", frame)
    priors = resolve_priors(design, "gaussian", Priors())
    sd_y, sd_x = frame.y.std(ddof=0), frame.x.std(ddof=0)
    assert priors.terms[0].arguments == pytest.approx((frame.y.mean(), 2.5 * sd_y))
    assert priors.terms[1].arguments == pytest.approx((0.0, 2.5 * sd_y / sd_x))
    assert [prior.arguments[0] for prior in priors.sds[0]] == pytest.approx([2.5 * sd_y, 2.5 * sd_y / sd_x])
    assert priors.sigma == Prior("exponential", (pytest.approx(sd_y),))
    assert priors.correlations == (2.0,)


def test_moments_of_a_column_are_those_of_the_rows(frame: pd.DataFrame) -> None:
    design = design_of("y ~ 1 + x + d + x:d + (1 | g)", frame)
    for column, values in zip(design.population[1:], (frame.x, frame.d, frame.x * frame.d), strict=True):
        assert column_moments(column, design.cells) == pytest.approx((values.mean(), values.std(ddof=0)))


def test_the_intercepts_prior_holds_at_the_mean_of_the_predictors(frame: pd.DataFrame) -> None:
    design = design_of("y ~ 1 + x + (1 | g)", frame)
    priors = resolve_priors(design, "gaussian", read_priors({"coefficients": {"Intercept": "normal(1, 2)", "x": "normal(3, 0.1)"}}))
    covariance = np.linalg.inv(priors.beta_precision)
    at_mean = np.array([1.0, frame.x.mean()])
    assert at_mean @ priors.beta_location == pytest.approx(1.0)
    assert at_mean @ covariance @ at_mean == pytest.approx(4.0)
    assert covariance[1, 1] == pytest.approx(0.01)


def test_links_have_unit_scale_and_the_observed_mean(frame: pd.DataFrame) -> None:
    priors = resolve_priors(design_of("k ~ 1 + (1 | g)", frame, "poisson"), "poisson", Priors())
    assert priors.terms[0].arguments == pytest.approx((np.log(frame.k.mean()), 2.5), rel=5e-3)  # half an event is added
    assert priors.sigma is None
    assert priors.dispersion is None


def test_a_studys_priors_replace_the_defaults_term_by_term_or_factor_by_factor(frame: pd.DataFrame) -> None:
    design = design_of("y ~ 1 + x + (1 + x | g)", frame)
    priors = resolve_priors(design, "gaussian", read_priors({"sds": {"g": {"x": "half_cauchy(1)"}}, "correlations": {"g": "lkj(5)"}}))
    assert priors.sds[0][1] == Prior("half_cauchy", (1.0,))
    assert priors.sds[0][0].name == "half_normal"
    assert priors.correlations == (5.0,)
    whole = resolve_priors(design, "gaussian", read_priors({"sds": {"g": "exponential(2)"}, "sigma": "half_normal(3)"}))
    assert [prior.name for prior in whole.sds[0]] == ["exponential", "exponential"]
    assert whole.sigma == Prior("half_normal", (3.0,))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"sd": {}}, "there is no 'sd'"),
        ({"sds": 3}, "sds is 3"),
        ({"sds": {"g": "normal(0, 1)"}}, "half_normal"),
        ({"sds": {"g": 2.5}}, "sds.g is 2.5"),
        ({"coefficients": {"x": "normal(0)"}}, "takes 2"),
        ({"coefficients": {"x": "normal(0, -1)"}}, "above zero"),
        ({"coefficients": {"x": "normal(a, 1)"}}, "numbers"),
        ({"coefficients": {"x": "cauchy(0, 1)"}}, "write normal"),
        ({"correlations": {"g": "lkj(0)"}}, "above zero"),
    ],
)
def test_a_wrong_prior_is_named_with_what_would_be_right(written: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match="priors: ") as error:
        read_priors(written)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"coefficients": {"z": "normal(0, 1)"}}, "'z'"),
        ({"sds": {"h": "half_normal(1)"}}, "'h'"),
        ({"sds": {"g": {"x": "half_normal(1)"}}}, "'x'"),
        ({"dispersion": "half_normal(1)"}, "dispersion"),
    ],
)
def test_a_prior_for_a_parameter_that_the_model_lacks_is_refused(frame: pd.DataFrame, written: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        resolve_priors(design_of("y ~ 1 + x + (1 | g)", frame), "gaussian", read_priors(written))
