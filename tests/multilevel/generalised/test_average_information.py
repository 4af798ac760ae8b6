"""Where searches begin: curvature without differences, and steps with the factor of another point."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.reduction import reduce_design
from multilevel.formula.parse import parse_formula
from multilevel.generalised.average_information import second_order
from multilevel.generalised.reweighting import Coordinates, reweighting, solve, solve_spherical
from multilevel.generalised.search import problem_of
from multilevel.linear import assemble
from multilevel.linear.optimise import difference_hessian
from multilevel.linear.theta import Theta
from tests.multilevel.generalised.nested_sales import NEVER, THREE_DEEP, design_of, sales


def test_a_deviance_that_is_linear_in_the_covariances_has_only_the_second_order_part() -> None:
    layout = Theta((2, 1, 3))
    rng = np.random.default_rng(1)
    slopes = [root @ root.T for root in (rng.normal(size=(k, k)) for k in layout.sizes)]

    def gradient(theta: np.ndarray) -> np.ndarray:
        return layout.flat([np.tril(2.0 * own @ part) for own, part in zip(slopes, layout.lambdas(theta), strict=True)])

    theta = 0.5 + rng.random(layout.n)
    expected = difference_hessian(gradient, theta, np.full(layout.n, 1e-4))
    np.testing.assert_allclose(second_order(layout, theta, gradient(theta)), expected, atol=1e-8)
    np.testing.assert_array_equal(second_order(layout, theta, -gradient(theta)), np.zeros((layout.n, layout.n)))


def test_average_information_is_near_the_curvature_of_many_levels() -> None:
    rng = np.random.default_rng(3)
    frame = sales("poisson", 6_000).assign(town=[f"{code}" for code in rng.integers(0, 300, 6_000)])
    frame["y"] = rng.poisson(np.exp(1.0 + 0.7 * rng.normal(size=300)[frame.town.astype(int)]))
    formula = parse_formula("y ~ 1 + (1 | town)")
    design = build_design(formula, cells_from_frame(formula, frame, "poisson"))
    objective = problem_of(design, reduce_design(design), "poisson").objective

    def gradient(theta: np.ndarray) -> np.ndarray:
        return objective.gradient(objective.mode(theta, 0.0, None), 0.0, profiled=True).theta

    at = np.array([0.7])
    found = objective.information(objective.mode(at, 0.0, None)).average + second_order(Theta((1,)), at, gradient(at))
    # the sd of 300 effects is known to a twentieth; the weights, which follow theta, are left out
    assert found[0, 0] == pytest.approx(difference_hessian(gradient, at, np.array([1e-3]))[0, 0], rel=0.15)


@pytest.mark.parametrize("worth", [1, NEVER])
def test_solving_for_the_spherical_effects_is_the_same_solve(worth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "WORTH_ELIMINATING", worth)
    design = design_of(THREE_DEEP, "binomial")
    layout = reweighting(reduce_design(design))
    rng, theta_layout = np.random.default_rng(5), Theta(tuple(len(block.columns) for block in design.blocks))
    lambdas = theta_layout.lambdas(0.3 + rng.random(theta_layout.n))
    factor = layout.system(rng.random(len(layout.offset))).factorise(lambdas)
    right = layout.transposed(rng.normal(size=len(layout.offset)))
    turned = layout.from_blocks([own @ part for own, part in zip(layout.by_block(right), lambdas, strict=True)], right.basis)
    for with_basis in (True, False):
        expected = solve(factor, right, with_basis=with_basis)[1]
        gap = expected - solve_spherical(factor, turned, with_basis=with_basis)
        assert gap.dot(gap) < 1e-20 * expected.dot(expected)


def test_spherical_effects_under_a_singular_covariance_are_those_of_the_dense_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    design = design_of(THREE_DEEP, "binomial")
    rng = np.random.default_rng(6)
    parts = [rng.normal(size=(block.factor.n_levels, len(block.columns))) for block in design.blocks]
    weights, found = rng.random(design.cells.n_cells), []
    lambdas = [np.array([[0.0]]), np.array([[0.5, 0.0], [0.3, 0.0]]), np.array([[0.4, 0.0], [0.1, 0.2]]), np.array([[0.6]])]
    for worth in (1, NEVER):
        monkeypatch.setattr(assemble, "WORTH_ELIMINATING", worth)
        layout = reweighting(reduce_design(design))
        right: Coordinates = layout.from_blocks(parts, np.ones(2))
        solved = solve_spherical(layout.system(weights).factorise(lambdas), right, with_basis=True)
        found.append([solved.basis, *layout.by_block(solved)])
    for own, other in zip(*found, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-11)
