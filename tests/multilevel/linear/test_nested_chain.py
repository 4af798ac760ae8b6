"""Factors nested in one another are eliminated one after the other, with the numbers of the dense factor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from multilevel.design.reduction import ReducedBlock, ReducedRows
from multilevel.linear import assemble, effects_gradient
from multilevel.linear.assemble import linear_system
from multilevel.linear.dense_part import dense_part, whole
from multilevel.linear.effects_gradient import criterion_gradient
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.joint_normal import NormalJoint

CUSTOMERS, CATEGORIES = 45, 12


def rows(slopes: bool) -> ReducedRows:
    """Customers in bands in countries, crossed with categories that have a slope; the pairs of both have effects too."""
    rng = np.random.default_rng(2)
    n = 3_000
    customer, category, x = rng.integers(0, CUSTOMERS, n), rng.integers(0, CATEGORIES, n), rng.normal(size=n)
    pair = np.unique(customer * CATEGORIES + category, return_inverse=True)[1]
    ones, both = np.ones((n, 1)), np.column_stack([np.ones(n), x])
    band = customer % 6
    wide = both if slopes else ones
    blocks = (
        ReducedBlock((band % 3).astype(np.int32), ones, 3),
        ReducedBlock(customer.astype(np.int32), wide, CUSTOMERS),
        ReducedBlock(category.astype(np.int32), both, CATEGORIES),
        ReducedBlock(pair.astype(np.int32), wide, int(pair.max()) + 1),
        ReducedBlock(band.astype(np.int32), ones, 6),
        # a second term of the customers, without a correlation with the first
        ReducedBlock(customer.astype(np.int32), (x**2)[:, None], CUSTOMERS),
    )
    y = rng.normal(size=CUSTOMERS)[customer] + rng.normal(size=CATEGORIES)[category] + 0.3 * x + rng.normal(size=n)
    size = np.ones(n)
    return ReducedRows(both, blocks, y, size, np.zeros(n), size, np.arange(n, dtype=np.int32), n, 0.0)


def factors(slopes: bool, size: float = 1.0, leaf: float = 1.0) -> list[np.ndarray]:
    wide = np.array([[0.9, 0.0], [0.2, 0.3]])
    own, pair = (wide, 0.6 * wide) if slopes else (np.array([[0.7]]), np.array([[0.5]]))
    return [size * np.array([[0.4]]), size * own, wide, leaf * pair, np.array([[0.6]]), np.array([[0.2]])]


NEVER = 10**9
"""Effects from which a factor above the first would be eliminated: all of them are dense."""


@pytest.fixture(params=[1, 50], ids=["four generations", "two generations"])
def worth(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def both_ways(slopes: bool, worth: int, lambdas: list[np.ndarray]) -> tuple[BlockedFactor, BlockedFactor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "WORTH_ELIMINATING", worth)
        apart = linear_system(rows(slopes))
        patch.setattr(assemble, "WORTH_ELIMINATING", NEVER)
        dense = linear_system(rows(slopes))
    assert (apart.merged, dense.chain) == ((3,), ())
    assert [stage.blocks for stage in apart.chain] == ([(1, 5), (4,), (0,)] if worth == 1 else [(1, 5)])
    return apart.factorise(lambdas), dense.factorise(lambdas)


@pytest.mark.parametrize("slopes", [False, True], ids=["intercepts", "slopes"])
@pytest.mark.parametrize(("size", "leaf"), [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (1e-7, 1.0), (1.0, 1e3), (1e3, 1.0)])
def test_numbers_are_those_of_the_dense_factor(slopes: bool, size: float, leaf: float, worth: int) -> None:
    apart, dense = both_ways(slopes, worth, factors(slopes, size, leaf))
    # effects all but free leave the intercept and the slopes of a few rows few digits, in either factor
    digits = 1e-6 if max(size, leaf) > 1.0 else 1e-9
    for name in ("rss", "log_det_effects", "log_det_population", "beta", "effects"):
        np.testing.assert_allclose(getattr(apart, name), getattr(dense, name), rtol=digits, atol=digits)
    for reml in (False, True):
        for own, other in zip(criterion_gradient(apart, None, reml=reml), criterion_gradient(dense, None, reml=reml), strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-7, atol=max(10.0 * digits, 1e-7))
    for own, other in zip(apart.conditional_variance(), dense.conditional_variance(), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("slopes", [False, True], ids=["intercepts", "slopes"])
def test_two_threads_that_share_the_levels_find_the_same_gradient(slopes: bool, worth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    apart, _ = both_ways(slopes, worth, factors(slopes))
    alone = criterion_gradient(apart, None, reml=True)
    monkeypatch.setattr(effects_gradient, "MANY_LEVELS", 2)
    for own, other in zip(criterion_gradient(apart, None, reml=True), alone, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("slopes", [False, True], ids=["intercepts", "slopes"])
def test_the_joint_distribution_is_that_of_the_dense_factor(slopes: bool, worth: int) -> None:
    apart, dense = (NormalJoint(factor, 1.3) for factor in both_ways(slopes, worth, factors(slopes)))
    rng = np.random.default_rng(4)
    picked = csr_array(rng.normal(size=(40, len(dense.mean))) * (rng.random((40, len(dense.mean))) < 0.1))
    centre = csr_array(picked.sum(axis=0).reshape(1, -1) / 40)
    np.testing.assert_allclose(apart.variance(picked), dense.variance(picked), rtol=1e-9)
    np.testing.assert_allclose(apart.spread_about(picked, centre), dense.spread_about(picked, centre), rtol=1e-9)
    np.testing.assert_allclose(apart.covariance_about(picked, centre), dense.covariance_about(picked, centre), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(apart.covariance_times(picked), dense.covariance_times(picked), rtol=1e-9, atol=1e-10)
    # rows of one parent, of several and of none, as many as leaves
    alone = csr_array(np.eye(len(dense.mean)) + np.eye(len(dense.mean), k=-3) * 0.5)
    assert apart._has_parents(alone) == (len(apart.factor.chain) == 1)
    np.testing.assert_allclose(apart.variance(alone), dense.variance(alone), rtol=1e-9)
    # of one row the difference from the centre is next to nothing
    near = csr_array(alone[[70]] + 1e-4 * centre)
    np.testing.assert_allclose(apart.spread_about(alone, centre), dense.spread_about(alone, centre), rtol=1e-9)
    np.testing.assert_allclose(apart.spread_about(alone, near), dense.spread_about(alone, near), rtol=1e-7)
    root = apart.covariance_root()
    np.testing.assert_allclose(np.einsum("ij,ij->i", picked @ root.T, picked @ root.T), dense.variance(picked), rtol=1e-9)
    drawn = (apart.draws(4_000, 1) - apart.mean) @ picked.T.toarray()
    np.testing.assert_allclose(drawn.std(axis=0), np.sqrt(dense.variance(picked)), rtol=0.06)


@pytest.mark.parametrize("slopes", [False, True], ids=["intercepts", "slopes"])
def test_a_factorisation_follows_from_its_dense_part(slopes: bool, worth: int) -> None:
    made, _ = both_ways(slopes, worth, factors(slopes))
    again = whole(dense_part(made))
    assert dense_part(made).kernels.size == 0
    for name in ("beta", "effects", "root", "kernels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))
    one, other = NormalJoint(made, 1.3), NormalJoint(again, 1.3)
    every = csr_array(np.eye(len(one.mean)))
    np.testing.assert_array_equal(one.variance(every), other.variance(every))


def test_small_models_keep_the_dense_factor() -> None:
    found = linear_system(rows(slopes=False))
    assert not found.chain
    assert found.rest == (0, 1, 2, 4, 5)


def test_factors_that_cross_the_eliminated_one_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "WORTH_ELIMINATING", 1)
    whole = rows(slopes=False)
    crossed = replace(whole, blocks=(whole.blocks[0], whole.blocks[2], whole.blocks[1]))
    found = linear_system(crossed)
    assert found.merged == (2,)
    assert [stage.blocks for stage in found.chain] == [(0,)]
    assert found.rest == (1,)


def test_many_rows_are_projected_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    few = linear_system(rows(False)).inside
    monkeypatch.setattr(assemble, "MANY_ROWS", 0)
    assert few is not None
    np.testing.assert_allclose(linear_system(rows(False)).inside, few, rtol=1e-12)
