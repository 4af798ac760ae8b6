"""Rows of successes among trials have the averages of the line items that they add up."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options

TERMS = "1 + x + (1 | g) + (1 | h)"


@pytest.fixture(scope="module")
def single() -> pd.DataFrame:
    """Line items of 6 x 4 groups, of very unequal number, bought or not."""
    rng = np.random.default_rng(8)
    n = 900
    frame = pd.DataFrame(
        {"g": rng.integers(0, 6, n), "h": rng.choice(4, n, p=[0.7, 0.2, 0.07, 0.03]), "x": rng.integers(0, 2, n).astype(float)}
    )
    eta = -0.5 + rng.normal(0, 0.8, 6)[frame.g] + rng.normal(0, 1.0, 4)[frame.h] + 0.5 * frame.x
    frame["y"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    return frame.assign(g=frame.g.map("g{}".format), h=frame.h.map("h{}".format))


def _tables(formula: str, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    parsed = parse_formula(formula)
    options = fit_options("s", date(2026, 1, 31), "r", "likelihood", seed=1, cells_pair=("g", "h"))
    found = fit_study(parsed, cells_from_frame(parsed, frame, "binomial"), options).tables
    return {name: found[name].to_pandas() for name in ("group_estimates", "cell_estimates")}


def test_averages_are_those_of_the_line_items(single: pd.DataFrame) -> None:
    added = single.groupby(["g", "h", "x"], as_index=False).agg(bought=("y", "sum"), shown=("y", "size"))
    assert added.shown.max() > 20 * added.shown.min()
    by_row, by_trial = _tables(f"y ~ {TERMS}", single), _tables(f"p(bought, shown) ~ {TERMS}", added)
    for name, columns in {
        "group_estimates": [
            "observed_mean",
            "complete_pooling_estimate",
            "no_pooling_estimate",
            "no_pooling_std_error",
            "estimate",
            "lower",
            "upper",
        ],
        "cell_estimates": ["estimate", "lower", "upper"],
    }.items():
        own = [column for column in columns if column in by_row[name]]
        assert len(own) > 2
        np.testing.assert_allclose(by_trial[name][own].to_numpy(float), by_row[name][own].to_numpy(float), rtol=2e-6, err_msg=name)
