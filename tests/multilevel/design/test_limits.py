"""What a fit would only find out after a long time is refused from the statistics: counts of columns, sizes, outcomes alike."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.family_checks import check_family
from multilevel.errors import DataError, FitError
from multilevel.formula.parse import parse_formula

N = 4_000


def rows(**columns: object) -> pd.DataFrame:
    """``y``, ``g`` of ten levels, and what is given."""
    i = np.arange(N)
    plain = {"y": (i * 37 % 101).astype(float), "g": [f"g{k}" for k in i % 10], "many": i % 2_000}
    return pd.DataFrame(plain | columns)


def design_of(text: str, frame: pd.DataFrame, family: str = "gaussian") -> None:
    formula = parse_formula(text)
    check_family(build_design(formula, cells_from_frame(formula, frame, family)), family)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y ~ C(many) + (1 | g)", r"2,001 population-level coefficients, more than 1,000; .*Write \(1 \| many\) for C\(many\)"),
        ("y ~ C(many):g + (1 | g)", "population-level coefficients"),
        ("y ~ 1 + (C(many) | g)", "effects that vary together by g"),
    ],
)
def test_predictors_of_too_many_levels_are_counted_before_a_column_is_made(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(FitError, match=message):
        design_of(text, rows())
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("y | weights(w) ~ 1 + (1 | g)", {"w": 1e80}, "The weight of a line item is as large as 1e[+]80.*only their ratios matter"),
        ("y | weights(w) ~ 1 + (1 | g)", {"w": 1e-80}, "as small as 1e-80"),
        ("I(y * 1e80) ~ 1 + (1 | g)", {}, "The outcome is as large as .*use another unit"),
        ("I(y * 1e-100) ~ 1 + (1 | g)", {}, "The outcome is as small as"),
        ("y ~ I(many * 1e80) + (1 | g)", {}, "many.* is as large as"),
    ],
)
def test_numbers_whose_squares_lose_their_digits_are_refused(text: str, columns: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        design_of(text, rows(**columns))


def test_gamma_without_dispersion_is_refused() -> None:
    with pytest.raises(FitError, match="Every outcome is 1 in all 4,000 line items: gamma has no dispersion"):
        design_of("one ~ 1 + (1 | g)", rows(one=1.0), "gamma")
    design_of("y ~ 1 + (1 | g)", rows(y=1.0 + np.arange(N) % 7), "gamma")


def test_one_line_item_with_all_counts_is_refused() -> None:
    counts = np.arange(N) % 5
    design_of("n ~ 1 + (1 | g)", rows(n=counts), "negative_binomial")
    with pytest.raises(DataError, match="One line item of 4,000 counts 1,000,000,000"):
        design_of("n ~ 1 + (1 | g)", rows(n=np.where(np.arange(N) == 7, 10**9, counts)), "negative_binomial")


def test_a_centred_offset_is_calculated() -> None:
    formula = parse_formula("y ~ 1 + offset(center(many)) + (1 | g)")
    frame = rows()
    cells = cells_from_frame(formula, frame, "gaussian")
    expected = frame["y"] - (frame["many"] - frame["many"].mean())
    assert float(cells.n @ cells.mean[:, -1] / N) == pytest.approx(expected.mean())
