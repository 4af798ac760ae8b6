"""At the limits of a profile interval the deviance has risen by 3.841: computed again from the rows, by code of its own."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize, minimize_scalar

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.fit.container import Fit, VarianceComponent
from multilevel.formula.parse import parse_formula
from multilevel.study.engines import fit_partial
from multilevel.study.options import fit_options

RISE = stats.chi2.ppf(0.95, 1)


def fitted(text: str, frame: pd.DataFrame, family: str = "gaussian", **options: object) -> Fit:
    formula = parse_formula(text)
    asked = fit_options("classic", datetime.date(2026, 11, 1), "run", "likelihood", **options)  # type: ignore[arg-type]
    return fit_partial(build_design(formula, cells_from_frame(formula, frame, family)), asked)


def component(fit: Fit, term: str, other: str | None = None) -> VarianceComponent:
    return next(found for found in fit.components if (found.term, found.other_term) == (term, other))


def linear_rows(seed: int, sd: float, n: int = 48) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 5, n), rng.normal(size=n).round(2)
    y = 4.0 + 0.5 * x + sd * rng.normal(size=5)[g] + 0.4 * sd * rng.normal(size=5)[g] * x + rng.normal(0, 0.8, n)
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{level}" for level in g]})


def dense_deviance(frame: pd.DataFrame, covariance: np.ndarray, sigma: float, *, reml: bool = False) -> float:
    """-2 log-likelihood of y ~ x + (1 + x | g) with these covariances, the coefficients at their best."""
    X = np.column_stack([np.ones(len(frame)), frame.x])
    same = frame.g.to_numpy()[:, None] == frame.g.to_numpy()[None, :]
    V = sigma**2 * np.eye(len(frame)) + same * (X @ covariance @ X.T)
    solved = np.linalg.solve(V, np.column_stack([X, frame.y]))
    beta = np.linalg.solve(X.T @ solved[:, :2], X.T @ solved[:, 2])
    residual = frame.y.to_numpy() - X @ beta
    value = np.linalg.slogdet(2 * np.pi * V)[1] + residual @ np.linalg.solve(V, residual)
    return float(value + (np.linalg.slogdet(X.T @ solved[:, :2] / (2 * np.pi))[1] if reml else 0.0))


def least(function: Callable[[np.ndarray], float], starts: list[list[float]]) -> float:
    """The lowest minimum from several starts, gradients by differences so large that rounding is nothing beside them."""
    return min(float(minimize(function, start, method="BFGS", options={"gtol": 1e-4, "eps": 1e-4}).fun) for start in starts)


def intercept_only(sd: float) -> np.ndarray:
    return np.diag([sd**2, 0.0])


@pytest.mark.parametrize(
    ("asked", "seed", "sd"),
    [
        ("wald", 1, 0.0),
        ("profile", 2, 0.1),
        ("wald", 5, 0.3),
        pytest.param("profile", 1, 0.0, marks=pytest.mark.parity),
        pytest.param("wald", 2, 0.1, marks=pytest.mark.parity),
        pytest.param("profile", 5, 0.3, marks=pytest.mark.parity),
    ],
)
def test_a_linear_model_without_much_variance_has_the_profile_limits_of_its_rows(seed: int, sd: float, asked: str) -> None:
    frame = linear_rows(seed, sd)
    fit = fitted("y ~ x + (1 | g)", frame, intervals=asked)
    found = component(fit, "Intercept")
    assert found.interval_method == "profile"
    assert found.lower is not None and found.upper is not None

    def profile(at: float) -> float:
        return float(
            minimize_scalar(lambda s: dense_deviance(frame, intercept_only(at), np.exp(s)), bounds=(-4, 3), options={"xatol": 1e-9}).fun
        )

    best = least(lambda v: dense_deviance(frame, intercept_only(v[0]), np.exp(v[1])), [[0.5, 0.0], [0.01, 0.0]])
    assert profile(found.upper) - best == pytest.approx(RISE, abs=1e-3)
    if found.lower > 0:
        assert profile(found.lower) - best == pytest.approx(RISE, abs=1e-3)
    else:
        assert profile(0.0) - best < RISE


@pytest.mark.parity
def test_a_singular_fit_with_a_slope_has_the_profile_limits_of_its_rows() -> None:
    frame = linear_rows(8, 0.25)
    fit = fitted("y ~ x + (1 + x | g)", frame)
    assert fit.singular

    def value(sds: np.ndarray, r: float, log_sigma: float) -> float:
        a, b = np.abs(sds)
        return dense_deviance(frame, np.array([[a * a, r * a * b], [r * a * b, b * b]]), np.exp(log_sigma))

    best = least(lambda v: value(v[:2], np.tanh(v[2]), v[3]), [[0.3, 0.2, 1.0, 0.0], [0.3, 0.2, -1.0, 0.0]])
    starts = [[0.3, 1.0, 0.0], [0.3, -1.0, 0.0], [0.05, 3.0, 0.0], [0.05, -3.0, 0.0]]
    for term, profile in (
        ("Intercept", lambda at: least(lambda v: value(np.array([at, v[0]]), np.tanh(v[1]), v[2]), starts)),
        ("x", lambda at: least(lambda v: value(np.array([v[0], at]), np.tanh(v[1]), v[2]), starts)),
    ):
        found = component(fit, term)
        assert found.interval_method == "profile"
        assert profile(found.upper) - best == pytest.approx(RISE, abs=1e-3)
        assert profile(found.lower) - best <= RISE + 1e-3
        assert found.lower == 0.0 or profile(found.lower) - best == pytest.approx(RISE, abs=1e-3)
    correlation = component(fit, "Intercept", "x")
    assert correlation.interval_method == "profile"
    for limit in (correlation.lower, correlation.upper):
        rise = least(lambda v, at=limit: value(v[:2], at, v[2]), [[0.3, 0.2, 0.0], [0.01, 0.3, 0.0], [0.3, 0.01, 0.0]]) - best
        assert rise < RISE + 1e-3
        assert abs(limit) == 1.0 or rise == pytest.approx(RISE, abs=1e-3)


def test_an_estimate_that_the_likelihoods_interval_leaves_out_has_that_of_the_restricted_likelihood() -> None:
    # six groups and four predictors of theirs: the restricted variance has one degree of freedom, the other is a sixth of it
    rng = np.random.default_rng(4)
    of_group, g = rng.normal(size=(6, 5)), np.repeat(np.arange(6), 20)
    frame = pd.DataFrame({"y": of_group[g, 4] + rng.normal(0, 0.1, 120), "g": [f"g{level}" for level in g]})
    names = ["a", "b", "c", "d"]
    frame[names] = of_group[g, :4]
    fit = fitted("y ~ a + b + c + d + (1 | g)", frame)
    found = component(fit, "Intercept")
    X = np.column_stack([np.ones(120), frame[names]])

    def restricted(sd: float, log_sigma: float) -> float:
        V = np.exp(2 * log_sigma) * np.eye(120) + sd**2 * (g[:, None] == g[None, :])
        inner = X.T @ np.linalg.solve(V, X)
        residual = frame.y.to_numpy() - X @ np.linalg.solve(inner, X.T @ np.linalg.solve(V, frame.y.to_numpy()))
        return float(np.linalg.slogdet(V)[1] + np.linalg.slogdet(inner)[1] + residual @ np.linalg.solve(V, residual))

    assert found.interval_method == "profile"
    assert found.lower < found.estimate < found.upper
    best = restricted(found.estimate, np.log(fit.sigma))
    for limit in (found.lower, found.upper):
        profile = minimize_scalar(lambda s, at=limit: restricted(at, s), bounds=(-4, 0), options={"xatol": 1e-9}).fun
        assert profile - best == pytest.approx(RISE, abs=1e-3)


FAMILIES = ["binomial", "poisson", "negative_binomial", "gamma"]


def generalised_rows(family: str, seed: int, sd: float = 0.25) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, x = np.arange(60) % 6, rng.normal(size=60).round(2)
    eta = 0.4 + 0.3 * x + sd * rng.normal(size=6)[g]
    draw = {
        "binomial": lambda: rng.binomial(1, 1 / (1 + np.exp(-eta))),
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "negative_binomial": lambda: rng.negative_binomial(3, 3 / (3 + np.exp(eta))),
        "gamma": lambda: rng.gamma(3.0, np.exp(eta) / 3.0),
    }
    return pd.DataFrame({"y": draw[family]().astype(float), "x": x, "g": [f"g{level}" for level in g]})


def log_density(family: str, y: np.ndarray, eta: np.ndarray, dispersion: float) -> np.ndarray:
    mean = np.exp(np.clip(eta, -300, 300))
    if family == "binomial":
        return y * eta - np.logaddexp(0, eta)
    if family == "poisson":
        return stats.poisson.logpmf(y, mean)
    if family == "negative_binomial":
        return stats.nbinom.logpmf(y, dispersion, dispersion / (dispersion + mean))
    return stats.gamma.logpdf(y, dispersion, scale=mean / dispersion)


def laplace_deviance(family: str, frame: pd.DataFrame, beta: np.ndarray, sd: float, dispersion: float) -> float:
    """Laplace's -2 log-likelihood of y ~ x + (1 | g): each group's mode by Newton's steps, derivatives by differences."""
    total = 0.0
    for _, rows in frame.groupby("g"):
        fixed, y = beta[0] + beta[1] * rows.x.to_numpy(), rows.y.to_numpy()

        def log_joint(u: float, fixed: np.ndarray = fixed, y: np.ndarray = y) -> float:
            return float(log_density(family, y, fixed + sd * u, dispersion).sum()) - u * u / 2.0

        mode, h = 0.0, 1e-3
        for _ in range(4):
            ahead, here, behind = log_joint(mode + h), log_joint(mode), log_joint(mode - h)
            curvature = -(ahead - 2.0 * here + behind) / h**2
            mode += (ahead - behind) / (2.0 * h) / curvature
        total += -2.0 * log_joint(mode) + np.log(curvature)
    return total


@pytest.mark.parametrize("family", [pytest.param(family, marks=() if family == "binomial" else pytest.mark.parity) for family in FAMILIES])
def test_a_generalised_model_without_much_variance_has_the_profile_limits_of_its_rows(family: str) -> None:
    frame = generalised_rows(family, 3, 0.15)
    fit = fitted("y ~ x + (1 | g)", frame, family)
    found = component(fit, "Intercept")
    assert found.interval_method == "profile"
    has_dispersion = fit.dispersion is not None

    def at(v: np.ndarray, sd: float) -> float:
        return laplace_deviance(family, frame, v[:2], sd, float(np.exp(v[2])) if has_dispersion else 1.0)

    start = [*fit.joint.mean[:2], *([np.log(fit.dispersion)] if fit.dispersion is not None else [])]

    def profile(sd: float) -> float:
        return least(lambda v: at(v, sd), [start])

    best = min(profile(found.estimate), profile(0.0))
    assert profile(found.upper) - best == pytest.approx(RISE, abs=1e-3)
    assert found.lower == 0.0
    assert profile(0.0) - best < RISE
