"""Gaussian posteriors of many coefficients begin with few points of the variance parameters, and go on where those know too little."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multilevel.bayesian import level_points, points_fit
from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula

FORMULA = "y ~ 1 + (1 | g) + (1 | h)"


@pytest.fixture(scope="module")
def design() -> Design:
    """300 levels, so that no roots are kept."""
    rng = np.random.default_rng(7)
    g, h = np.arange(6_000) % 300, rng.integers(0, 12, 6_000)
    y = 0.5 * rng.normal(size=300)[g] + 0.3 * rng.normal(size=12)[h] + rng.normal(size=6_000)
    parsed = parse_formula(FORMULA)
    return build_design(parsed, cells_from_frame(parsed, pd.DataFrame({"y": y, "g": g.astype(str), "h": h.astype(str)}), "gaussian"))


def fitted(design: Design) -> Fit:
    return fit_bayesian(design, "gaussian", sampling={"form": "importance", "cores": 1}, seed=1)


@pytest.fixture(scope="module")
def many(design: Design) -> Fit:
    return fitted(design)


def test_few_points_give_what_many_give(design: Design, many: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(level_points, "FEW_FROM", 100)
    few = fitted(design)
    assert few.record["level_points"] <= level_points.FEW_POINTS < 96 <= many.record["level_points"]
    for own, other in zip(few.conditional_variance, many.conditional_variance, strict=True):
        np.testing.assert_allclose(own, other, rtol=0.02)
    means, sds = few.theta.weights @ few.theta.means, np.sqrt(many.theta.variance)
    np.testing.assert_array_less(np.abs(means - many.theta.weights @ many.theta.means) / sds, 0.05)


def test_more_are_taken_where_the_errors_are_above_their_limits(design: Design, many: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(level_points, "FEW_FROM", 100)
    monkeypatch.setattr(points_fit, "MOST_ERROR", 1e-6)
    assert fitted(design).record["level_points"] > level_points.FEW_POINTS


def test_points_are_added_for_the_bounds_of_few_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sd of three levels has a long tail."""
    rng = np.random.default_rng(11)
    g, h = rng.integers(0, 3, 3_000), rng.integers(0, 260, 3_000)
    y = np.array([-0.4, 0.1, 0.5])[g] + 0.3 * rng.normal(size=260)[h] + rng.normal(size=3_000)
    parsed = parse_formula(FORMULA)
    cells = cells_from_frame(parsed, pd.DataFrame({"y": y, "g": g.astype(str), "h": h.astype(str)}), "gaussian")
    design = build_design(parsed, cells)
    fit = fitted(design)
    with monkeypatch.context() as patch:
        patch.setattr(points_fit, "MOST_FOR_BOUNDS", 0)
        before = fitted(design)
    own, other = (next(check for check in each.checks if check.check == "monte_carlo_error_of_bounds").value for each in (fit, before))
    assert before.record["points"] < 1_000 < fit.record["points"]
    assert own < 0.7 * other
