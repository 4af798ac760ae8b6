"""The inverse link of each family, its derivative, and its mean over a normal linear predictor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtri

from multilevel.cells.statistics import CellStatistics, Floats
from multilevel.fit import Summary

type Elementwise = Callable[[Floats], Floats]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Response:
    """mean : inverse link; slope : its derivative; link : "identity", "log" or "logit". Under ``log(y)`` the scale is that of y."""

    link: str
    mean: Elementwise
    slope: Elementwise
    inverse: Elementwise

    @property
    def is_linear(self) -> bool:
        """Whether averages over rows can be taken before the link."""
        return self.link == "identity"

    def average(self, centre: Floats, variance: Floats) -> Floats:
        """E[mean(eta)] for eta ~ Normal(centre, variance): exact for identity and log, 31-point Gauss-Hermite for logit."""
        if self.link == "identity":
            return centre + np.zeros_like(variance)
        if self.link == "log":
            return np.asarray(np.exp(centre + variance / 2.0))
        if not np.any(variance):
            return self.mean(centre)
        spread = np.sqrt(variance)
        total = np.zeros(np.broadcast_shapes(np.shape(centre), np.shape(variance)))
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            total += weight * expit(centre + spread * node)
        return total


def response_interval(summary: Summary, response: Response, interval: float) -> Summary:
    """A normal interval taken on the link scale (delta method), so that it stays inside the outcome's range; identity is left as it is."""
    if response.is_linear:
        return summary
    centre = response.inverse(summary.estimate)
    half = ndtri(0.5 + interval / 2.0) * summary.std_error / response.slope(centre)
    return Summary(summary.estimate, summary.std_error, response.mean(centre - half), response.mean(centre + half))


def response_of(cells: CellStatistics) -> Response:
    """The response scale of a study: what ``group_estimates`` are in."""
    return response_for(cells.family, cells.log_outcome)


def response_for(family: str, log_outcome: bool) -> Response:
    """The inverse link of a family; under ``log(y)`` the scale is that of y."""
    if family == "binomial":
        return Response("logit", expit, lambda eta: expit(eta) * expit(-eta), lambda mu: np.log(mu) - np.log1p(-mu))
    if family == "gaussian" and not log_outcome:
        return Response("identity", lambda eta: eta, np.ones_like, lambda mu: mu)
    return Response("log", np.exp, np.exp, np.log)
