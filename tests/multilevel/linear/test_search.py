"""The optimiser's further starts: they find a lower minimum, and are cut short only at the one that is known."""

from __future__ import annotations

import numpy as np

from multilevel.linear.optimise import STARTS, Near, Optimum, minimise


def double_well(theta: np.ndarray) -> tuple[float, np.ndarray]:
    """Minima near 1 (value 0.3) and near -1 (value about -0.3), as a profiled deviance may have two."""
    x = float(theta[0])
    return 100.0 * (x**2 - 1.0) ** 2 + 0.3 * x, np.array([400.0 * x * (x**2 - 1.0) + 0.3])


def bowl(theta: np.ndarray) -> tuple[float, np.ndarray]:
    return float(np.sum((theta - 1.0) ** 2)), 2.0 * (theta - 1.0)


def searched(evaluate, starts: dict[float, float], *, is_singular: bool, near: Near | None = None) -> tuple[Optimum, int]:
    calls = 0

    def counted(theta: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal calls
        calls += 1
        return evaluate(theta)

    def start(size: float) -> np.ndarray:
        return np.array([starts[size]])

    found = minimise(counted, start, np.ones(1), is_singular=lambda theta: is_singular, seed=1, near=near)
    return found, calls


def test_a_lower_minimum_is_found_from_a_further_start() -> None:
    starts = dict(zip(STARTS, (1.2, 1.1, -3.0, 0.9), strict=True))
    found, _ = searched(double_well, starts, is_singular=True)
    assert found.starts == len(STARTS)
    assert found.theta[0] < -0.9 and found.value < -0.29


def test_a_known_minimum_ends_a_further_search_and_is_returned_exactly() -> None:
    starts = dict.fromkeys(STARTS, 4.0)
    once, alone = searched(bowl, starts, is_singular=False)
    again, all_of_them = searched(bowl, starts, is_singular=True)
    assert (once.starts, again.starts) == (1, len(STARTS))
    np.testing.assert_array_equal(again.theta, once.theta)
    assert all_of_them <= len(STARTS) * alone


def test_a_search_beside_a_minimum_that_is_much_alike_is_short_and_leaves_zero() -> None:
    starts = dict.fromkeys(STARTS, 40.0)
    found, calls = searched(bowl, starts, is_singular=False, near=Near(np.array([0.0])))
    _, far = searched(bowl, starts, is_singular=False)
    assert abs(found.theta[0] - 1.0) < 1e-6
    assert found.starts == 1 and calls <= far


def test_a_search_that_knows_the_curvature_takes_a_step_or_two() -> None:
    starts = dict.fromkeys(STARTS, 40.0)
    found, calls = searched(bowl, starts, is_singular=False, near=Near(np.array([1.4]), np.array([[0.5]])))
    assert abs(found.theta[0] - 1.0) < 1e-9
    assert calls <= 4


def test_what_vanished_nearby_may_vanish_here_and_what_did_not_is_looked_for_from_every_start() -> None:
    starts, near = dict.fromkeys(STARTS, 4.0), Near(np.array([1.4]))
    both, _ = searched(bowl, starts, is_singular=True, near=near)
    assert both.starts == 1
    here_only = minimise(bowl, lambda size: np.array([4.0]), np.ones(1), is_singular=lambda theta: theta[0] < 1.2, seed=1, near=near)
    assert here_only.starts == len(STARTS)
