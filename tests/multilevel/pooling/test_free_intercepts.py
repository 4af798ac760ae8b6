"""One factor's intercepts free, everything else as fitted: against the normal equations written out, and against a general optimiser."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag, pinvh
from scipy.optimize import minimize

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.group_predictors import column_values
from multilevel.design.model import Design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear
from multilevel.pooling.free_intercepts import free_intercepts


def frame(seed: int = 1, rows: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, k, h = rng.integers(0, 9, rows), rng.integers(0, 4, rows), rng.integers(0, 7, rows)
    x, size = rng.normal(size=rows), rng.normal(size=9)[g]
    eta = 0.4 * x + 0.3 * size + 0.5 * rng.normal(size=9)[g] + 0.3 * rng.normal(size=36)[g * 4 + k]
    eta += 0.4 * rng.normal(size=7)[h] + 0.3 * rng.normal(size=7)[h] * x
    table = pd.DataFrame({"g": g, "k": [f"{a}.{b}" for a, b in zip(g, k, strict=True)], "h": h, "x": x, "size": size, "eta": eta})
    table["y"] = eta + rng.normal(size=rows)
    table["count"] = rng.poisson(np.exp(eta / 2))
    table["bought"] = rng.random(rows) < 1 / (1 + np.exp(-eta))
    table["channel"] = np.where(rng.random(rows) < 0.4, "web", "shop")
    return table


def design_of(formula: str, table: pd.DataFrame, family: str) -> Design:
    parsed = parse_formula(formula)
    return build_design(parsed, cells_from_frame(parsed, table, family))


def matrices(design: Design) -> tuple[np.ndarray, list[np.ndarray]]:
    """X and every Z by cell; with predictors fixed by the cell these are the rows'."""
    X = np.column_stack([column_values(design, column) for column in design.population])
    Z = []
    for block in design.blocks:
        whole = np.zeros((len(X), block.n_effects))
        for at, column in enumerate(block.columns):
            whole[np.arange(len(X)), block.factor.codes * len(block.columns) + at] = column_values(design, column)
        Z.append(whole)
    return X, Z


