"""Combinations never seen under an ``a:b`` factor, of one response: the effect is N(0, Sigma), and joins the linear predictor."""

from __future__ import annotations

import numpy as np

from multilevel.arrays import Floats
from multilevel.estimands.expected_outcome import UnknownVariance
from multilevel.families.link import Link
from multilevel.fit.container import Summary
from multilevel.fit.interval_estimates import EXACT_VALUES, ONE, Moments, around


def with_unknown_effect(response: Link, known: Summary, variance: UnknownVariance, interval: float) -> Summary:
    """(M,) expected outcomes with an effect added on the link scale to those without it; ``variance``: the mean of z'Sigma z.

    The interval is that of a linear predictor whose variance is the sum of both, moved through the link: normal at each point of theta.
    """
    step = max(1, EXACT_VALUES // len(variance.points))
    places = [np.arange(at, min(at + step, len(known.estimate))) for at in range(0, len(known.estimate), step)]
    return Summary.joined([_some(response, known.at(here), variance, interval) for here in places])


def _some(response: Link, known: Summary, variance: UnknownVariance, interval: float) -> Summary:
    centre = response.inverse(known.estimate)
    squared = (known.std_error / response.slope(centre)) ** 2
    found = Moments(centre[:, None], squared[:, None], ONE).wider(variance.points[None, :], variance.weights)
    lower, upper = found.bounds(interval)
    if response.is_linear:
        return around(known.estimate, np.sqrt(found.total), lower, upper)
    estimate = response.average(centre, np.full(len(centre), variance.estimate))
    spread = squared + variance.estimate
    second = response.average(2.0 * centre, 4.0 * spread) if response.is_multiplicative else _second_moment(response, centre, spread)
    error = np.sqrt(np.maximum(second - response.average(centre, spread) ** 2, 0.0))
    return Summary(estimate, error, response.mean(lower), response.mean(upper))


def _second_moment(response: Link, centre: Floats, variance: Floats) -> Floats:
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    values = response.mean(centre[:, None] + np.sqrt(variance)[:, None] * nodes) ** 2
    return np.asarray(values @ (weights / weights.sum()))
