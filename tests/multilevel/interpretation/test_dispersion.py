"""The dispersion check fails where counts vary more than their family says, and only there."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.interpretation.dispersion import dispersion_check


class Truth:
    """A joint distribution that knows the coefficients."""

    def __init__(self, mean: np.ndarray) -> None:
        self.mean = mean


def counts(spread: float, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    group, x = rng.integers(20, size=4_000), rng.integers(10, size=4_000)
    rate = np.exp(1.0 + 0.1 * x)
    if spread > 0:
        rate = rate * rng.gamma(1.0 / spread, spread, size=4_000)
    return pd.DataFrame({"g": [f"g{i}" for i in group], "x": x, "y": rng.poisson(rate)})


@pytest.mark.parametrize(("spread", "passed"), [(0.0, True), (0.5, False), (2.0, False)])
def test_poisson_counts(spread: float, passed: bool) -> None:
    formula = parse_formula("y ~ x + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, counts(spread), "poisson"))
    fit = Fit(
        design, "poisson", "likelihood", "laplace", 0.95, Truth(np.r_[1.0, 0.1, np.zeros(20)]), (), (np.zeros((1, 1)),),
        (np.zeros((20, 1)),), (np.ones((20, 1)),),
    )  # fmt: skip
    [check] = dispersion_check(fit)
    assert check.passed is passed
    assert check.value == pytest.approx(1.0 + spread * np.exp(1.5), rel=0.35 if spread else 0.15)


def test_binomial_outcomes_that_follow_their_family_pass() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": [f"g{i}" for i in rng.integers(40, size=3_000)], "y": rng.random(3_000) < 0.3})
    formula = parse_formula("y ~ 1 + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, frame, "binomial"))
    at = np.r_[np.log(0.3 / 0.7), np.zeros(40)]
    fit = Fit(
        design, "binomial", "likelihood", "laplace", 0.95, Truth(at), (), (np.zeros((1, 1)),), (np.zeros((40, 1)),), (np.ones((40, 1)),)
    )  # fmt: skip
    [check] = dispersion_check(fit)
    assert check.passed
    assert check.value == pytest.approx(1.0, abs=0.6)


def test_an_effect_for_every_cell_leaves_nothing_to_judge() -> None:
    formula = parse_formula("y ~ 1 + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, counts(2.0), "poisson"))
    fit = Fit(
        design, "poisson", "likelihood", "laplace", 0.95, Truth(np.r_[1.0, np.zeros(20)]), (), (np.zeros((1, 1)),),
        (np.zeros((20, 1)),), (np.zeros((20, 1)),),
    )  # fmt: skip
    [check] = dispersion_check(fit)
    assert check.passed
    assert check.value is None
    assert "effect of its own" in check.message
