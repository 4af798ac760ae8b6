"""Weighted points of a density in few dimensions, of which everything is known."""

import numpy as np
import pytest

from multilevel.bayesian.importance_points import ENOUGH_ESS, ThetaPosterior, importance_points, largest_pareto_k
from multilevel.bayesian.level_points import LevelPoints, calibrated, choose_points, number_of_points
from multilevel.bayesian.refined_points import plain_points, refined
from multilevel.bayesian.split_t import SplitT
from multilevel.bayesian.weighted_summaries import summarise_weighted, weighted_quantile

MIX = np.array([[1.0, 0.4, 0.0], [0.0, 1.0, -0.3], [0.0, 0.0, 1.0]])


def log_density(points: np.ndarray) -> np.ndarray:
    """Of mixed logarithms of gamma(4) variables: means of the unmixed ones are digamma(4), variances trigamma(4)."""
    z = points @ np.linalg.inv(MIX).T
    return np.sum(4.0 * z - np.exp(z), axis=1)


def slope(point: np.ndarray) -> tuple[float, np.ndarray]:
    z = np.linalg.solve(MIX, point)
    return float(log_density(point[None])[0]), np.linalg.inv(MIX).T @ (4.0 - np.exp(z))


def found(seed: int = 1) -> ThetaPosterior:
    return importance_points(log_density, slope, np.zeros(3), np.ones(3), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def points() -> ThetaPosterior:
    return found()


def test_the_points_are_those_of_a_skewed_density(points: ThetaPosterior) -> None:
    truth = np.random.default_rng(0)
    exact = np.log(truth.gamma(4.0, size=(400_000, 3))) @ MIX.T
    told = summarise_weighted(points.thetas, points.weights, points.weights, 0.9)
    assert points.are_enough
    np.testing.assert_array_less(np.abs(told.summary.estimate - exact.mean(axis=0)), 4.0 * told.mean_error)
    np.testing.assert_array_less(np.abs(told.summary.lower - np.quantile(exact, 0.05, axis=0)), 4.0 * told.bound_error)
    np.testing.assert_allclose(told.summary.std_error, exact.std(axis=0), rtol=0.15)


def test_progress_is_told_and_changes_nothing(points: ThetaPosterior) -> None:
    told: list[tuple[str, float]] = []
    again = importance_points(
        log_density, slope, np.zeros(3), np.ones(3), np.random.default_rng(1), lambda doing, share: told.append((doing, share))
    )
    np.testing.assert_array_equal(again.thetas, points.thetas)
    assert told[0] == ("mode of the variance parameters", 0.0)
    assert told[1][0] == "0 points"
    assert all(0.0 <= share < 1.0 for _, share in told)
    assert len(told) > len(points.thetas) / 130


def test_refined_points_agree_and_know_more(points: ThetaPosterior) -> None:
    exact = np.log(np.random.default_rng(0).gamma(4.0, size=(400_000, 3))) @ MIX.T
    better = refined(points, np.random.default_rng(2))
    told = summarise_weighted(better.thetas, better.weights, better.errors, 0.9)
    assert better.ess > 2.0 * points.ess
    assert better.weights.sum() == pytest.approx(1.0)
    np.testing.assert_array_less(np.abs(told.summary.estimate - exact.mean(axis=0)), 4.0 * told.mean_error)
    np.testing.assert_array_less(np.abs(told.summary.upper - np.quantile(exact, 0.95, axis=0)), 4.0 * told.bound_error)


@pytest.mark.calibration
def test_the_monte_carlo_errors_are_those_over_seeds() -> None:
    exact = np.log(np.random.default_rng(0).gamma(4.0, size=(1_000_000, 3))) @ MIX.T
    z, worst = [], []
    for seed in range(100):
        own = found(seed)
        better = refined(own, np.random.default_rng(seed + 1_000))
        told = summarise_weighted(better.thetas, better.weights, better.errors, 0.9)
        z.append((told.summary.estimate - exact.mean(axis=0)) / told.mean_error)
        worst.append((told.summary.upper - np.quantile(exact, 0.95, axis=0)) / told.bound_error)
    assert 0.6 < np.std(z) < 1.3
    assert 0.6 < np.std(worst) < 1.3


def test_tails_that_no_proposal_covers_fail_the_gate() -> None:
    # a quarter of the mass lies on a needle that the curvature at the mode knows nothing of
    def needle(at: np.ndarray) -> np.ndarray:
        wide = -0.5 * np.sum(at**2, axis=1)
        return np.logaddexp(wide, 40.0 - 0.5 * np.sum(((at - 30.0) / 0.01) ** 2, axis=1))

    def gradient(at: np.ndarray) -> tuple[float, np.ndarray]:
        return float(needle(at[None])[0]), -at

    with np.errstate(all="ignore"):
        sample = importance_points(lambda at: 3.0 * needle(at), gradient, np.full(2, 0.1), np.ones(2), np.random.default_rng(0))
    assert sample.ess >= ENOUGH_ESS or not sample.are_enough


def test_the_threshold_of_pareto_k_grows_with_the_sample() -> None:
    assert largest_pareto_k(500) == pytest.approx(1.0 - 1.0 / np.log10(500))
    assert largest_pareto_k(4_000) == 0.7


def test_a_split_t_is_drawn_from_its_density() -> None:
    split = SplitT(np.array([1.0, -2.0]), np.array([[1.0, 0.5], [0.0, 2.0]]), np.array([0.5, 1.0]), np.array([2.0, 1.5]), 5.0)
    drawn = split.sample(200_000, np.random.default_rng(0))
    # the mean of one density over another is one where the second is drawn from and covers the first
    narrow = -0.5 * np.sum((drawn - split.location) ** 2, axis=1) - np.log(2.0 * np.pi)
    ratio = np.exp(narrow - split.log_density(drawn))
    assert ratio.mean() == pytest.approx(1.0, abs=4.0 * ratio.std() / np.sqrt(len(ratio)))
    assert ratio.std() < 10.0
    along = np.linalg.solve(split.axes, (drawn - split.location).T)
    assert (along > 0).mean(axis=1) == pytest.approx(split.above / (split.above + split.below), abs=0.01)


def test_calibrated_weights_have_the_means_asked_for() -> None:
    rng = np.random.default_rng(0)
    moments, target = rng.normal(size=(50, 4)), np.array([0.1, -0.1, 0.2, 0.0])
    weights = calibrated(moments, np.full(50, 0.02), target)
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(weights @ moments, target, atol=1e-3)


def test_few_points_stand_for_all(points: ThetaPosterior) -> None:
    few = choose_points(points, plain_points(points), number_of_points(3), np.random.default_rng(3))
    assert isinstance(few, LevelPoints)
    assert len(few.places) <= number_of_points(3)
    smooth = np.column_stack([points.thetas, points.thetas[:, 0] ** 2, np.exp(0.3 * points.thetas[:, 1])])
    own = few.weights @ smooth[few.places]
    np.testing.assert_array_less(np.abs(own - points.weights @ smooth), few.errors(smooth[few.places]) + 1e-3)


def test_a_weighted_quantile_is_that_of_repeated_points() -> None:
    values, times = np.array([[3.0], [1.0], [2.0]]), np.array([1, 2, 1])
    repeated = np.repeat(values[:, 0], 1_000 * times)
    for probability in (0.2, 0.3, 0.9):
        own = weighted_quantile(np.repeat(values, 1_000, axis=0), np.repeat(times / 4_000, 1_000), np.array([probability]))
        assert own[0] == pytest.approx(np.quantile(repeated, probability), abs=0.01)
