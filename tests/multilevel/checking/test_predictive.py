"""Predictive checks from the statistics fail where the model is plainly wrong, and only there."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.checking.predictive import predictive_checks
from multilevel.design.build import build_design
from multilevel.design.reduction import coefficient_matrix, reduce_design
from multilevel.fit.container import Check, Fit
from multilevel.fit.joint_draws import DrawsJoint
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised

N = 4000


def fit_at_the_truth(text: str, family: str, frame: pd.DataFrame, values: np.ndarray, scale: float | None = None) -> Fit:
    """A fit whose posterior is a point at ``values`` (p + q,), so that only the outcome's distribution is in question."""
    formula = parse_formula(text)
    design = build_design(formula, cells_from_frame(formula, frame, family))
    joint = DrawsJoint(np.tile(values, (200, 1)))
    sigma, dispersion = (scale, None) if family == "gaussian" else (None, scale)
    return Fit(design, family, "bayesian", "test", 0.95, joint, (), (), (), (), sigma=sigma, dispersion=dispersion)


@pytest.fixture(scope="module")
def groups() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    g, week = rng.integers(8, size=N), rng.integers(50, size=N)
    return g, week, rng.normal(0, 0.3, 8)


def check_of(
    text: str, family: str, frame: pd.DataFrame, b: np.ndarray, *, beta: float = 1.0, scale: float | None = None
) -> dict[str, Check]:
    fit = fit_at_the_truth(text, family, frame, np.concatenate([[beta], b]), scale)
    return {check.check: check for check in predictive_checks(fit)}


def test_counts_of_the_right_distribution_pass(groups: tuple) -> None:
    g, _, b = groups
    rng, mu = np.random.default_rng(0), np.exp(1.0 + b[g])
    poisson = pd.DataFrame({"g": g.astype(str), "y": rng.poisson(mu)})
    negative = poisson.assign(y=rng.negative_binomial(0.8, 0.8 / (0.8 + mu)))
    assert check_of("y ~ 1 + (1 | g)", "poisson", poisson, b)["predictive_dispersion"].passed
    checks = check_of("y ~ 1 + (1 | g)", "negative_binomial", negative, b, scale=0.8)
    assert checks["predictive_dispersion"].passed
    assert checks["predictive_zeros"].passed
    assert not any(check.gate for check in checks.values())


