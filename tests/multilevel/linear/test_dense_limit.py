"""A second factor too large for a dense block is refused with its size, its memory and what to do."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.errors import FitError
from multilevel.formula.parse import parse_formula
from multilevel.linear.linear_engine import fit_linear


def test_two_factors_of_more_than_ten_thousand_levels() -> None:
    rng = np.random.default_rng(1)
    n = 30_000
    first, second = np.arange(n) % 10_500, rng.permutation(n) % 10_300
    rows = pd.DataFrame({"y": rng.normal(size=n), "a": [f"a{i}" for i in first], "b": [f"b{i}" for i in second]})
    formula = parse_formula("y ~ 1 + (1 | a) + (1 | b)")
    with pytest.raises(FitError, match=r"(?s)10,?300.*GB") as caught:
        fit_linear(build_design(formula, cells_from_frame(formula, rows, "gaussian")))
    assert "b" in str(caught.value)
