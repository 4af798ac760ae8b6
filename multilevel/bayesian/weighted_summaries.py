"""Means, standard deviations and quantiles of weighted points, with the Monte Carlo errors of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.fit.container import Summary


@dataclass(frozen=True)
class WeightedSummary:
    """``summary`` of m quantities; mean_error, bound_error : (m,) Monte Carlo standard errors, of the bounds the larger."""

    summary: Summary
    mean_error: Floats
    bound_error: Floats


def summarise_weighted(values: Floats, weights: Floats, errors: Floats, interval: float) -> WeightedSummary:
    """Of m quantities at S independent points, ``values`` (S, m); ``weights`` and ``errors`` (S,) as in ``WeightedPoints``.

    The error of a quantile is its change over one standard error of the probability below it (Vehtari, Gelman, Simpson, Carpenter and
    Buerkner 2021, section 4.3).
    """
    mean = weights @ values
    sd = np.sqrt(weights @ (values - mean) ** 2)
    mean_error = np.sqrt(errors**2 @ (values - mean) ** 2)
    tail = (1.0 - interval) / 2.0
    bounds, bound_errors = [], []
    for probability in (tail, 1.0 - tail):
        bound = weighted_quantile(values, weights, np.full(values.shape[1], probability))
        error = np.sqrt(errors**2 @ ((values <= bound) - probability) ** 2)
        reached = [weighted_quantile(values, weights, np.clip(probability + side * error, 0.0, 1.0)) for side in (-1.0, 1.0)]
        bounds.append(bound)
        bound_errors.append((reached[1] - reached[0]) / 2.0)
    return WeightedSummary(Summary(mean, sd, *bounds), mean_error, np.maximum(*bound_errors))


def weighted_quantile(values: Floats, weights: Floats, probabilities: Floats) -> Floats:
    """(m,) the quantile of each column of ``values`` (S, m) at its own probability (m,), linear between points.

    Weights below zero are corrections of others about them: the distribution function is kept from falling.
    """
    order = np.argsort(values, axis=0)
    ascending = np.take_along_axis(values, order, axis=0)
    own = weights[order]
    below = np.maximum.accumulate(np.cumsum(own, axis=0) - own / 2.0, axis=0)
    columns = zip(probabilities, below.T, ascending.T, strict=True)
    return np.array([np.interp(probability, share, value) for probability, share, value in columns])
