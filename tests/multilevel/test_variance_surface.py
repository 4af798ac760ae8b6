"""Variances at all points of theta from those at a few."""

import numpy as np
import pytest

from multilevel.fit.variance_surface import MOST_MISS, variance_surface

K = 96


@pytest.fixture
def thetas() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariances (K, 2, 2) of one block, residual scales (K,), weights (K,)."""
    rng = np.random.default_rng(4)
    sds, correlation = np.exp(rng.normal(0.0, [0.1, 0.4], (K, 2))), np.tanh(rng.normal(0.3, 0.2, K))
    covariance = np.einsum("ki,kj->kij", sds, sds)
    covariance[:, 0, 1] = covariance[:, 1, 0] = covariance[:, 0, 1] * correlation
    weights = rng.uniform(0.5, 1.5, K)
    return covariance, np.exp(rng.normal(0.0, 0.01, K)), weights / weights.sum()


def test_products_of_variance_parameters_are_known_everywhere(thetas: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    covariance, scales, weights = thetas
    surface = variance_surface([covariance], scales, weights)
    assert surface is not None
    assert len(surface.places) + len(surface.others) == K
    assert 20 <= len(surface.places) <= 24
    variance = np.stack([covariance[:, 0, 0] * 3.0, covariance[:, 1, 1] ** 0.5 * scales, np.full(K, 2.0), np.zeros(K)])
    some = variance[:, surface.places]
    np.testing.assert_allclose(surface.everywhere(some)[:3], variance[:3], rtol=1e-9)
    assert not surface.everywhere(some)[3].any()
    np.testing.assert_allclose(surface.misses(some), 0.0, atol=1e-9)


def test_what_is_not_linear_is_seen(thetas: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    covariance, scales, weights = thetas
    surface = variance_surface([covariance], scales, weights)
    assert surface is not None
    curved = np.exp(np.log(covariance[:, 1, 1]) ** 2)[None, :]
    wild = np.exp(np.random.default_rng(1).normal(0.0, 0.5, (1, K)))
    at_zero = np.where(np.arange(K) % 3 == 0, 0.0, 1.0)[None, :]
    for variance in (curved, wild, at_zero):
        assert surface.misses(variance[:, surface.places])[0] > MOST_MISS
    mild = np.exp(0.01 * np.random.default_rng(1).normal(0.0, 1.0, (1, K)))
    assert 0.005 < surface.misses(mild[:, surface.places])[0] < MOST_MISS


def test_few_points_have_no_surface(thetas: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    covariance, scales, weights = thetas
    assert variance_surface([covariance[:17]], scales[:17], weights[:17] / weights[:17].sum()) is None


def test_the_few_points_of_very_many_levels_have_a_small_one(thetas: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    covariance, scales, weights = thetas
    covariance, scales, weights = covariance[:36], scales[:36], weights[:36] / weights[:36].sum()
    surface = variance_surface([covariance], scales, weights)
    assert surface is not None
    assert len(surface.places) <= 12
    variance = np.stack([covariance[:, 0, 0] * 3.0, covariance[:, 1, 1] ** 0.5 * scales])
    np.testing.assert_allclose(surface.everywhere(variance[:, surface.places]), variance, rtol=1e-9)


def test_parameters_that_do_not_vary_are_left_out(thetas: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    covariance, _, weights = thetas
    fixed = np.tile(np.zeros((1, 1)), (K, 1, 1))
    surface = variance_surface([covariance, fixed], np.ones(K), weights)
    assert surface is not None
    some = covariance[:, 0, 0][None, surface.places]
    np.testing.assert_allclose(surface.everywhere(some)[0], covariance[:, 0, 0], rtol=1e-9)
