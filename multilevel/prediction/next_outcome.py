"""The interval of the next outcome at a row, and not of its expectation: what is unknown of the parameters, and what outcomes vary by.

Given the linear predictor and the scale the outcome has the family's distribution; both are integrated over their own, new levels'
effects included, so that P(y <= q) is a weighted mean of the family's distribution functions. A normal one (of ``log(y)`` too) stays a
mixture of normal distributions, in closed form; others take Gauss-Hermite nodes of the linear predictor, or the posterior's draws.
Bounds of whole numbers are quantiles: at least the probability asked for lies between them (Gelman et al. 2013, section 7.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from multilevel.arrays import Floats
from multilevel.errors import DataError
from multilevel.families.family import Family
from multilevel.families.link import within_range
from multilevel.families.registry import family_named
from multilevel.fit.container import Summary
from multilevel.fit.interval_estimates import Moments, mixture_quantiles
from multilevel.prediction.row_parts import RowPart

ETA_NODES, SCALE_NODES = 21, 5

STEPS = 60
"""Halvings: of a range of a hundred orders of magnitude too."""


class Predictive(Protocol):
    """The distribution of each row's next outcome."""

    def quantile(self, probability: Floats) -> Floats:
        """(n,) at each row's own ``probability`` (n,)."""

    @property
    def mean(self) -> Floats:
        """(n,)."""

    @property
    def variance(self) -> Floats:
        """(n,)."""


def next_outcomes(parts: Sequence[RowPart], here: slice, interval: float) -> tuple[Floats, Floats, Floats]:
    """(n,) standard deviation of the next outcome at rows ``here``, and its bounds.

    Raises DataError where a model was kept without its scale.
    """
    each = [_predictive(part, here) for part in parts]
    found: Predictive = each[0] if len(each) == 1 else _Hurdle(each[0], each[1])
    n = len(found.mean)
    lower, upper = (found.quantile(np.full(n, tail)) for tail in ((1.0 - interval) / 2.0, (1.0 + interval) / 2.0))
    return np.sqrt(np.maximum(found.variance, 0.0)), lower, upper


def _predictive(part: RowPart, here: slice) -> Predictive:
    model = part.model
    family = family_named(model.family)
    if family.scale is not None and model.scale is None and part.rows.log_variance is None:
        raise DataError("The version was published before the next outcome could be predicted: run groupwise estimate again.")
    eta, scale = part.drawn(here) if model.has_draws else _over_scales(part, here)
    if family.link.is_linear:
        normal = Moments(eta.mean, eta.variance + scale**2 / part.size[here][:, None], eta.weights)
        return _LogNormal(normal) if model.log_outcome else _Normal(normal)
    return _Nodes.of(family, eta, scale, part.size[here])


def _over_scales(part: RowPart, here: slice) -> tuple[Moments, Floats]:
    """The linear predictor, each of its points once for each node of the scale, and the scale at each (n, P)."""
    eta, (centre, error) = part.predictor(here), part.log_scale(here)
    if not np.any(error > 0):
        return eta, np.exp(centre)[:, None] * np.ones((1, eta.mean.shape[1]))
    nodes, shares = _hermite(SCALE_NODES)
    points = eta.mean.shape[1]
    weights = np.repeat(eta.weights, SCALE_NODES) * np.tile(shares, points)
    scale = np.exp(centre[:, None] + error[:, None] * np.tile(nodes, points)[None, :])
    return Moments(np.repeat(eta.mean, SCALE_NODES, axis=1), np.repeat(eta.variance, SCALE_NODES, axis=1), weights), scale


def _hermite(n: int) -> tuple[Floats, Floats]:
    nodes, shares = np.polynomial.hermite_e.hermegauss(n)
    return nodes, shares / shares.sum()


@dataclass(frozen=True)
class _Normal:
    """A mixture of normal distributions."""

    found: Moments

    def quantile(self, probability: Floats) -> Floats:
        """In closed form but for solving the mixture."""
        return mixture_quantiles(self.found, probability)

    @property
    def mean(self) -> Floats:
        """(n,)."""
        return self.found.mean @ self.found.weights

    @property
    def variance(self) -> Floats:
        """(n,)."""
        return self.found.total


