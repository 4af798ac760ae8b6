"""The collapsed posterior against the same density written out with dense matrices, over the rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from multilevel.bayesian.collapsed import Collapsed
from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.priors import ResolvedPriors, read_priors, resolve_priors
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.design.reduction import reduce_design
from multilevel.formula.parse import parse_formula
from multilevel.linear.assemble import linear_system

FORMULAS = ["y ~ 1 + x + (1 | a)", "y ~ 1 + d + (1 + x | a) + (1 | b)", "y ~ 1 + x + (1 + d | a/b)", "y ~ 1 + d + (1 | a) + (0 + x | b)"]


def shop(seed: int, n: int = 90) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    a, b, d = rng.integers(5, size=n), rng.integers(3, size=n), rng.integers(2, size=n)
    x = rng.normal(1.0, 1.0, n)
    y = 3 + x + rng.normal(0, 1, 5)[a] + rng.normal(0, 0.5, 3)[b] + 0.4 * d + rng.normal(0, 1.2, n)
    return pd.DataFrame({"a": a.astype(str), "b": b.astype(str), "d": d, "x": x, "y": y})


def collapsed_of(text: str, frame: pd.DataFrame) -> tuple[Design, Collapsed]:
    formula = parse_formula(text)
    design = build_design(formula, cells_from_frame(formula, frame, "gaussian"))
    priors = resolve_priors(design, "gaussian", read_priors({"coefficients": {"Intercept": "normal(2, 1.5)"}}))
    layout = Layout(tuple(len(block.columns) for block in design.blocks), True)
    return design, Collapsed(linear_system(reduce_design(design)), layout, priors)


def over_rows(frame: pd.DataFrame, design: Design, theta: np.ndarray, layout: Layout, priors: ResolvedPriors) -> tuple:
    """Mean and covariance of the rows' outcomes with beta and b integrated out, and of (beta, b) given them."""
    columns = {"Intercept": np.ones(len(frame)), "x": frame.x.to_numpy(), "d": frame.d.to_numpy(float)}
    x = np.column_stack([columns[column.label] for column in design.population])
    pieces, covariances = [x], [np.linalg.inv(priors.beta_precision)]
    for at, block in enumerate(design.blocks):
        names = np.array([":".join(key) for key in frame[list(block.factor.columns)].to_numpy()])
        levels = (
            block.factor.levels
            if block.factor.parents is None or len(block.factor.columns) == 1
            else [f"{parent}:{level}" for parent, level in zip(block.factor.parents, block.factor.levels, strict=True)]
        )
        factor = layout.factor(theta, at)
        for level in levels:
            pieces.append(np.column_stack([columns[c.label] for c in block.columns]) * (names == level)[:, None])
            covariances.append(factor @ factor.T)
    from scipy.linalg import block_diag

    prior = block_diag(*covariances)
    whole = np.hstack(pieces)
    location = np.concatenate([priors.beta_location, np.zeros(whole.shape[1] - x.shape[1])])
    noise = float(layout.scale(theta)) ** 2 * np.eye(len(frame))
    return whole @ location, whole @ prior @ whole.T + noise, whole, prior, location


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), text=st.sampled_from(FORMULAS))
def test_the_density_is_that_of_the_rows_up_to_a_constant(seed: int, text: str) -> None:
    frame = shop(seed)
    design, collapsed = collapsed_of(text, frame)
    rng = np.random.default_rng(seed)
    thetas = rng.normal(0, 0.8, size=(3, collapsed.layout.size))
    ours = np.array([collapsed(theta) for theta in thetas])
    direct = []
    for theta in thetas:
        mean, covariance, *_ = over_rows(frame, design, theta, collapsed.layout, collapsed.priors)
        likelihood = multivariate_normal(mean, covariance).logpdf(frame.y)
        direct.append(likelihood + float(log_prior(theta, collapsed.layout, collapsed.priors)))
    np.testing.assert_allclose(ours, direct, rtol=1e-9)


def test_given_theta_coefficients_and_effects_are_drawn_from_their_exact_conditional() -> None:
    text, frame = FORMULAS[1], shop(3)
    design, collapsed = collapsed_of(text, frame)
    theta = np.array([0.1, -0.7, 0.4, -0.5, 0.1])
    mean, covariance, whole, prior, location = over_rows(frame, design, theta, collapsed.layout, collapsed.priors)
    gain = prior @ whole.T @ np.linalg.inv(covariance)
    expected = location + gain @ (frame.y.to_numpy() - mean)
    spread = np.sqrt(np.diag(prior - gain @ whole @ prior))
    draws = collapsed.draw(theta, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose((draws.mean(axis=0) - expected) / spread, 0.0, atol=5 / np.sqrt(20_000))
    np.testing.assert_allclose(draws.std(axis=0) / spread, 1.0, atol=5 / np.sqrt(40_000))


def test_a_theta_beyond_reason_has_no_density_rather_than_an_error() -> None:
    _, collapsed = collapsed_of(FORMULAS[0], shop(1))
    assert collapsed(np.array([400.0, 0.0])) == -np.inf
    assert np.isfinite(collapsed(np.array([-60.0, 0.0])))


@pytest.mark.parametrize("shift", [1e4, 1e7])
def test_an_outcome_far_from_zero_changes_nothing(shift: float) -> None:
    frame = shop(2)
    formula = parse_formula(FORMULAS[1])
    densities = []
    for data in (frame, frame.assign(y=frame.y + shift)):
        design = build_design(formula, cells_from_frame(formula, data, "gaussian"))
        priors = resolve_priors(design, "gaussian", read_priors(None))
        collapsed = Collapsed(linear_system(reduce_design(design)), Layout((2, 1), True), priors)
        densities.append(np.diff([collapsed(theta) for theta in np.random.default_rng(0).normal(0, 0.5, size=(4, 5))]))
    np.testing.assert_allclose(densities[0], densities[1], atol=1e-4)
