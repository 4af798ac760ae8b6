"""Effects that no eliminated level joins are factorised one by one, with the numbers of the dense factor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.design.reduction import ReducedBlock, ReducedRows
from multilevel.linear import assemble
from multilevel.linear.assemble import linear_system
from multilevel.linear.effects_gradient import criterion_gradient
from multilevel.linear.factorise import BlockedSystem


@pytest.fixture
def rows() -> ReducedRows:
    """Customers in bands, crossed with categories that have a slope; the pairs of both have effects too."""
    rng = np.random.default_rng(2)
    n = 3_000
    customer, category, x = rng.integers(0, 40, n), rng.integers(0, 12, n), rng.normal(size=n)
    pair = np.unique(customer * 12 + category, return_inverse=True)[1]
    ones = np.ones((n, 1))
    blocks = (
        ReducedBlock((customer % 4).astype(np.int32), ones, 4),
        ReducedBlock(customer.astype(np.int32), ones, 40),
        ReducedBlock(category.astype(np.int32), np.column_stack([np.ones(n), x]), 12),
        ReducedBlock(pair.astype(np.int32), ones, int(pair.max()) + 1),
    )
    y = rng.normal(size=40)[customer] + rng.normal(size=12)[category] + 0.3 * x + rng.normal(size=n)
    X = np.column_stack([np.ones(n), x])
    size = np.ones(n)
    return ReducedRows(X, blocks, y, size, np.zeros(n), size, np.arange(n, dtype=np.int32), n, 0.0)


LAMBDAS = [np.array([[0.4]]), np.array([[0.7]]), np.array([[0.9, 0.0], [0.2, 0.3]]), np.array([[0.5]])]


@pytest.fixture
def system(rows: ReducedRows, monkeypatch: pytest.MonkeyPatch) -> BlockedSystem:
    monkeypatch.setattr(assemble, "WORTH_LEADING", 10)
    found = linear_system(rows)
    assert (found.leading, found.rest) == (40, (1, 0, 2))
    return found


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("reml", [False, True])
def test_numbers_are_those_of_the_dense_factor(system: BlockedSystem, singular: bool, reml: bool) -> None:
    lambdas = [*LAMBDAS[:2], np.array([[0.9, 0.0], [0.2, 1e-9]]), LAMBDAS[3]] if singular else LAMBDAS
    dense = replace(system, leading=0).factorise(lambdas)
    apart = system.factorise(lambdas)
    for name in ("rss", "log_det_effects", "log_det_population", "beta", "effects"):
        np.testing.assert_allclose(getattr(apart, name), getattr(dense, name), rtol=1e-11, atol=1e-12)
    for own, other in zip(criterion_gradient(apart, None, reml=reml), criterion_gradient(dense, None, reml=reml), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-8)
    for own, other in zip(apart.conditional_variance(), dense.conditional_variance(), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-10)
    np.testing.assert_allclose(apart.draw(3, 1.0, np.random.default_rng(1)), dense.draw(3, 1.0, np.random.default_rng(1)), atol=1e-10)


def test_small_models_keep_the_dense_factor(rows: ReducedRows) -> None:
    found = linear_system(rows)
    assert (found.leading, found.rest) == (0, (0, 1, 2))


def test_factors_that_cross_the_eliminated_one_are_dense(rows: ReducedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "WORTH_LEADING", 10)
    assert linear_system(replace(rows, blocks=rows.blocks[:3])).leading == 0
