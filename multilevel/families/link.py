"""Link functions: the inverse link, its derivative, and its mean over a normal linear predictor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import expit

from multilevel.arrays import Floats

type LinkName = Literal["identity", "log", "logit"]
type Elementwise = Callable[[Floats], Floats]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Link:
    """A link function g and what is calculated with it.

    Attributes
    ----------
    name : as tables and pages write it.
    mean : inverse link g^-1, elementwise. slope : its derivative. inverse : the link g itself.
    normal_mean : (centre, variance) -> E[mean(eta)] for eta ~ Normal(centre, variance), elementwise.
    """

    name: LinkName
    mean: Elementwise = field(repr=False)
    slope: Elementwise = field(repr=False)
    inverse: Elementwise = field(repr=False)
    normal_mean: Callable[[Floats, Floats], Floats] = field(repr=False)

    @property
    def is_linear(self) -> bool:
        """Whether averages over rows can be taken before the link."""
        return self.name == "identity"

    @property
    def is_multiplicative(self) -> bool:
        """Whether a coefficient multiplies the expectation."""
        return self.name == "log"

    @property
    def is_logistic(self) -> bool:
        """Whether the expectation is a probability: a coefficient multiplies odds, averages go through the logistic-normal mean."""
        return self.name == "logit"

    def average(self, centre: Floats, variance: Floats) -> Floats:
        """E[mean(eta)] for eta ~ Normal(centre, variance): exact for identity and log, 31-point Gauss-Hermite for logit."""
        return self.normal_mean(centre, variance)


FARTHEST = 300.0
"""Beyond this on a curved link's scale nothing is known: exponentials leave the range of doubles."""


def within_range(predictor: Floats) -> Floats:
    """A linear predictor under a curved link as far as its expectation, and that one's square, can be written down."""
    return np.clip(predictor, -FARTHEST, FARTHEST)


def _identity_mean(centre: Floats, variance: Floats) -> Floats:
    return centre + np.zeros_like(variance)


def _log_mean(centre: Floats, variance: Floats) -> Floats:
    return np.asarray(np.exp(within_range(centre + variance / 2.0)))


def _logit_mean(centre: Floats, variance: Floats) -> Floats:
    if not np.any(variance):
        return np.asarray(expit(centre))
    spread = np.sqrt(variance)
    total = np.zeros(np.broadcast_shapes(np.shape(centre), np.shape(variance)))
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        total += weight * expit(centre + spread * node)
    return total


IDENTITY = Link("identity", lambda eta: eta, np.ones_like, lambda mu: mu, _identity_mean)
LOG = Link("log", np.exp, np.exp, np.log, _log_mean)
LOGIT = Link("logit", expit, lambda eta: expit(eta) * expit(-eta), lambda mu: np.log(mu) - np.log1p(-mu), _logit_mean)
