"""The generalised engine's container, and what it refuses before fitting."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array, eye_array
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.errors import DataError, FitError, StudyError
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised


def design_of(text: str, frame: pd.DataFrame, family: str) -> Design:
    formula = parse_formula(text)
    return build_design(formula, cells_from_frame(formula, frame, family))


def keep_rates(seed: int = 3, n: int = 2_000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": rng.integers(0, 30, n), "h": rng.integers(0, 6, n), "x": rng.integers(0, 2, n)})
    eta = -0.5 + 0.8 * frame.x + rng.standard_normal(30)[frame.g] + 0.5 * rng.standard_normal(6)[frame.h]
    frame["y"] = rng.binomial(1, expit(eta))
    return frame.assign(g=frame.g.astype(str), h=frame.h.astype(str))


def test_the_container_is_whole() -> None:
    design = design_of("y ~ x + (1 + x | g) + (1 | h)", keep_rates(), "binomial")
    fit = fit_generalised(design, "binomial", interval=0.9, seed=1)
    assert (fit.engine, fit.method, fit.family, fit.interval) == ("likelihood", "laplace", "binomial", 0.9)
    assert [(c.grouping_factor, c.term, c.other_term) for c in fit.components] == [
        ("g", "Intercept", None),
        ("g", "x", None),
        ("g", "Intercept", "x"),
        ("h", "Intercept", None),
    ]
    assert fit.n_parameters == 2 + 3 + 1
    assert [part.shape for part in fit.conditional_variance] == [(30, 2), (6, 1)]
    assert all(((part >= 0) & (part <= 1)).all() for part in fit.shrinkage)
    gate = next(check for check in fit.checks if check.check == "converged")
    assert gate.gate and gate.passed
    assert fit.joint.mean.shape == (2 + design.n_effects,)


def test_draws_of_the_joint_have_its_covariance() -> None:
    design = design_of("y ~ x + (1 + x | g) + (1 | h)", keep_rates(), "binomial")
    joint = fit_generalised(design, "binomial").joint
    size = len(joint.mean)
    rows = csr_array(np.vstack([np.eye(size), np.ones((1, size)), np.linspace(-1, 1, size)]))
    summary = joint.combine(rows, 0.95)
    values = joint.draws(40_000, 5) @ rows.T.toarray()
    # the sd of 40,000 draws has a relative error of 0.35 %: five of those
    np.testing.assert_allclose(values.std(axis=0), summary.std_error, rtol=0.018)
    np.testing.assert_allclose(values.mean(axis=0), summary.estimate, atol=5 * summary.std_error.max() / 200)


def test_the_joints_coefficients_have_the_hessians_standard_errors() -> None:
    design = design_of("y ~ x + (1 | g)", keep_rates(), "binomial")
    fit = fit_generalised(design, "binomial")
    picks = csr_array(eye_array(2, 2 + design.n_effects, format="csr"))
    upper = fit.joint.combine(picks, 0.95)
    assert (upper.std_error > 0).all()
    draws = fit.joint.draws(20_000, 1)[:, :2]
    np.testing.assert_allclose(draws.std(axis=0), upper.std_error, rtol=0.03)


def test_without_group_terms_it_is_a_generalised_linear_model() -> None:
    frame = pd.DataFrame({"x": np.repeat([0, 1], [40, 60]), "y": np.repeat([0, 1, 0, 1], [30, 10, 15, 45])})
    fit = fit_generalised(design_of("y ~ x", frame, "binomial"), "binomial")
    first, second = np.log(10 / 30), np.log(45 / 15)
    assert fit.method == "ml"
    np.testing.assert_allclose(fit.joint.mean, [first, second - first], atol=1e-8)
    summary = fit.joint.combine(csr_array(np.eye(2)), 0.95)
    np.testing.assert_allclose(summary.std_error, [np.sqrt(1 / 10 + 1 / 30), np.sqrt(1 / 10 + 1 / 30 + 1 / 45 + 1 / 15)], rtol=1e-5)


def test_groups_that_are_all_zero_or_all_one_are_fitted() -> None:
    frame = keep_rates()
    frame.loc[frame.g == "3", "y"] = 0
    frame.loc[frame.g == "4", "y"] = 1
    design = design_of("y ~ x + (1 | g)", frame, "binomial")
    fit = fit_generalised(design, "binomial")
    modes = dict(zip(design.blocks[0].factor.levels, fit.joint.mean[2:], strict=True))
    assert -6 < modes["3"] < -1 and 1 < modes["4"] < 6


@pytest.mark.parametrize("family", ["binomial", "poisson", "negative_binomial"])
def test_a_separating_predictor_is_named(family: str) -> None:
    frame = keep_rates().assign(free="no")
    frame.loc[:99, "free"] = "yes"
    frame.loc[frame.free == "yes", "y"] = 0
    with pytest.raises(FitError, match=r"Perfect separation: free\[yes\] predicts"):
        fit_generalised(design_of("y ~ x + free + (1 | g)", frame, family), family)


def test_separation_by_a_continuous_predictor_is_named_and_near_separation_is_fitted() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"price": rng.uniform(0, 10, 300).round(2), "x": rng.integers(0, 2, 300), "g": rng.choice(list("abcdef"), 300)})
    frame["y"] = (frame.price > 5).astype(int)
    with pytest.raises(FitError, match="Perfect separation: price"):
        fit_generalised(design_of("y ~ price + (1 | g)", frame, "binomial"), "binomial")
    frame.loc[[3, 7, 9], "y"] = 1 - frame.loc[[3, 7, 9], "y"]
    fit = fit_generalised(design_of("y ~ price + (1 | g)", frame, "binomial"), "binomial")
    assert np.isfinite(fit.joint.mean).all() and fit.joint.mean[1] > 0


@pytest.mark.parametrize(
    ("family", "outcome", "message"),
    [("poisson", -1.0, "summed outcome is -1"), ("gamma", 0.0, "above zero for gamma"), ("binomial", 2.0, "number of successes")],
)
def test_outcomes_outside_the_familys_range_are_refused(family: str, outcome: float, message: str) -> None:
    frame = pd.DataFrame({"g": ["a", "a", "b", "c"], "y": [1.0, 1.0, 1.0, outcome]})
    with pytest.raises(DataError, match=message), np.errstate(all="ignore"):
        fit_generalised(design_of("y ~ 1 + (1 | g)", frame, family), family)


@pytest.mark.parametrize(("family", "outcome"), [("binomial", 0), ("binomial", 1), ("poisson", 0), ("negative_binomial", 0)])
def test_outcomes_that_are_all_alike_are_refused(family: str, outcome: int) -> None:
    frame = keep_rates(n=50).assign(y=outcome)
    with pytest.raises(FitError, match=f"Every outcome is {outcome}"):
        fit_generalised(design_of("y ~ x + (1 | g)", frame, family), family)


def test_an_offset_that_is_not_finite_is_refused() -> None:
    frame = pd.DataFrame({"g": list("abca"), "y": [1, 2, 0, 3], "visits": [1.0, 2.0, 0.0, 3.0]})
    for family in ("poisson", "negative_binomial"):
        with pytest.raises(DataError, match="finite"), np.errstate(all="ignore"):
            fit_generalised(design_of("y ~ 1 + offset(log(visits)) + (1 | g)", frame, family), family)


def test_an_unknown_family_and_odd_quadrature_are_refused() -> None:
    design = design_of("y ~ x + (1 | g)", keep_rates(), "binomial")
    with pytest.raises(StudyError, match="'tweedie'"):
        fit_generalised(design, "tweedie")
    with pytest.raises(StudyError, match="quadrature_points: 0"):
        fit_generalised(design, "binomial", quadrature_points=0)
