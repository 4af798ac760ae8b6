"""Mode, curvature, proposal, and exact draws from a density of a few parameters."""

import numpy as np
import pytest

from multilevel.bayesian.independence import curvature, find_mode, importance, laplace_proposal, sample_independently
from multilevel.bayesian.mixtures import fit_mixture, single
from multilevel.errors import FitError

PRECISION = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, 0.3], [0.0, 0.3, 4.0]])
CENTRE = np.array([1.0, -2.0, 0.5])


def normal(theta: np.ndarray) -> float:
    return float(-0.5 * (theta - CENTRE) @ PRECISION @ (theta - CENTRE))


def long_tails(thetas: np.ndarray) -> np.ndarray:
    """log of three half-normal sds, with a normal parameter that follows the first."""
    a, b = thetas[:, :3], thetas[:, 3]
    return (a - 0.5 * np.exp(2 * a)).sum(axis=1) - 0.5 * (b - a[:, 0]) ** 2


def test_mode_and_curvature_of_a_normal_density_are_its_mean_and_covariance() -> None:
    mode = find_mode(normal, np.zeros(3))
    np.testing.assert_allclose(mode, CENTRE, atol=1e-3)
    np.testing.assert_allclose(curvature(normal, mode), np.linalg.inv(PRECISION), rtol=1e-4, atol=1e-6)


def test_a_flat_direction_does_not_get_an_endless_proposal() -> None:
    covariance = curvature(lambda theta: float(-0.5 * theta[0] ** 2 + 1e-9 * theta[1]), np.zeros(2))
    assert covariance[1, 1] == pytest.approx(9.0, rel=1e-3)


def test_a_density_without_a_finite_start_is_refused() -> None:
    with pytest.raises(FitError, match="not finite"):
        find_mode(lambda theta: -np.inf, np.zeros(2))


@pytest.mark.calibration
@pytest.mark.parametrize("seed", [0, 1])
def test_long_tails_are_drawn_right_and_the_figures_say_so(seed: int) -> None:
    _, proposal = laplace_proposal(lambda theta: float(long_tails(theta[None])[0]), np.zeros(4))
    drawn = sample_independently(long_tails, proposal, chains=4, draws=1000, rng=np.random.default_rng(seed))
    assert drawn.thetas.shape == (4, 1000, 4)
    sds = np.exp(drawn.thetas[..., :3])
    np.testing.assert_allclose(sds.mean(axis=(0, 1)), np.sqrt(2 / np.pi), atol=0.07)
    np.testing.assert_allclose((sds < 0.1).mean(axis=(0, 1)), 0.0797, atol=0.03)
    assert drawn.pareto_k < 0.7
    assert drawn.acceptance > 0.4


def test_a_proposal_with_too_thin_tails_has_a_high_pareto_k() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=4000)
    _, k, ess = importance(np.log(0.2 / (1 + points**2 / 9)) + 8 * points**2 / 2 - points**2 / 2)
    assert k > 0.7
    assert ess < 400


def test_a_perfect_proposal_keeps_every_draw() -> None:
    _, k, ess = importance(np.zeros(500))
    assert k < 0.7
    assert ess == pytest.approx(500)


def test_a_mixture_integrates_to_one_and_follows_its_draws() -> None:
    rng = np.random.default_rng(2)
    points = np.concatenate([rng.normal(-3, 0.5, size=(600, 2)), rng.normal([2, 0], [1, 0.3], size=(400, 2))])
    mixture = fit_mixture(points, np.full(1000, 1e-3), 3, 6.0, rng)
    grid = np.linspace(-40, 40, 801)
    x, y = np.meshgrid(grid, grid)
    density = np.exp(mixture.log_density(np.column_stack([x.ravel(), y.ravel()])))
    assert density.sum() * 0.01 == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(mixture.sample(20_000, rng).mean(axis=0), points.mean(axis=0), atol=0.12)
    assert mixture.log_density(points).mean() > single(points.mean(axis=0), np.cov(points.T), 6.0).log_density(points).mean()


def test_a_mixture_stays_heavy_where_none_of_its_points_lay() -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(1000, 2))
    mixture = fit_mixture(points, np.full(1000, 1e-3), 3, 6.0, rng)
    alone = single(points.mean(axis=0), np.cov(points.T), 6.0)
    far = 12.0 * np.array([[1.0, 0.0], [0.6, -0.8]])
    assert (mixture.log_density(far) - alone.log_density(far) > 2.0).all()


def test_a_point_of_no_density_has_no_weight_however_small_the_others_are() -> None:
    """A million rows leave log densities far below any constant that could stand for minus infinity."""
    ratios = np.random.default_rng(3).normal(size=1000) - 1.3e6
    weights, k, ess = importance(np.append(ratios, -np.inf))
    assert weights[-1] < 1e-12
    plain, k_plain, ess_plain = importance(ratios)
    np.testing.assert_allclose(weights[:-1], plain, rtol=1e-6)
    assert (k, ess) == (pytest.approx(k_plain, abs=1e-3), pytest.approx(ess_plain, rel=1e-3))


def test_a_proposal_without_any_density_is_refused() -> None:
    with pytest.raises(FitError, match="not finite at any point"):
        importance(np.full(100, -np.inf))
