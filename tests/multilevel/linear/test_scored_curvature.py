"""The curvature that a search for the variances goes by, against differences of the gradient, and the searches it shortens."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.design.reduction import ReducedBlock, ReducedRows
from multilevel.linear import assemble, linear_engine
from multilevel.linear.assemble import linear_system
from multilevel.linear.criterion import Criterion
from multilevel.linear.linear_engine import column_scales, optimise
from multilevel.linear.optimise import Optimum, difference_hessian
from multilevel.linear.scored_curvature import scored_curvature
from multilevel.linear.theta import Theta

CUSTOMERS, BANDS, CATEGORIES = 300, 6, 40


@pytest.fixture(scope="module")
def shop() -> ReducedRows:
    """Customers in bands, crossed with categories that have a slope."""
    rng = np.random.default_rng(3)
    n = 6_000
    customer, category, x = rng.integers(0, CUSTOMERS, n), rng.integers(0, CATEGORIES, n), rng.normal(size=n)
    ones, both = np.ones((n, 1)), np.column_stack([np.ones(n), x])
    band = (np.arange(CUSTOMERS) % BANDS)[customer]
    blocks = (
        ReducedBlock(band.astype(np.int32), ones, BANDS),
        ReducedBlock(customer.astype(np.int32), ones, CUSTOMERS),
        ReducedBlock(category.astype(np.int32), both, CATEGORIES),
    )
    effects = rng.normal(0, 0.6, CUSTOMERS)[customer] + rng.normal(0, 0.5, BANDS)[band] + rng.normal(0, 0.8, CATEGORIES)[category]
    y = 1.0 + effects + (0.3 + rng.normal(0, 0.4, CATEGORIES)[category]) * x + rng.normal(0, 1.2, n)
    size = np.ones(n)
    return ReducedRows(both, blocks, y, size, np.zeros(n), size, np.arange(n, dtype=np.int32), n, 0.0)


@pytest.mark.parametrize("fixed_sigma", [None, 1.1])
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("eliminated", [1, 100, 10**9], ids=["bands too", "customers", "none after the first"])
def test_it_is_that_of_differences_within_what_chance_leaves(
    shop: ReducedRows, eliminated: int, reml: bool, fixed_sigma: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "WORTH_ELIMINATING", eliminated)
    layout = Theta(tuple(block.values.shape[1] for block in shop.blocks))
    criterion = Criterion(linear_system(shop), layout, reml, 0.0, fixed_sigma)
    theta = optimise(criterion, column_scales(shop), 0).theta
    factor = criterion.factorise(theta)
    gradient = criterion.gradient(factor)
    exact = difference_hessian(lambda moved: criterion.gradient(criterion.factorise(moved)), theta, np.full(layout.n, 1e-4))
    found = scored_curvature(criterion, factor, theta, gradient)
    np.testing.assert_array_equal(found, found.T)
    scale = np.sqrt(np.diagonal(exact))
    # observed information differs from its mean with the expected one as the outcomes of six bands and forty categories do
    np.testing.assert_allclose(found / np.outer(scale, scale), exact / np.outer(scale, scale), atol=0.25)
    np.testing.assert_allclose(np.diagonal(found)[1], np.diagonal(exact)[1], rtol=0.02)


def both_searches(rows: ReducedRows, monkeypatch: pytest.MonkeyPatch) -> tuple[Optimum, Optimum]:
    """By REML, without the curvature and with it."""
    layout = Theta(tuple(block.values.shape[1] for block in rows.blocks))
    criterion, found = Criterion(linear_system(rows), layout, True), []
    for worthwhile in (False, True):
        monkeypatch.setattr(linear_engine, "is_worthwhile", lambda system, own=worthwhile: own)
        found.append(optimise(criterion, column_scales(rows), 0))
    plain, scored = found
    return plain, scored


def test_a_search_that_asks_for_it_finds_the_same_optimum_in_half_of_the_evaluations(
    shop: ReducedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, scored = both_searches(shop, monkeypatch)
    assert scored.evaluations <= 0.5 * plain.evaluations
    assert scored.converged
    assert scored.value == pytest.approx(plain.value, abs=1e-8)
    np.testing.assert_allclose(np.abs(scored.theta), np.abs(plain.theta), atol=1e-6)


def test_a_search_ends_where_a_variance_is_zero_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    n = 2_000
    g, h = rng.integers(0, 50, n), rng.integers(0, 8, n)
    blocks = (ReducedBlock(g.astype(np.int32), np.ones((n, 1)), 50), ReducedBlock(h.astype(np.int32), np.ones((n, 1)), 8))
    y = rng.normal(0, 0.5, 50)[g] + rng.normal(size=n)
    # nothing is left of h, so its variance is estimated as zero
    y -= (np.bincount(h, y, 8) / np.bincount(h, minlength=8))[h]
    one = np.ones(n)
    rows = ReducedRows(np.ones((n, 1)), blocks, y, one, np.zeros(n), one, np.arange(n, dtype=np.int32), n, 0.0)
    plain, scored = both_searches(rows, monkeypatch)
    assert scored.converged
    assert scored.value == pytest.approx(plain.value, abs=1e-6)
    assert abs(scored.theta[1]) < 1e-3


def test_few_evaluations_find_a_variance_far_from_the_start_and_another_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty times the scale that the search begins with: each step goes as far as the criterion falls, not as its curvature says."""
    rng = np.random.default_rng(4)
    n = 20_000
    subject = rng.integers(0, 2_000, n)
    area = subject % 50
    blocks = (ReducedBlock(area.astype(np.int32), np.ones((n, 1)), 50), ReducedBlock(subject.astype(np.int32), np.ones((n, 1)), 2_000))
    y, one = rng.normal(0, 10.0, 50)[area] + rng.normal(size=n), np.ones(n)
    rows = ReducedRows(np.ones((n, 1)), blocks, y, one, np.zeros(n), one, np.arange(n, dtype=np.int32), n, 0.0)
    plain, scored = both_searches(rows, monkeypatch)
    assert (scored.starts, scored.converged) == (4, True)
    assert scored.evaluations < 45
    assert scored.value == pytest.approx(plain.value, abs=1e-6)
    assert abs(scored.theta[1]) < 1e-3
    assert abs(scored.theta[0]) == pytest.approx(abs(plain.theta[0]), rel=1e-5)
