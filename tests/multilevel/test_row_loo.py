"""Leave-one-row-out from cells is what ArviZ gives on the rows."""

import arviz as az
import numpy as np
import pandas as pd
import pytest

from multilevel.cells_from_rows import cells_from_frame
from multilevel.design_build import build_design
from multilevel.fit import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.engine import fit_generalised
from multilevel.row_loo import row_loo


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    group, x = rng.integers(8, size=400), rng.integers(2, size=400)
    probability = 1 / (1 + np.exp(-(0.3 * x + rng.normal(size=8)[group])))
    return pd.DataFrame({"g": [f"g{i}" for i in group], "x": x, "y": rng.random(400) < probability})


def fitted(rows: pd.DataFrame, formula: str, family: str) -> Fit:
    parsed = parse_formula(formula)
    design = build_design(parsed, cells_from_frame(parsed, rows, family))
    return fit_generalised(design, family, interval=0.95, seed=1)


def test_rows_and_cells_agree(rows: pd.DataFrame) -> None:
    fit = fitted(rows, "y ~ 1 + x + (1 | g)", "binomial")
    [check] = row_loo(fit)
    draws = fit.joint.draws(1_000, 0)
    codes = pd.Categorical(rows["g"], fit.design.blocks[0].factor.levels).codes
    eta = draws[:, [0]] + draws[:, [1]] * rows["x"].to_numpy() + draws[:, 2:][:, codes]
    pointwise = -np.logaddexp(0.0, np.where(rows["y"].to_numpy(), -eta, eta))
    data = az.from_dict({"posterior": {"beta": draws[None, :, 0]}, "log_likelihood": {"y": pointwise[None]}})
    expected = az.loo(data, reff=1.0)
    assert check.value == pytest.approx(float(expected.elpd), rel=1e-9)
    assert check.message.startswith(f"standard error {float(expected.se):,.4g} over 400 rows")
    assert check.passed


def test_sums_say_nothing_of_single_rows(rows: pd.DataFrame) -> None:
    assert row_loo(fitted(rows, "y ~ 1 + (1 | g)", "poisson")) == ()
