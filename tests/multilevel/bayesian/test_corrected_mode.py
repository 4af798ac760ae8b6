"""The search for the mode: a plateau on its way, and a Laplace approximation with its own mode at a standard deviation of about zero."""

import numpy as np

from multilevel.bayesian.collapsed_fit import starting_point
from multilevel.bayesian.importance_points import curvature, search_mode
from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed
from multilevel.bayesian.laplace_points import corrected_mode
from multilevel.bayesian.level_integrals import largest, level_factors
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.points_fit import parameter_units
from multilevel.bayesian.some_levels import laplace_mode
from tests.many_level_models import model_of
from tests.many_level_shops import many_level_shop


def test_the_search_ends_where_one_from_about_the_mode_does() -> None:
    """There the density is flat, so that the first points reach standard deviations at which the correction is hundreds of units."""
    rows, outcome, priors = model_of(many_level_shop("binomial", 5_000, 4, 43), "binomial")
    layout, factors = Layout((1, 1, 1), with_scale=False), level_factors(rows)
    density = LaplaceCollapsed(rows, outcome, layout, priors)
    start, units = starting_point(layout, priors), parameter_units(layout, rows)
    of_laplace, covariance = laplace_mode(density, rows, outcome, largest(factors), start, units)
    assert of_laplace[1] < -2.5
    assert covariance[1, 1] > 1.0
    _, mode, spread = corrected_mode(density, factors, of_laplace, covariance, 2)
    near = np.array([of_laplace[0], -1.7, of_laplace[2]])
    _, expected, same = corrected_mode(density, factors, near, np.diag([0.03, 0.1, 0.015]), 2)
    sds = np.sqrt(np.diag(spread))
    assert mode[1] > -2.5
    np.testing.assert_allclose((mode - expected) / sds, 0.0, atol=0.2)
    np.testing.assert_allclose(np.sqrt(np.diag(same)), sds, rtol=0.25)


def test_a_search_that_meets_a_plateau_goes_on() -> None:
    """Its line search tries standard deviations of e^50, where there is no density and no slope, and gives up a thousand units too low."""
    rows, outcome, priors = model_of(many_level_shop("binomial", 10_000, 4, 36), "binomial")
    layout = Layout((1, 1, 1), with_scale=False)
    density = LaplaceCollapsed(rows, outcome, layout, priors)
    mode = search_mode(density.value_and_gradient, starting_point(layout, priors), parameter_units(layout, rows))
    _, slope = density.value_and_gradient(mode)
    assert slope @ curvature(density.value_and_gradient, mode) @ slope < 0.1
    np.testing.assert_allclose(mode[1:], [0.721, -0.632], atol=0.05)
