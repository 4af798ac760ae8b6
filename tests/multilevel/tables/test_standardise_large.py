"""Where there are too many leaves or patterns to take one by one, the binned averages still agree with the sums written out."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.design.nesting import nesting
from multilevel.estimands.level_variance import level_variance
from multilevel.estimands.one_response import OneResponse
from multilevel.estimands.standardise import standardise
from multilevel.fit.container import Fit, Summary
from multilevel.fit.residuals import cell_residual_ss
from multilevel.formula.parse import parse_formula


class PointJoint:
    """A joint distribution without any spread: only estimates matter here."""

    def __init__(self, mean: np.ndarray) -> None:
        self.mean = mean

    def respond(self, rows, weights, response, slope, interval) -> Summary:
        estimate = weights @ response(rows @ self.mean)
        return Summary(estimate, estimate * 0, estimate, estimate)

    def on_response_scale(self, summary, link, interval) -> Summary:
        return summary


def shop(n: int = 4_000) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    customer = rng.integers(300, size=n)
    frame = pd.DataFrame({"customer": [f"c{i:03d}" for i in customer], "region": [f"r{i}" for i in customer % 5]})
    frame["category"] = [f"k{i:02d}" for i in rng.integers(40, size=n)]
    frame["x"] = np.round(rng.normal(size=n) + 0.3 * (customer % 5), 2)
    frame["y"] = (rng.random(n) < 0.4).astype(int)
    return frame


def point_fit(design: Design, family: str, seed: int = 6) -> Fit:
    rng = np.random.default_rng(seed)
    mean = np.concatenate([rng.normal(size=len(design.population)) * 0.5, rng.normal(size=design.n_effects) * 0.7])
    covariances = tuple(np.eye(len(block.columns)) * 0.5 for block in design.blocks)
    return Fit(design, family, "likelihood", "laplace", 0.95, PointJoint(mean), (), covariances, (), ())


@pytest.mark.parametrize(
    ("family", "most_leaves", "tolerance"),
    [("binomial", 2_000, 0.002), ("binomial", 5, 0.005), ("poisson", 2_000, 0.005), ("poisson", 5, 0.02)],
)
def test_a_continuous_slope_and_customers_in_regions(family: str, most_leaves: int, tolerance: float) -> None:
    link = expit if family == "binomial" else np.exp
    frame = shop()
    formula = parse_formula("y ~ x + (1 + x | category) + (1 | region/customer)")
    design = build_design(formula, cells_from_frame(formula, frame, family))
    fit, tree = point_fit(design, family), nesting(design)
    offsets = {block.factor.name: start for block, start in zip(design.blocks, design.starts, strict=True)}
    effects = fit.joint.mean[len(design.population) :]
    block = {b.factor.name: b.factor for b in design.blocks}
    region = frame.region.map({level: i for i, level in enumerate(block["region"].levels)}).to_numpy()
    customer = frame.customer.map({level: i for i, level in enumerate(block["region:customer"].levels)}).to_numpy()
    category = frame.category.map({level: i for i, level in enumerate(block["category"].levels)}).to_numpy()
    x, beta = frame.x.to_numpy(), fit.joint.mean[:2]
    slopes = effects[offsets["category"] :].reshape(-1)[: 2 * 40].reshape(40, 2)
    who = effects[offsets["region"] + region] + effects[offsets["region:customer"] + customer]
    what = slopes[category, 0] + slopes[category, 1] * x + beta[0] + beta[1] * x
    outcome = OneResponse.of_fit(fit)
    found = standardise(outcome, tree, "category", None, most_leaves=most_leaves).respond().estimate
    wanted = [link(beta[0] + beta[1] * x + slopes[j, 0] + slopes[j, 1] * x + who).mean() for j in range(40)]
    assert found == pytest.approx(wanted, rel=tolerance)
    found = standardise(outcome, tree, "region", None, most_leaves=most_leaves).respond().estimate
    wanted = [link(who[region == r][:, None] + what[None, :]).mean() for r in range(5)]
    assert found == pytest.approx(wanted, rel=tolerance)


def test_log_variances_of_levels_are_recovered_and_pooled() -> None:
    rng = np.random.default_rng(3)
    levels = np.repeat(np.arange(60), np.where(np.arange(60) < 30, 200, 4))
    truth = np.log(0.5) + 0.5 * rng.normal(size=60)
    frame = pd.DataFrame({"g": [f"g{i:02d}" for i in levels], "y": np.exp(rng.normal(size=len(levels)) * np.exp(truth[levels] / 2))})
    formula = parse_formula("log(y) ~ 1 + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, frame, "gaussian"))
    found = level_variance(design.cells.n, cell_residual_ss(design, np.zeros(1 + design.n_effects)), dict(nesting(design).factors))
    estimate = found.constant + found.effects["g"]
    raw = np.log(np.log(frame.y).pow(2).groupby(frame.g).mean().to_numpy())
    many, few = np.arange(60) < 30, np.arange(60) >= 30
    assert estimate[many] == pytest.approx(truth[many], abs=0.35)
    assert np.mean((estimate[few] - truth[few]) ** 2) < 0.6 * np.mean((raw[few] - truth[few]) ** 2)
    assert found.omega["g"] == pytest.approx(0.5, abs=0.2)
    assert np.all(found.std_errors["g"][few] > found.std_errors["g"][many].max())


def test_heavy_tails_do_not_pass_for_differences_between_levels() -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": [f"g{i:02d}" for i in np.repeat(np.arange(50), 60)], "y": np.exp(rng.standard_t(5, size=3_000))})
    formula = parse_formula("log(y) ~ 1 + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, frame, "gaussian"))
    found = level_variance(design.cells.n, cell_residual_ss(design, np.zeros(1 + design.n_effects)), dict(nesting(design).factors))
    assert found.omega["g"] < 0.3
