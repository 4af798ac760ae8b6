"""Distinct values of long columns are those that sorting finds."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.arrays import FEW_VALUES, distinct

N = 2 * FEW_VALUES


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).integers(-50, 50, N),
        np.random.default_rng(2).integers(0, 10**12, N) // 10**9 * 10**9,
        np.random.default_rng(3).integers(0, 9, N).astype(np.int32),
        np.random.default_rng(4).choice([0.0, -0.0, 1.5, -2.25, 1e300], N),
        np.random.default_rng(5).standard_normal(N),
        np.random.default_rng(6).choice([np.nan, 2.0, -1.0], N),
        np.arange(5)[::-1],
        np.sort(np.random.default_rng(7).integers(0, 10**12, N) // 10**9 * 10**9),
        np.r_[np.sort(np.random.default_rng(8).standard_normal(N)), np.nan, np.nan],
    ],
    ids=[
        "small range",
        "far apart",
        "narrow type",
        "few numbers",
        "all different",
        "not a number",
        "short",
        "sorted",
        "sorted but for what is no number",
    ],
)
def test_as_sorting_finds_them(values):
    expected, places = np.unique(values, return_inverse=True)
    found, own = distinct(values)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(own, places)
    assert found.dtype == values.dtype
    assert own.dtype == np.int64
