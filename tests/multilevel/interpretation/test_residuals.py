"""Residual sums of squares from cells: at a coefficient vector, and as expected under the joint distribution of the coefficients."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.nesting import nesting
from multilevel.estimands.level_variance import level_variance
from multilevel.fit.container import Fit
from multilevel.fit.residuals import cell_residual_ss, expected_residual_ss
from multilevel.formula.parse import parse_formula
from multilevel.linear.linear_engine import fit_linear

ENGINES = ["likelihood", "bayesian"]


@cache
def fit_of_small_groups(engine: str) -> Fit:
    """log y of 60 groups of five rows each, group means far apart: fitting uses up a fifth of the sum of squares."""
    rng = np.random.default_rng(8)
    group, x = np.repeat(np.arange(60), 5), rng.normal(size=300)
    eta = 0.5 * x + 3.0 * rng.normal(size=60)[group]
    frame = pd.DataFrame({"g": [f"g{i:02d}" for i in group], "x": x, "y": np.exp(eta + 0.7 * rng.normal(size=300))})
    formula = parse_formula("log(y) ~ 1 + x + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, frame, "gaussian"))
    if engine == "likelihood":
        return fit_linear(design)
    return fit_bayesian(design, "gaussian", seed=1, sampling={"cores": 1, "chains": 2, "draws": 1_000, "tune": 400})


@pytest.mark.parametrize("engine", ENGINES)
def test_what_fitting_used_up_is_the_trace_of_the_covariance(engine: str) -> None:
    fit = fit_of_small_groups(engine)
    cells = fit.design.cells
    covariance = np.cov(fit.joint.draws(4_000, 1).T)
    codes = fit.design.blocks[0].factor.codes
    exact = np.zeros(cells.n_cells)
    for cell in range(cells.n_cells):
        z = np.zeros((2, len(covariance)))  # the cell's mean row, and a row of x alone
        z[0, [0, 1, 2 + codes[cell]]] = 1.0, cells.mean[cell, 0], 1.0
        z[1, 1] = 1.0
        between, within = z[0] @ covariance @ z[0], z[1] @ covariance @ z[1]
        exact[cell] = cells.weight[cell] * between + cells.cross[cell, 0, 0] * within
    found = expected_residual_ss(fit.design, fit.joint) - cell_residual_ss(fit.design, fit.joint.mean)
    assert found.sum() == pytest.approx(exact.sum(), rel=0.05)
    assert found == pytest.approx(exact, rel=0.5)
    assert found.sum() == pytest.approx(61 * fit.sigma**2, rel=0.1)


@pytest.mark.parametrize("engine", ENGINES)
def test_log_variances_are_not_short_of_what_fitting_used_up(engine: str) -> None:
    fit = fit_of_small_groups(engine)
    factors = dict(nesting(fit.design).factors)
    found = level_variance(fit.design.cells.n, expected_residual_ss(fit.design, fit.joint), factors)
    at_the_mean = level_variance(fit.design.cells.n, cell_residual_ss(fit.design, fit.joint.mean), factors)
    assert found.constant == pytest.approx(2 * np.log(fit.sigma), abs=0.04)
    assert at_the_mean.constant < 2 * np.log(fit.sigma) - 0.15
    assert found.mean_error == pytest.approx(np.sqrt(2 / 300), rel=0.2)


def test_errors_of_log_variances_are_those_of_a_contrast() -> None:
    """Two large groups: the difference of a level from the mean of both, and the mean, make up what is known of the level alone."""
    rng = np.random.default_rng(9)
    group = np.repeat([0, 1], [3_000, 1_000])
    frame = pd.DataFrame({"g": np.array(["a", "b"])[group], "y": np.exp(rng.normal(size=4_000) * np.array([0.4, 1.2])[group])})
    formula = parse_formula("log(y) ~ 1 + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, frame, "gaussian"))
    found = level_variance(design.cells.n, cell_residual_ss(design, np.zeros(3)), dict(nesting(design).factors))
    own = np.hypot(found.std_errors["g"], found.mean_error)
    assert own == pytest.approx(np.sqrt(2 / np.array([3_000, 1_000])), rel=0.1)
