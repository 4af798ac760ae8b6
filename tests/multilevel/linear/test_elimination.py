"""Sums over levels agree whichever way they are made: loops, full rows of heavy levels, two threads, full matrices."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.linear import elimination
from multilevel.linear.elimination import add_products, spreads
from multilevel.linear.products import CrossProducts, mirror

LEVELS, WIDTH = 60, 40


@pytest.fixture
def dense() -> np.ndarray:
    """(L, m) rows of which every third touches most columns, the last column is touched by all."""
    rng = np.random.default_rng(3)
    share = np.where(np.arange(LEVELS) % 3 == 0, 0.8, 0.1)
    values = rng.standard_normal((LEVELS, WIDTH)) * (rng.random((LEVELS, WIDTH)) < share[:, None])
    values[:, -1] = 1.0
    return values


def _sparse(dense: np.ndarray) -> CrossProducts:
    level, column = np.nonzero(dense)
    starts = np.concatenate([[0], np.cumsum(np.bincount(level, minlength=len(dense)))])
    return CrossProducts(starts, column, dense[level, column][:, None])


@pytest.mark.parametrize("much_work", [np.inf, 1.0], ids=["loops", "threads"])
@pytest.mark.parametrize("chosen", [np.arange(LEVELS), np.arange(1, LEVELS, 2), np.array([1, 2, 4])], ids=["all", "some", "light"])
def test_products_and_spreads(monkeypatch, dense, much_work, chosen):
    monkeypatch.setattr(elimination, "MUCH_WORK", much_work)
    kernels = np.linspace(0.0, 2.0, LEVELS)
    total = np.zeros((WIDTH, WIDTH))
    add_products(total, _sparse(dense), kernels[:, None, None], chosen)
    mirror(total)
    expected = (dense[chosen] * kernels[chosen, None]).T @ dense[chosen]
    np.testing.assert_allclose(total, expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    covariance = np.cov(np.random.default_rng(4).standard_normal((WIDTH - 1, 99)))
    found = spreads(_sparse(dense), covariance, chosen)
    narrow = dense[chosen, : WIDTH - 1]
    np.testing.assert_allclose(found[:, 0, 0], np.sum((narrow @ covariance) * narrow, axis=1), rtol=1e-12)


def test_levels_that_touch_many_columns_are_heavy(dense):
    heavy = _sparse(dense).heavy
    levels = np.flatnonzero(heavy.place >= 0)
    assert set(range(0, LEVELS, 3)) <= set(levels)
    assert len(levels) < LEVELS
    np.testing.assert_array_equal(heavy.rows, dense[levels])
