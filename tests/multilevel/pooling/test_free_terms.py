"""One term of a factor free, everything else as fitted: against the normal equations written out, and against a general optimiser."""

from __future__ import annotations

from datetime import date
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag, pinvh
from scipy.optimize import minimize
from scipy.sparse import csr_array

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.effect_rows import coefficient_rows
from multilevel.design.nesting import nesting
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear
from multilevel.pooling.free_intercepts import coefficients_of_term, free_term
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options


def frame(seed: int = 1, rows: int = 900, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, h, x = rng.integers(0, 9, rows), rng.integers(0, 7, rows), rng.normal(size=rows).round(1)
    eta = 0.4 * x + 0.5 * rng.normal(size=9)[g] + 0.4 * rng.normal(size=7)[h] + 0.3 * rng.normal(size=7)[h] * x
    table = pd.DataFrame({"g": g, "h": h, "x": x + shift, "eta": eta, "y": eta + rng.normal(size=rows)})
    table["count"] = rng.poisson(np.exp(eta / 2))
    table["bought"] = rng.random(rows) < 1 / (1 + np.exp(-eta))
    table["some"] = np.where(rng.random(rows) < 1 / (1 + np.exp(-1 - eta)), np.exp(eta + 0.5 * rng.normal(size=rows)), 0.0)
    return table


def written_out(table: pd.DataFrame, fit: Fit, term: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Of ``1 + x + (1 | g) + (1 + x | h)``, x at its mean: columns of (beta, b), and the prior precision with ``term`` of h free."""
    x = table.x.to_numpy() - table.x.mean()
    blocks = {block.factor.name: covariance for block, covariance in zip(fit.design.blocks, fit.covariances, strict=True)}
    turn = np.array([[1.0, table.x.mean()], [0.0, 1.0]])
    covariance = turn @ blocks["h"] @ turn.T
    place = ["Intercept", "x"].index(term)
    inverse = np.zeros((2, 2))
    inverse[1 - place, 1 - place] = 1.0 / covariance[1 - place, 1 - place]
    one_g, one_h = np.eye(9)[table.g], np.eye(7)[table.h]
    effects = np.stack([one_h, one_h * x[:, None]], axis=2).reshape(len(table), -1)
    whole = np.hstack([np.ones((len(table), 1)), x[:, None], one_g, effects])
    prior = block_diag(np.zeros((2, 2)), np.eye(9) / blocks["g"][0, 0], np.kron(np.eye(7), inverse)) * scale
    return whole, prior


def rows_of_term(table: pd.DataFrame, term: str, width: int) -> np.ndarray:
    """(7, width): the coefficient of every level of h, the intercept at x = 0."""
    rows = np.zeros((7, width))
    for level in range(7):
        intercept, slope = [0, 11 + 2 * level], [1, 12 + 2 * level]
        if term == "Intercept":
            rows[level, intercept], rows[level, slope] = 1.0, -table.x.mean()
        else:
            rows[level, slope] = 1.0
    return rows


def ours(fit: Fit, term: str):
    free = free_term(fit, "h", term)
    assert free.determined.all()
    return coefficients_of_term(free, fit, term, nesting(fit.design).lineage("h"))


@pytest.mark.parametrize("term", ["Intercept", "x"])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_coefficients_and_errors_are_those_of_the_normal_equations(term: str, shift: float) -> None:
    table = frame(shift=shift)
    parsed = parse_formula("y ~ 1 + x + (1 | g) + (1 + x | h)")
    fit = fit_linear(build_design(parsed, cells_from_frame(parsed, table, "gaussian")))
    assert fit.sigma is not None
    whole, prior = written_out(table, fit, term, fit.sigma**2)
    inverse = pinvh(whole.T @ whole + prior, rtol=1e-11)
    rows = rows_of_term(table, term, whole.shape[1])
    found = ours(fit, term)
    np.testing.assert_allclose(found.estimate, rows @ (inverse @ (whole.T @ table.y.to_numpy())), atol=1e-7)
    np.testing.assert_allclose(found.std_error, fit.sigma * np.sqrt(np.einsum("ij,jk,ik->i", rows, inverse, rows)), rtol=1e-6)


@pytest.mark.parametrize(("outcome", "family"), [("count", "poisson"), ("bought", "binomial")])
@pytest.mark.parametrize("term", ["Intercept", "x"])
def test_modes_are_those_of_a_general_optimiser(outcome: str, family: str, term: str) -> None:
    table = frame(3)
    parsed = parse_formula(f"{outcome} ~ 1 + x + (1 | g) + (1 + x | h)")
    fit = fit_generalised(build_design(parsed, cells_from_frame(parsed, table, family)), family)
    whole, prior = written_out(table, fit, term, 1.0)
    y = table[outcome].to_numpy(float)

    def objective(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        eta = whole @ coefficients
        mean = np.exp(eta) if family == "poisson" else 1 / (1 + np.exp(-eta))
        value = np.sum((mean if family == "poisson" else np.logaddexp(0, eta)) - y * eta)
        pull = prior @ coefficients
        return value + coefficients @ pull / 2, whole.T @ (mean - y) + pull

    best = minimize(objective, np.zeros(whole.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-8, "maxiter": 5_000})
    np.testing.assert_allclose(ours(fit, term).estimate, rows_of_term(table, term, whole.shape[1]) @ best.x, atol=2e-5)


@cache
def published(formula: str, family: str, engine: Any = "likelihood", shift: float = 0.0) -> pd.DataFrame:
    parsed, table = parse_formula(formula), frame(4, 400)
    table["x"] = table.x.round() + shift
    table.loc[table.h == 3, "x"] = shift
    options = {"sampling": {"draws": 200, "chains": 2, "tune": 150}} if engine == "bayesian" else {}
    study = fit_study(parsed, cells_from_frame(parsed, table, family), fit_options("s", date(2026, 1, 31), "r", engine, **options))
    return study.tables["group_coefficients"].to_pandas()


def own(table: pd.DataFrame, factor: str, term: str) -> pd.DataFrame:
    return table[(table.grouping_factor == factor) & (table.term == term) & ~table.is_new].set_index("level")


def test_a_slope_is_null_where_its_predictor_does_not_vary_and_the_intercept_is_not() -> None:
    table = published("y ~ 1 + x + (1 | g) + (1 + x | h)", "gaussian")
    slope = own(table, "h", "x")
    assert slope.index[slope.no_pooling_estimate.isna()].tolist() == ["3"]
    assert own(table, "h", "Intercept").no_pooling_estimate.notna().all()
    assert table[table.is_new][["no_pooling_estimate", "no_pooling_std_error"]].isna().all(axis=None)
    # nothing pulls the slopes together
    assert slope.no_pooling_estimate.std() > slope.estimate.std()
    assert (slope.no_pooling_std_error > 0).sum() == 6


@pytest.mark.parity
def test_slopes_do_not_depend_on_where_their_predictor_has_its_zero() -> None:
    near, far = (published("y ~ 1 + x + (1 | g) + (1 + x | h)", "gaussian", shift=shift) for shift in (0.0, 1e6))
    for column in ("no_pooling_estimate", "no_pooling_std_error"):
        np.testing.assert_allclose(own(far, "h", "x")[column], own(near, "h", "x")[column], rtol=1e-6)


def test_an_intercept_alone_is_that_of_the_averages() -> None:
    parsed, table = parse_formula("y ~ 1 + (1 | g)"), frame(5)
    study = fit_study(parsed, cells_from_frame(parsed, table, "gaussian"), fit_options("s", date(2026, 1, 31), "r", "likelihood"))
    found = own(study.tables["group_coefficients"].to_pandas(), "g", "Intercept")
    np.testing.assert_allclose(found.no_pooling_estimate, table.groupby("g").y.mean(), rtol=1e-8)


@pytest.mark.parametrize(
    ("family", "outcome", "engine"),
    [pytest.param("hurdle_gamma", "some", "likelihood", marks=pytest.mark.parity), ("gaussian", "y", "bayesian")],
)
def test_both_parts_and_posteriors_have_them(family: str, outcome: str, engine: str) -> None:
    table = published(f"{outcome} ~ 1 + x + (1 | g) + (1 + x | h)", family, engine)
    seen = table[~table.is_new & ~((table.level == "3") & (table.term == "x"))]
    assert seen.no_pooling_estimate.notna().all() and (seen.no_pooling_std_error > 0).all()
    assert seen.part.nunique() == (2 if family == "hurdle_gamma" else 0)


def test_rows_of_a_term_add_up_population_ancestors_and_the_level_itself() -> None:
    parsed = parse_formula("y ~ 1 + x + (1 | g) + (1 + x | h)")
    design = build_design(parsed, cells_from_frame(parsed, frame(), "gaussian"))
    rows = coefficient_rows(design, nesting(design).lineage("h"), "x")
    assert isinstance(rows, csr_array) and rows.sum(axis=1).tolist() == [2.0] * 7
