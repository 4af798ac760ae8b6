"""One quantity of a model as a coordinate, beside free ones that leave it where it is: what a profile is followed in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from multilevel.arrays import Floats
from multilevel.errors import FitError

type Deviance = Callable[[Floats], tuple[float, Floats]]

STEP = 1e-3
"""Of the coordinates, between gradients of which the curvature is taken."""

FLATTEST = 1e-2
"""Curvature of the deviance, in units of the coordinates, below which a first step is no longer than a unit or so."""


@dataclass(frozen=True)
class Path:
    """A quantity, and free coordinates x (m,) in units of about their own uncertainty.

    deviance : in the model's parameters (n,), with its gradient. expand : (quantity, x) -> parameters. pull : (quantity, x, gradient in the
    parameters) -> gradient in x. centre, start : the quantity and x at the optimum. guess : the size of the quantity's uncertainty.
    lowest, highest : its range.
    """

    deviance: Deviance
    expand: Callable[[float, Floats], Floats]
    pull: Callable[[float, Floats, Floats], Floats]
    centre: float
    start: Floats
    guess: float
    lowest: float = -math.inf
    highest: float = math.inf

    def evaluate(self, quantity: float, free: Floats) -> tuple[float, Floats]:
        """The deviance and its gradient in x."""
        value, gradient = self.deviance(self.expand(quantity, free))
        return value, self.pull(quantity, free, gradient)

    def inverse_hessian(self) -> Floats:
        """(m, m) of the deviance in x at the optimum, its eigenvalues positive and bounded."""
        return self._inverse

    @cached_property
    def _inverse(self) -> Floats:
        # differences to one side: searches begin with it, and end whatever it is
        moves = STEP * np.eye(len(self.start))
        _, base = self.evaluate(self.centre, self.start)
        columns = np.array([(self.evaluate(self.centre, self.start + move)[1] - base) / STEP for move in moves])
        hessian = (columns + columns.T).reshape(len(moves), len(moves)) / 2.0
        if not np.isfinite(hessian).all():
            message = "the deviance has no curvature at its minimum"
            raise FitError(message)
        values, vectors = np.linalg.eigh(hessian)
        return np.asarray((vectors / np.maximum(np.abs(values), FLATTEST)) @ vectors.T)


def coordinate(
    deviance: Deviance, optimum: Floats, units: Floats, place: int, *, guess: float, lowest: float = -math.inf, highest: float = math.inf
) -> Path:
    """The parameter at ``place``; the others are free. ``units`` (n,) of the parameters."""
    others = np.arange(len(optimum)) != place

    def expand(quantity: float, free: Floats) -> Floats:
        values = np.empty(len(optimum))
        values[place], values[others] = quantity, free * units[others]
        return values

    start = optimum[others] / units[others]
    return Path(deviance, expand, lambda _, __, gradient: (gradient * units)[others], float(optimum[place]), start, guess, lowest, highest)


def direction(deviance: Deviance, optimum: Floats, units: Floats, row: Floats, *, guess: float) -> Path:
    """The linear combination ``row`` (n,) of the parameters."""
    scaled = row * units
    normal = scaled / (scaled @ scaled)
    # an orthonormal basis of what leaves the combination alone
    complement = np.linalg.svd(scaled[None, :])[2][1:].T
    at = optimum / units

    def expand(quantity: float, free: Floats) -> Floats:
        return np.asarray((complement @ free + normal * quantity) * units)

    return Path(deviance, expand, lambda _, __, gradient: complement.T @ (gradient * units), float(scaled @ at), complement.T @ at, guess)


def correlation(deviance: Deviance, optimum: Floats, units: Floats, places: tuple[int, int, int], *, guess: float) -> Path:
    """The correlation of a block's first two terms.

    ``places`` hold the first two rows (a, 0) and (s r, s sqrt(1 - r^2)) of its Lambda: the sds a and s are free, through their logarithms,
    so that their signs are not.
    """
    first, cross, second = places
    others = np.array([at not in places for at in range(len(optimum))])
    n_others = int(others.sum())

    def expand(quantity: float, free: Floats) -> Floats:
        values = np.empty(len(optimum))
        values[others] = free[:n_others] * units[others]
        a, s = np.exp(np.minimum(free[n_others:], 100.0))
        values[[first, cross, second]] = a, s * quantity, s * math.sqrt(max(1.0 - quantity**2, 0.0))
        return values

    def pull(quantity: float, free: Floats, gradient: Floats) -> Floats:
        values = expand(quantity, free)
        by_logs = [gradient[first] * values[first], gradient[cross] * values[cross] + gradient[second] * values[second]]
        return np.concatenate([(gradient * units)[others], by_logs])

    size = math.hypot(optimum[cross], optimum[second])
    start = np.concatenate([optimum[others] / units[others], [math.log(abs(optimum[first])), math.log(size)]])
    centre = float(np.sign(optimum[first]) * optimum[cross] / size)
    return Path(deviance, expand, pull, centre, start, guess, -1.0, 1.0)