def matrices_of_rows(design: Design, table: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
    """X and every Z, row by row."""

    def values(label: str) -> np.ndarray:
        return np.ones(len(table)) if label == "Intercept" else table[label].to_numpy()

    X = np.column_stack([values(column.label) for column in design.population])
    Z = []
    for block in design.blocks:
        place = {level: at for at, level in enumerate(block.factor.levels)}
        codes = table[block.factor.columns[-1]].astype(str).map(place).to_numpy()
        whole = np.zeros((len(table), block.n_effects))
        for at, column in enumerate(block.columns):
            whole[np.arange(len(table)), codes * len(block.columns) + at] = values(column.label)
        Z.append(whole)
    return X, Z


def precision(fit: Fit, name: str, sigma: float) -> np.ndarray:
    """Of (beta, b), relative to sigma^2: zero for beta and the intercepts of the factor, the slopes' own covariance inverted."""
    parts = [np.zeros((len(fit.design.population),) * 2)]
    for block, covariance in zip(fit.design.blocks, fit.covariances, strict=True):
        inverse = np.zeros_like(covariance)
        held = [at for at, column in enumerate(block.columns) if block.factor.name != name or column.label != "Intercept"]
        inverse[np.ix_(held, held)] = np.linalg.inv(covariance[np.ix_(held, held)])
        parts.append(np.kron(np.eye(block.factor.n_levels), inverse * sigma**2))
    return block_diag(*parts)


MODELS = ["y ~ 1 + x + (1 | g) + (1 | h)", "y ~ 1 + x + size + (1 + x | g) + (1 | h)", "y ~ 1 + x + size + (1 + x | h) + (1 | g/k)"]


@pytest.mark.parametrize("formula", MODELS)
@pytest.mark.parametrize("name", ["g", "h"])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_fitted_values_and_errors_are_those_of_the_normal_equations(formula: str, name: str, shift: float) -> None:
    table = frame()
    table["y"] = table.y + shift
    fit = fit_linear(design_of(formula, table, "gaussian"))
    found = free_intercepts(fit, name)
    assert found is not None and found.determined.all()
    X, Z = matrices_of_rows(fit.design, table)
    whole = np.hstack([X, *Z])
    inverse = pinvh(whole.T @ whole + precision(fit, name, fit.sigma), rtol=1e-11)
    expected = whole @ (inverse @ (whole.T @ (table.y.to_numpy() - shift)))
    ours = found.fit.joint.combine(whole_rows(whole), 0.95)
    np.testing.assert_allclose(ours.estimate - shift, expected, atol=1e-7 * (1.0 + shift * 1e-3))
    error = fit.sigma * np.sqrt(np.einsum("ij,jk,ik->i", whole, inverse, whole))
    np.testing.assert_allclose(ours.std_error, error, rtol=1e-6)


def whole_rows(matrix: np.ndarray):
    from scipy.sparse import csr_array

    return csr_array(matrix)


@pytest.mark.parametrize(("outcome", "family"), [("count", "poisson"), ("bought", "binomial")])
@pytest.mark.parametrize("name", ["g", "h"])
def test_modes_are_those_of_a_general_optimiser(outcome: str, family: str, name: str) -> None:
    table = frame(3).assign(x=lambda rows: rows.x.round())
    fit = fit_generalised(design_of(f"{outcome} ~ 1 + x + size + (1 | g) + (1 + x | h)", table, family), family)
    found = free_intercepts(fit, name)
    assert found is not None and found.determined.all()
    X, Z = matrices(fit.design)
    whole, prior = np.hstack([X, *Z]), precision(fit, name, 1.0)
    totals, n = table_totals(fit.design), fit.design.cells.n.astype(float)

    def objective(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        eta = whole @ coefficients
        mean = np.exp(eta) if family == "poisson" else 1 / (1 + np.exp(-eta))
        value = np.sum(n * (np.exp(eta) if family == "poisson" else np.logaddexp(0, eta)) - totals * eta)
        pull = prior @ coefficients
        return value + coefficients @ pull / 2, whole.T @ (n * mean - totals) + pull

    best = minimize(objective, np.zeros(whole.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-8, "maxiter": 5_000})
    np.testing.assert_allclose(found.fit.joint.combine(whole_rows(whole), 0.95).estimate, whole @ best.x, atol=2e-5)


def table_totals(design: Design) -> np.ndarray:
    return np.asarray(design.cells.total, dtype=float)


def test_levels_whose_outcomes_are_all_alike_have_none() -> None:
    table = frame(4)
    table.loc[table.g == 2, "bought"] = True
    table.loc[table.g == 5, "bought"] = False
    fit = fit_generalised(design_of("bought ~ 1 + (1 | g) + (1 | h)", table, "binomial"), "binomial")
    found = free_intercepts(fit, "g")
    assert found is not None
    assert np.flatnonzero(~found.determined).tolist() == [2, 5]
    others = free_intercepts(fit, "h")
    assert others is not None and others.determined.all()


def test_indicators_of_a_category_count_as_the_intercept_and_a_bare_slope_does_not() -> None:
    table = frame(5)
    by_channel = fit_linear(design_of("y ~ 1 + channel + (0 + channel | g)", table, "gaussian"))
    found = free_intercepts(by_channel, "g")
    assert found is not None
    X, Z = matrices(by_channel.design)
    ours = found.fit.joint.combine(whole_rows(np.hstack([X, *Z])), 0.95).estimate
    # every level has its own mean in every channel: nothing is pooled
    np.testing.assert_allclose(ours, by_channel.design.cells.mean[:, -1], atol=1e-9)
    slope_only = fit_linear(design_of("y ~ 1 + x + (0 + x | g)", table, "gaussian"))
    assert free_intercepts(slope_only, "g") is None