def test_a_plain_poisson_fails_on_counts_that_vary_many_times_their_mean(groups: tuple) -> None:
    g, week, b = groups
    rng = np.random.default_rng(1)
    mu = np.exp(1.0 + b[g]) * rng.gamma(0.3, 1 / 0.3, size=N)
    frame = pd.DataFrame({"g": g.astype(str), "week": week, "y": rng.poisson(mu)})
    formula = parse_formula("y ~ 1 + C(week) + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, frame, "poisson"))
    values = np.concatenate([[1.0], np.zeros(len(design.population) - 1), b])
    joint = DrawsJoint(np.tile(values, (200, 1)))
    check = predictive_checks(Fit(design, "poisson", "bayesian", "test", 0.95, joint, (), (), (), ()))[0]
    assert not check.passed
    assert check.value is not None
    assert check.value > 3
    assert "negative_binomial" in check.message


def test_too_many_zeros_for_a_negative_binomial_are_seen(groups: tuple) -> None:
    g, _, b = groups
    rng, mu = np.random.default_rng(2), np.exp(1.0 + b[g])
    y = rng.negative_binomial(5.0, 5.0 / (5.0 + mu)) * (rng.uniform(size=N) > 0.4)
    checks = check_of("y ~ 1 + (1 | g)", "negative_binomial", pd.DataFrame({"g": g.astype(str), "y": y}), b, scale=5.0)
    assert not checks["predictive_zeros"].passed


def test_binomial_gamma_and_gaussian_pass_when_right_and_fail_when_wrong(groups: tuple) -> None:
    g, week, b = groups
    rng = np.random.default_rng(3)
    eta, shock = -0.5 + b[g], rng.normal(0, 1.0, size=(8, 50))[g, week]
    frame = pd.DataFrame({"g": g.astype(str), "w": week.astype(str)})
    for family, draw, scale in (
        ("binomial", lambda e: rng.binomial(1, 1 / (1 + np.exp(-e))), None),
        ("gamma", lambda e: rng.gamma(2.0, np.exp(e) / 2.0), 2.0),
        ("gaussian", lambda e: rng.normal(e, 1.0), 1.0),
    ):
        values = np.concatenate([[-0.5], np.zeros(50), b])
        text = "y ~ 1 + (1 | w) + (1 | g)"
        right = fit_at_the_truth(text, family, frame.assign(y=draw(eta)), values, scale)
        wrong = fit_at_the_truth(text, family, frame.assign(y=draw(eta + shock)), values, scale)
        assert predictive_checks(right)[0].passed, family
        assert not predictive_checks(wrong)[0].passed, family


@pytest.mark.parametrize("last", [45, 104, 140])
def test_groups_that_stopped_buying_do_not_make_the_others_vary(last: int) -> None:
    """Slopes of ten groups are known to be low, not how low: exp() of normal draws far from the data has no mean."""
    rng = np.random.default_rng(11)
    g, x = np.repeat(np.arange(80), 8), np.tile(np.arange(8.0), 80)
    rate = np.exp(0.5 + rng.normal(0, 0.5, 80)[g] + (0.05 + rng.normal(0, 0.1, 80)[g]) * x)
    frame = pd.DataFrame({"g": g.astype(str), "x": x, "y": rng.poisson(rate)})
    stopped = pd.DataFrame({"g": [str(i) for i in range(10)] * 2, "x": [float(last)] * 10 + [last + 7.0] * 10, "y": 0})
    formula = parse_formula("y ~ 1 + x + (1 + x | g)")
    both = pd.concat([frame, stopped], ignore_index=True)
    fit = fit_generalised(build_design(formula, cells_from_frame(formula, both, "poisson")), "poisson")
    check, zeros = predictive_checks(fit)
    assert check.value is None or check.value < 2.0
    assert check.passed
    assert zeros.passed


def test_a_model_without_population_coefficients_is_checked(groups: tuple) -> None:
    g, _, b = groups
    frame = pd.DataFrame({"g": g.astype(str), "y": np.random.default_rng(4).poisson(np.exp(b[g]))})
    formula = parse_formula("y ~ 0 + (1 | g)")
    fit = fit_generalised(build_design(formula, cells_from_frame(formula, frame, "poisson")), "poisson")
    assert predictive_checks(fit)[0].value == pytest.approx(1.0, abs=0.5)


def test_draws_that_do_not_fit_into_memory_leave_a_row_without_a_value(groups: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    g, _, b = groups
    monkeypatch.setattr("multilevel.checking.predictive.MOST_VALUES", 500)
    checks = check_of("y ~ 1 + (1 | g)", "poisson", pd.DataFrame({"g": g.astype(str), "y": 1}), b)
    assert checks["predictive_dispersion"].value is None
    assert "too many to hold" in checks["predictive_dispersion"].message


def test_the_coefficient_matrix_is_x_beside_z(groups: tuple) -> None:
    g, week, _ = groups
    frame = pd.DataFrame({"g": g.astype(str), "w": (week % 3), "y": np.ones(N)})
    formula = parse_formula("y ~ 1 + w + (1 + w | g)")
    rows = reduce_design(build_design(formula, cells_from_frame(formula, frame, "poisson")))
    matrix = coefficient_matrix(rows).toarray()
    assert matrix.shape == (len(rows.outcome), 2 + 16)
    np.testing.assert_array_equal(matrix[:, :2], rows.X)
    np.testing.assert_array_equal(matrix[:, 2::2].sum(axis=1), 1.0)
    np.testing.assert_array_equal(matrix[:, 3::2].sum(axis=1), rows.X[:, 1])
