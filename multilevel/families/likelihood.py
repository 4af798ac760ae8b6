"""Log-likelihoods of cells as functions of the linear predictor, with every derivative that Laplace's approximation needs.

Each is log-concave in the linear predictor, so that the observed information is positive and Newton's steps from anywhere go up. They are
the rows' own log-likelihoods: what depends on rows alone is restored from ``Outcome.once`` and ``Outcome.histogram``.

``terms`` are taken against the saturated fit, r = eta - link(mean of the row) apart (minus half the unit deviances of McCullagh and Nelder
1989, section 2.3): large counts and small dispersions would cancel otherwise, and a difference of two values would be rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from multilevel.arrays import Floats

STEEP = 30.0
"""Of r, on a log or logit scale: beyond it the sign says which form of ``two_sided`` cannot overflow."""

EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Curvature:
    """Derivatives of each row's log-likelihood in its linear predictor, each (R,): the first, minus the second, minus the third."""

    score: Floats
    weight: Floats
    weight_slope: Floats


@dataclass(frozen=True)
class ByDispersion:
    """Derivatives in log dispersion: of ``Likelihood.constant``, and of ``terms``, ``score`` and ``weight``, each (R,)."""

    constant: float
    terms: Floats
    score: Floats
    weight: Floats

    @property
    def log_likelihood(self) -> float:
        """Derivative of the whole log-likelihood."""
        return self.constant + float(self.terms.sum())


class Likelihood(Protocol):
    """Log-likelihood of reduced rows; ``eta`` (R,) is the linear predictor, offset included, ``log_dispersion`` ignored without one."""

    @property
    def has_dispersion(self) -> bool:
        """Whether the likelihood has a dispersion parameter."""

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """(R,) what depends on eta; ``terms.sum() + constant`` is the log-likelihood of the line items."""

    def constant(self, log_dispersion: float) -> float:
        """What does not depend on eta."""

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta."""

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """(R,) observed plus expected, of which the score is the difference: rounding is relative to it."""

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """Derivatives in log dispersion."""

    def typical_predictor(self) -> float:
        """The linear predictor (less the offset) at the overall mean: where searches begin."""


def rounding_of_value(likelihood: Likelihood, eta: Floats, log_dispersion: float) -> float:
    """What rounding of the linear predictor and of the summands may move the log-likelihood by."""
    return 4.0 * EPSILON * float(np.sum(likelihood.gross(eta, log_dispersion) * (1.0 + np.abs(eta))))


def rounding_of_decrement(likelihood: Likelihood, eta: Floats, log_dispersion: float, weight: Floats) -> float:
    """What rounding of the score s may leave of a Newton decrement s'Z (Z'WZ + I)^-1 Z's, at most s'W^-1 s; ``weight`` (R,) is W."""
    error = 4.0 * EPSILON * likelihood.gross(eta, log_dispersion) * (1.0 + np.abs(eta))
    return float(np.sum(np.divide(error**2, weight, out=np.zeros_like(error), where=weight > error)))


def no_dispersion(eta: Floats) -> ByDispersion:
    """Of a likelihood without a dispersion."""
    nothing = np.zeros_like(eta)
    return ByDispersion(0.0, nothing, nothing, nothing)


def two_sided(up: Floats, down: Floats, share: Floats, rest: Floats, r: Floats) -> Floats:
    """u r - (u + d) log(1 + share (exp(r) - 1)) for share = u / (u + d): so where u is small, by its mirror image where d is."""
    mirrored = np.where(np.abs(r) > STEEP, r > 0.0, up > down)
    direct = up * r - (up + down) * np.log1p(share * np.expm1(np.minimum(r, STEEP)))
    mirror = -down * r - (up + down) * np.log1p(rest * np.expm1(-np.maximum(r, -STEEP)))
    return np.where(mirrored, mirror, direct)
