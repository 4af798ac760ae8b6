"""Intervals hold what they promise, over many small shops whose truth is drawn anew."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from multilevel.bayesian.engine import fit_bayesian
from multilevel.cells_from_rows import cells_from_frame
from multilevel.design_build import build_design
from multilevel.formula.parse import parse_formula

PRIORS = {
    "coefficients": {"Intercept": "normal(0, 2)", "x": "normal(0, 1)"},
    "sds": {"region": "half_normal(1)", "category": "half_normal(1)"},
    "sigma": "exponential(1)",
}


def shop(rng: np.random.Generator) -> tuple[pd.DataFrame, dict[tuple[str, str, str], float]]:
    """Line items of 5 regions crossed with 15 categories of very unequal size, and the true coefficients."""
    n = 300
    region = rng.integers(5, size=n)
    category = np.concatenate([np.arange(15), rng.choice(15, size=n - 15, p=np.arange(1, 16)[::-1] ** 2 / np.sum(np.arange(1, 16) ** 2))])
    x = rng.integers(0, 3, size=n)
    beta, slope = rng.normal(0, 2), rng.normal(0, 1)
    sds, sigma = np.abs(rng.normal(size=3)), rng.exponential(1.0)
    partial = 2 * rng.beta(2, 2) - 1
    root = np.array([[1.0, 0.0], [partial, np.sqrt(1 - partial**2)]]) * sds[1:, None]
    b_region, b_category = rng.normal(0, sds[0], 5), rng.normal(size=(15, 2)) @ root.T
    intercept = beta - slope * x.mean()  # the prior of the intercept holds at the mean of x
    y = intercept + slope * x + b_region[region] + b_category[category, 0] + b_category[category, 1] * x + rng.normal(0, sigma, n)
    frame = pd.DataFrame({"region": region.astype(str), "category": [f"c{c:02d}" for c in category], "x": x, "y": y})
    truth = {("region", str(i), "Intercept"): intercept + value for i, value in enumerate(b_region)}
    truth |= {("category", f"c{i:02d}", "Intercept"): intercept + value for i, value in enumerate(b_category[:, 0])}
    truth |= {("category", f"c{i:02d}", "x"): slope + value for i, value in enumerate(b_category[:, 1])}
    return frame, truth


def covered(seed: int, interval: float, draws: int) -> float:
    """Share of a shop's group coefficients whose interval holds the truth."""
    frame, truth = shop(np.random.default_rng(seed))
    formula = parse_formula("y ~ 1 + x + (1 | region) + (1 + x | category)")
    design = build_design(formula, cells_from_frame(formula, frame, "gaussian"))
    fit = fit_bayesian(design, "gaussian", priors=PRIORS, seed=seed, interval=interval, sampling={"draws": draws, "cores": 1})
    labels = [column.label for column in design.population]
    rows, values = [], []
    for start, block in zip(design.starts, design.blocks, strict=True):
        for level, name in enumerate(block.factor.levels):
            for at, column in enumerate(block.columns):
                row = np.zeros(len(labels) + design.n_effects)
                row[labels.index(column.label)] = row[len(labels) + start + level * len(block.columns) + at] = 1.0
                rows.append(row)
                values.append(truth[block.factor.name, name, column.label])
    summary = fit.joint.combine(csr_array(np.array(rows)), interval)
    return float(np.mean((summary.lower <= values) & (values <= summary.upper)))


def check_coverage(interval: float, shops: int, draws: int) -> None:
    shares = np.array([covered(seed, interval, draws) for seed in range(shops)])
    error = shares.std(ddof=1) / np.sqrt(shops)  # coefficients of one shop share its variance parameters: the shop is the unit
    # a posterior quantile of a few hundred draws misses a tail by about a third of a per cent
    assert abs(shares.mean() - interval) < 3 * error + 0.004, (shares.mean(), error)


def test_ninety_five_per_cent_intervals_cover_ninety_five_per_cent() -> None:
    check_coverage(0.95, 30, 200)


@pytest.mark.calibration
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("interval", [0.5, 0.8, 0.95])
def test_intervals_of_every_width_cover_what_they_say_over_two_hundred_shops(interval: float) -> None:
    check_coverage(interval, 200, 500)
