"""The search for the corrected mode where Laplace's approximation has its own at a standard deviation of about zero."""

import numpy as np

from multilevel.bayesian.collapsed_fit import starting_point
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
