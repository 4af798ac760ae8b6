"""A model too large for the machine, or for a dense factor, is refused with its size, its factors' names and what to do."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.errors import FitError
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear import footprint
from multilevel.linear.assemble import dense_effects
from multilevel.linear.linear_engine import fit_linear


def design(formula: str, family: str = "gaussian", n: int = 30_000) -> Design:
    rng = np.random.default_rng(1)
    store = np.arange(n) % 10_500
    rows = pd.DataFrame({"y": rng.integers(0, 2, n), "store": store, "product": rng.permutation(n) % 10_300})
    rows["town"], rows["shelf"] = store % 300, store * 3 + rng.integers(0, 3, n)
    parsed = parse_formula(formula)
    return build_design(parsed, cells_from_frame(parsed, rows, family))


def test_two_factors_of_more_than_ten_thousand_levels() -> None:
    with pytest.raises(FitError, match=r"(?s)Beside store, .*product: 10,300.*GB"):
        fit_linear(design("y ~ 1 + (1 | store) + (1 | product)"))


def test_of_nested_factors_none_is_dense() -> None:
    assert dense_effects(design("y ~ 1 + (1 | town/store/shelf) + (1 | product)")) == 10_300


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_a_fit_beyond_the_machine_is_refused_before_it_starts(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "memory_bytes", lambda: 100_000_000)
    fit = fit_linear if family == "gaussian" else (lambda asked: fit_generalised(asked, "binomial"))
    with pytest.raises(FitError, match=r"(?s)take about 1 GB, this machine has 0\. Most effects are of store \(10,500 levels\)"):
        fit(design("y ~ 1 + (1 | store) + (1 | town)", family))
