"""Predictors far from zero, against the likelihood of the rows: slopes, standard deviations, correlations and their limits."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.errors import FitError
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.intervals.linear_profile import with_profile_intervals
from multilevel.linear.linear_engine import fit_linear
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

AS_OF = datetime.date(2026, 11, 1)
FEWEST = {"draws": 200, "chains": 2, "tune": 150}


def table(fit: StudyFit, name: str) -> pd.DataFrame:
    return fit.tables[name].to_pandas()


def bare_table() -> pd.DataFrame:
    """Eight groups whose slopes differ; f in its own unit, a thousand millionth of it, and far from zero."""
    rng = np.random.default_rng(5)
    g = np.arange(160) % 8
    u, s = rng.normal(0, 1, 8), rng.normal(0, 0.8, 8)
    f = rng.choice([0.8, 1.2, 1.6, 2.0, 2.4], 160)
    y = (5 + 2 * f + u[g] + s[g] * (f - 1.6) + rng.normal(0, 1, 160)).round(5)
    return pd.DataFrame({"g": [f"c{i:02d}" for i in g], "f": f, "y": y, "f_giga": f * 1e9, "f_far": f + 1e8})


def bare_fit(text: str, frame: pd.DataFrame | None = None) -> Fit:
    formula = parse_formula(text)
    return fit_linear(build_design(formula, cells_from_frame(formula, bare_table() if frame is None else frame, "gaussian")))


def bare(formula: str, **options: object) -> StudyFit:
    parsed = parse_formula(formula)
    given: dict[str, object] = {"engine": "likelihood", "seed": 1} | options
    return fit_study(parsed, cells_from_frame(parsed, bare_table(), "gaussian"), fit_options("units", AS_OF, "run", **given))


@pytest.mark.parametrize(("term", "unit"), [("f", 1.0), ("f_giga", 1e9)])
def test_the_interval_of_a_slopes_sd_is_that_of_the_likelihood_in_any_unit(term: str, unit: float) -> None:
    components = table(bare(f"y ~ 1 + {term} + (1 + {term} | g)"), "variance_components")
    slope = components[(components.term == term) & (components.quantity == "sd")].iloc[0]
    assert (slope.lower * unit, slope.upper * unit) == pytest.approx((0.409, 1.505), abs=5e-4)
    correlation = components[components.quantity == "correlation"].iloc[0]
    assert (correlation.lower, correlation.upper) == pytest.approx((-0.9875, -0.6305), abs=5e-5)


@pytest.mark.parametrize(("term", "unit", "intercept"), [("f", 1.0, 1.0), ("f_giga", 1e9, 1.0), ("f_far", 1.0, 1e8)])
def test_profile_limits_of_standard_deviations_are_those_of_the_likelihood_in_any_unit(term: str, unit: float, intercept: float) -> None:
    fit = with_profile_intervals(bare_fit(f"y ~ 1 + {term} + (1 + {term} | g)"))
    of_intercepts, slope, correlation, sigma = fit.components
    assert (slope.lower * unit, slope.upper * unit) == pytest.approx((0.36975, 1.41695), abs=1e-5)
    assert (sigma.lower, sigma.upper) == pytest.approx((0.88433, 1.11440), abs=1e-5)
    assert fit.coefficient_limits[1] * unit == pytest.approx((1.01175, 2.30127), abs=1e-5)
    # at a hundred million below the data intercepts are the slopes' multiples
    at_zero = (0.96363, 3.14538) if intercept == 1.0 else (slope.lower, slope.upper)
    assert (of_intercepts.lower / intercept, of_intercepts.upper / intercept) == pytest.approx(at_zero, abs=1e-5)
    if intercept == 1.0:
        assert (correlation.lower, correlation.upper) == pytest.approx((-0.98802, -0.64329), abs=1e-5)
    else:
        assert (correlation.lower, correlation.upper, correlation.interval_method) == (None, None, None)
        assert "so far from 0" in correlation.note


@pytest.mark.parity
def test_the_correlation_with_intercepts_far_from_the_data_has_the_limits_of_its_rows() -> None:
    distance = 600.0
    frame = bare_table().assign(x=lambda frame: frame.f + distance)
    fit = with_profile_intervals(bare_fit("y ~ 1 + x + (1 + x | g)", frame))
    correlation = fit.components[2]
    best = least_deviance(frame, distance, None)
    for limit in (correlation.lower, correlation.upper):
        assert -1.0 < limit < -0.99
        assert least_deviance(frame, distance, limit) - best == pytest.approx(chi2.ppf(0.95, 1), abs=2e-3)


def least_deviance(frame: pd.DataFrame, distance: float, correlation: float | None) -> float:
    """-2 log-likelihood of y ~ f + (1 + f | g), least over everything but the correlation of slopes and intercepts at f = -distance."""
    X = np.column_stack([np.ones(len(frame)), frame.f])
    groups = [np.column_stack([X[frame.g == level], frame.y[frame.g == level]]) for level in frame.g.unique()]
    products = np.array([own.T @ own for own in groups])

    def covariance(v: np.ndarray) -> np.ndarray:
        a, b = np.exp(v[:2])
        if correlation is None:
            return np.array([[a * a, np.tanh(v[3]) * a * b], [np.tanh(v[3]) * a * b, b * b]])
        # from intercepts at -distance, whose sd is about as many times that of the slopes, to those at f = 0
        back = np.array([[1.0, distance], [0.0, 1.0]])
        far = np.array([[(a * distance) ** 2, correlation * a * b * distance], [correlation * a * b * distance, b * b]])
        return np.asarray(back @ far @ back.T)

    def deviance(v: np.ndarray) -> float:
        # by Woodbury's identity, from (X, y)'(X, y) of each group
        S, variance = covariance(v), np.exp(2 * v[2])
        with_gram = np.eye(2) + products[:, :2, :2] @ S / variance
        left = products - products[:, :, :2] @ S @ np.linalg.solve(with_gram, products[:, :2]) / variance
        total = left.sum(axis=0) / variance
        explained = total[2, :2] @ np.linalg.solve(total[:2, :2], total[:2, 2])
        logs = len(frame) * np.log(2 * np.pi * variance) + np.linalg.slogdet(with_gram)[1].sum()
        return float(logs + total[2, 2] - explained)

    starts = [[0.5, -0.3, 0.0, -1.5]] if correlation is None else [[-0.3, -0.3, 0.0], [0.1, 0.1, 0.0]]
    options = {"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-9}
    return min(float(minimize(deviance, start, method="Nelder-Mead", options=options).fun) for start in starts)


@pytest.mark.parity
def test_a_predictor_far_from_zero_has_its_slope_under_the_bayesian_engine() -> None:
    near, far = (
        table(bare(f"y ~ 1 + {term} + (1 | g)", engine="bayesian", sampling=FEWEST), "population_coefficients") for term in ("f", "f_far")
    )
    for pooling in ("partial", "complete", "none"):
        one, other = (
            found[(found.pooling == pooling) & found.term.isin(["f", "f_far"])][["estimate", "std_error", "lower", "upper"]].to_numpy()
            for found in (near, far)
        )
        np.testing.assert_allclose(other, one, rtol=1e-6)
        assert 1.3 < float(one[0, 0]) < 2.0


def test_products_far_from_zero_are_refused_with_what_to_write() -> None:
    frame = bare_table().assign(v=np.random.default_rng(1).normal(1e8, 1, 160), w=np.random.default_rng(2).normal(2, 1, 160))
    for formula, term in (("y ~ 1 + f_far + I(f_far ** 2) + (1 | g)", "I\\(f_far"), ("y ~ 1 + v * w + (1 | g)", "v:w")):
        parsed = parse_formula(formula)
        with pytest.raises(FitError, match=f"{term}.*far from zero.*Subtract a typical value"):
            fit_study(parsed, cells_from_frame(parsed, frame, "gaussian"), fit_options("units", AS_OF, "run", "likelihood"))
