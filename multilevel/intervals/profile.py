"""Profile likelihood intervals: how far one quantity can move before the deviance, minimised over everything else, rises too much.

lower and upper solve D(q) - min D = z^2, D(q) the least deviance at quantity q and z the normal quantile of the interval (Venzon and
Moolgavkar 1988; Bates et al. 2015, section 5.1). Each D(q) is a constrained minimum, begun where the last one ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import ndtri

from multilevel.cells.statistics import Floats
from multilevel.errors import FitError

type Deviance = Callable[[Floats], tuple[float, Floats]]

PRECISION = 1e-9
"""Relative change of the deviance at which a constrained minimum has been found."""

NEAR = 1e-4
"""How near to a boundary, relative to the quantity's own size, the deviance there is evaluated."""

FARTHEST = 100.0
"""Of its unit: how far from its optimum a parameter is sought."""

OFF_ZERO = 1e-2
"""Of its unit: where the search begins in a parameter that is zero at the optimum."""

STEPS = 12
"""Doublings of the Wald distance within which a limit is sought."""


@dataclass(frozen=True)
class Quantity:
    """What is profiled: its value at a parameter vector, the size of its uncertainty, and the range that it can have."""

    value: Callable[[Floats], float]
    guess: float
    lowest: float = -np.inf
    highest: float = np.inf


@dataclass(frozen=True)
class Profiler:
    """A deviance in parameters near ``optimum`` (n,), whose natural scales are ``units`` (n,)."""

    deviance: Deviance
    optimum: Floats
    units: Floats

    def limits(self, quantity: Quantity, interval: float) -> tuple[float, float]:
        """The interval's two limits; a boundary of the quantity's range where the deviance does not rise enough on the way there."""
        return self._limit(quantity, interval, -1.0), self._limit(quantity, interval, 1.0)

    def _limit(self, quantity: Quantity, interval: float, direction: float) -> float:
        best, centre = self.deviance(self.optimum)[0], quantity.value(self.optimum)
        z = float(ndtri(0.5 + interval / 2.0))
        bound = quantity.lowest if direction < 0 else quantity.highest
        # at zero a standard deviation has no direction to grow in
        scaled = self.optimum / self.units
        search = _Search(self, quantity, centre, np.where(np.abs(scaled) < OFF_ZERO, OFF_ZERO, scaled))
        inside, step = centre, z * quantity.guess
        for _ in range(STEPS):
            outside = centre + direction * step
            if direction * (bound - centre) <= 0:
                return bound
            if direction * (bound - outside) <= 0:
                outside = bound - direction * NEAR * max(abs(bound - centre), quantity.guess) if np.isfinite(bound) else outside
                if search.least(outside) - best < z**2:
                    return bound
            if search.least(outside) - best >= z**2:
                return float(brentq(lambda at: np.sqrt(max(search.least(at) - best, 0.0)) - z, inside, outside, xtol=1e-7 * quantity.guess))
            inside, step = outside, 2.0 * step
        raise FitError("A profile interval has no end: the deviance hardly rises along it. Write intervals: wald.")


class _Search:
    """The least deviance at given values of one quantity, each search begun at the nearest point found so far."""

    def __init__(self, profiler: Profiler, quantity: Quantity, centre: float, start: Floats) -> None:
        self.profiler, self.quantity = profiler, quantity
        self.found: list[tuple[float, float, Floats]] = [(centre, profiler.deviance(profiler.optimum)[0], start)]

    def least(self, target: float) -> float:
        """D(target)."""
        known = next((value for at, value, _ in self.found if at == target), None)
        if known is not None:
            return known
        units = self.profiler.units
        scale = self.quantity.guess or 1.0

        def gap(x: Floats) -> float:
            return (self.quantity.value(x * units) - target) / scale

        def scaled(x: Floats) -> tuple[float, Floats]:
            value, gradient = self.profiler.deviance(x * units)
            return value, gradient * units

        start = min(self.found, key=lambda entry: abs(entry[0] - target))[2]
        constraint = {"type": "eq", "fun": gap, "jac": lambda x: difference_gradient(gap, x)}
        options = {"ftol": PRECISION, "maxiter": 200}
        bounds = [(value - FARTHEST, value + FARTHEST) for value in self.profiler.optimum / units]
        result = minimize(  # type: ignore[call-overload]
            scaled, start, jac=True, method="SLSQP", constraints=constraint, bounds=bounds, options=options
        )
        if abs(gap(result.x)) > 1e-4 or not np.isfinite(result.fun):
            raise FitError("A profile interval could not be followed: the constrained search did not converge. Write intervals: wald.")
        self.found.append((target, float(result.fun), np.asarray(result.x)))
        return float(result.fun)


def difference_gradient(function: Callable[[Floats], float], at: Floats, step: float = 1e-5) -> Floats:
    """(n,) central differences."""
    moves = step * np.eye(len(at))
    return np.array([(function(at + move) - function(at - move)) / (2.0 * step) for move in moves])
