"""Combinations never seen under an ``a:b`` factor, of one response: the effect is N(0, Sigma), and joins the linear predictor."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.families.link import Link
from multilevel.fit.container import Summary


def with_unknown_effect(response: Link, known: Summary, variance: float, interval: float) -> Summary:
    """(M,) expected outcomes with an effect of ``variance``, the mean of z'Sigma z, added on the link scale to those without it.

    The interval is that of a normal linear predictor whose variance is the sum of both, moved through the link; exact for identity.
    """
    half = ndtri(0.5 + interval / 2.0)
    if response.is_linear:
        error = np.sqrt(known.std_error**2 + variance)
        return Summary(known.estimate, error, known.estimate - half * error, known.estimate + half * error)
    centre = response.inverse(known.estimate)
    spread = np.sqrt((known.std_error / response.slope(centre)) ** 2 + variance)
    estimate = response.average(centre, np.full(len(centre), variance))
    second = response.average(2.0 * centre, 4.0 * spread**2) if response.is_multiplicative else _second_moment(response, centre, spread)
    first = response.average(centre, spread**2)
    error = np.sqrt(np.maximum(second - first**2, 0.0))
    return Summary(estimate, error, response.mean(centre - half * spread), response.mean(centre + half * spread))


def _second_moment(response: Link, centre: Floats, spread: Floats) -> Floats:
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    values = response.mean(centre[:, None] + spread[:, None] * nodes) ** 2
    return np.asarray(values @ (weights / weights.sum()))