@dataclass(frozen=True)
class _LogNormal:
    """A mixture of lognormal distributions."""

    found: Moments

    def quantile(self, probability: Floats) -> Floats:
        """(n,)."""
        return np.exp(within_range(mixture_quantiles(self.found, probability)))

    @cached_property
    def _each(self) -> Floats:
        return np.exp(within_range(self.found.mean + self.found.variance / 2.0))

    @property
    def mean(self) -> Floats:
        """(n,)."""
        return self._each @ self.found.weights

    @property
    def variance(self) -> Floats:
        """(n,)."""
        squares = self._each**2 * np.exp(within_range(self.found.variance))
        return squares @ self.found.weights - self.mean**2


@dataclass(frozen=True)
class _Nodes:
    """Distributions of one family at P linear predictors eta (n, P) with ``scale`` (n, P) and ``weights`` (P,); size (n,) trials."""

    family: Family
    eta: Floats
    scale: Floats
    weights: Floats
    size: Floats

    @classmethod
    def of(cls, family: Family, found: Moments, scale: Floats, size: Floats) -> _Nodes:
        """Normal linear predictors at their nodes; draws as they are."""
        if not np.any(found.variance > 0):
            return cls(family, within_range(found.mean), scale, found.weights, size)
        nodes, shares = _hermite(ETA_NODES)
        points = found.mean.shape[1]
        eta = np.repeat(found.mean, ETA_NODES, axis=1) + np.repeat(np.sqrt(found.variance), ETA_NODES, axis=1) * np.tile(nodes, points)
        weights = np.repeat(found.weights, ETA_NODES) * np.tile(shares, points)
        return cls(family, within_range(eta), np.repeat(scale, ETA_NODES, axis=1), weights, size)

    @property
    def _unit(self) -> Floats:
        """(n,) what outcomes are divided by: trials, so that a share is told."""
        return self.size

    @cached_property
    def _moments(self) -> tuple[Floats, Floats]:
        mean, variance = self.family.moments(self.size[:, None] * np.ones_like(self.eta), self.eta, self.scale)  # type: ignore[arg-type]
        return mean / self._unit[:, None], variance / self._unit[:, None] ** 2

    @property
    def mean(self) -> Floats:
        """(n,)."""
        return self._moments[0] @ self.weights

    @property
    def variance(self) -> Floats:
        """(n,)."""
        mean, variance = self._moments
        return (variance + mean**2) @ self.weights - self.mean**2

    def _below(self, y: Floats) -> Floats:
        return self.family.below(y[:, None], self.size[:, None], self.eta, self.scale) @ self.weights

    def quantile(self, probability: Floats) -> Floats:
        """The smallest outcome with at least ``probability`` at or below it."""
        return (self._whole(probability) if self.family.statistics.is_discrete else self._positive(probability)) / self._unit

    def _whole(self, probability: Floats) -> Floats:
        low, high = np.full(len(probability), -1.0), np.maximum(np.ceil(self.mean * self._unit), 1.0)
        for _ in range(STEPS):
            short = self._below(high) < probability
            if not short.any():
                break
            low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
        while np.any(high - low > 1):
            middle = np.floor((low + high) / 2.0)
            short = self._below(middle) < probability
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return high

    def _positive(self, probability: Floats) -> Floats:
        low, high = np.log(self.mean) - 1.0, np.log(self.mean) + 1.0
        for _ in range(STEPS):
            high = np.where(self._below(np.exp(high)) < probability, high + 2.0, high)
            low = np.where(self._below(np.exp(low)) > probability, low - 2.0, low)
        for _ in range(STEPS):
            middle = (low + high) / 2.0
            short = self._below(np.exp(middle)) < probability
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return np.exp((low + high) / 2.0)


@dataclass(frozen=True)
class _Hurdle:
    """Nothing, or an amount: the parts have no parameter in common."""

    occurrence: Predictive
    amount: Predictive

    def quantile(self, probability: Floats) -> Floats:
        """Zero up to the probability of nothing, then the amount's at what is left."""
        some = self.occurrence.mean
        left = (probability - (1.0 - some)) / some
        kept = np.clip(left, 1e-12, 1.0 - 1e-12)
        return np.where(left <= 0, 0.0, self.amount.quantile(kept))

    @property
    def mean(self) -> Floats:
        """(n,)."""
        return self.occurrence.mean * self.amount.mean

    @property
    def variance(self) -> Floats:
        """(n,)."""
        return self.occurrence.mean * (self.amount.variance + self.amount.mean**2) - self.mean**2


def told(summary: Summary, found: tuple[Floats, Floats, Floats]) -> Summary:
    """The expectations of ``summary`` with what is found of the next outcomes."""
    return Summary(summary.estimate, *found)
