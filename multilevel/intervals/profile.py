"""Profile likelihood intervals: how far one quantity can move before the deviance, minimised over everything else, rises too much.

lower and upper solve D(q) - min D = z^2, D(q) the least deviance at quantity q and z the normal quantile of the interval (Venzon and
Moolgavkar 1988; Bates et al. 2015, section 5.1). Each D(q) is a minimum over free coordinates (``Path``), begun where the last one ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.errors import FitError
from multilevel.generalised.laplace_optimise import quasi_newton
from multilevel.intervals.path import Path

TOLERANCE = 1e-6
"""Expected decrease of the deviance at which a minimum over the free coordinates has been found."""

UNFINISHED = 1e-3
"""Expected decrease above which a minimum was not found."""

ON_TARGET = 1e-4
"""How near to z^2 the rise of the deviance at a limit is."""

BETTER = 1e-4
"""A deviance lower than the fit's by more than this is the one that rises are measured from."""

STEPS = 14
"""Doublings of the Wald distance within which a limit is sought."""

ROOT_STEPS = 60

MOST_EVALUATIONS = 1_000
"""Of the deviance, for both limits of one quantity."""

OFF_ZERO = 1e-2
"""Of its unit: where a search begins in a coordinate that is zero, in which the deviance may be symmetric."""

NUMERICAL = (FitError, ArithmeticError, np.linalg.LinAlgError)
"""What a profile can raise that the fit itself did not: the fit stands then, without the interval."""


@dataclass(frozen=True)
class Limits:
    """A profile interval; None where a limit does not exist or was not found, with ``problem`` saying why."""

    lower: float | None
    upper: float | None
    problem: str = ""


def profile_limits(path: Path, best: float, interval: float) -> Limits:
    """The two limits of ``path.quantity``; a boundary of its range where the deviance does not rise enough on the way there.

    Parameters
    ----------
    best : the least deviance, at ``path.centre``. interval : probability of the interval.
    """
    z = float(ndtri(0.5 + interval / 2.0))
    search = _Search(path, best)
    for _ in range(3):
        baseline = search.best
        found = [_limit(path, search, z, direction) for direction in (-1.0, 1.0)]
        if search.best > baseline - BETTER:
            break
    problems = dict.fromkeys(one for one in found if isinstance(one, str))
    lower, upper = (None if isinstance(one, str) else one for one in found)
    return Limits(lower, upper, "; ".join(problems))


def _limit(path: Path, search: _Search, z: float, direction: float) -> float | str:
    """One limit, or why there is none."""
    try:
        return _crossing(path, search, z, direction)
    except NUMERICAL as error:
        return f"the {'lower' if direction < 0 else 'upper'} limit: {error}"


def _crossing(path: Path, search: _Search, z: float, direction: float) -> float:
    bound = path.lowest if direction < 0 else path.highest
    if direction * (bound - path.centre) <= 0:
        return float(bound)
    inside, step = path.centre, z * path.guess
    for _ in range(STEPS):
        outside = path.centre + direction * step
        outside = bound if direction * (bound - outside) <= 0 else outside
        if search.rise(outside) >= z**2:
            return _root(search, inside, outside, z)
        if outside == bound:
            return float(bound)
        inside, step = outside, 2.0 * step
    message = f"the profile likelihood stays within the interval as far as {inside:.3g}: the data do not bound it"
    raise FitError(message)


def _root(search: _Search, inside: float, outside: float, z: float) -> float:
    """Where the deviance has risen by z^2, between two points: regula falsi on the root of the rise, Illinois variant."""
    low, high = search.root(inside) - z, search.root(outside) - z
    for _ in range(ROOT_STEPS):
        at = outside - high * (outside - inside) / (high - low)
        value = search.root(at) - z
        if abs((value + z) ** 2 - z**2) < ON_TARGET or abs(outside - inside) <= 1e-12 * abs(at):
            return float(at)
        if value * high < 0:
            inside, low = outside, high
        else:
            low /= 2.0
        outside, high = at, value
    message = "the profile jumps where it should cross the limit"
    raise FitError(message)


@dataclass(frozen=True)
class _Found:
    """The least deviance at one value of the quantity, where it is, and the inverse Hessian there (None: that of the optimum)."""

    at: float
    value: float
    free: Floats
    inverse: Floats | None


class _Search:
    """The least deviance at given values of the quantity, each search begun at the nearest points between it and the optimum."""

    def __init__(self, path: Path, best: float) -> None:
        self._path, self.best = path, best
        self._evaluations = 0
        self._found = [_Found(path.centre, best, path.start, None)]

    def root(self, target: float) -> float:
        """The root of the rise."""
        return float(np.sqrt(max(self.rise(target), 0.0)))

    def rise(self, target: float) -> float:
        """D(target) - min D."""
        known = next((found for found in self._found if found.at == target), None)
        found = self._least(target) if known is None else known
        self.best = min(self.best, found.value)
        return found.value - self.best

    def _least(self, target: float) -> _Found:
        begin, start = self._start(target)
        if not len(start):
            found = _Found(target, self._path.evaluate(target, start)[0], start, None)
        else:
            found = self._minimised(target, start, self._path.inverse_hessian() if begin.inverse is None else begin.inverse)
        self._found.append(found)
        return found

    def _minimised(self, target: float, start: Floats, metric: Floats) -> _Found:
        def evaluate(free: Floats) -> tuple[float, Floats]:
            self._evaluations += 1
            if self._evaluations > MOST_EVALUATIONS:
                message = f"the profile was not complete after {MOST_EVALUATIONS:,} evaluations of the deviance"
                raise FitError(message)
            return self._path.evaluate(target, free)

        local = quasi_newton(evaluate, start, max(TOLERANCE, 1e-15 * abs(self.best)), metric)
        inverse = np.linalg.pinv(local.hessian)
        if self._evaluations > MOST_EVALUATIONS or not local.gradient @ inverse @ local.gradient < UNFINISHED:
            evaluate(local.at)  # raises where there were too many
            message = "the deviance could not be minimised over the other parameters there"
            raise FitError(message)
        return _Found(target, local.value, local.at, inverse)

    def _start(self, target: float) -> tuple[_Found, Floats]:
        """The nearest point, and where the line through the two nearest ones leads, off zero."""
        centre = self._path.centre
        between = [found for found in self._found if (found.at - centre) * (target - found.at) >= 0]
        nearest = sorted(between, key=lambda found: abs(found.at - target))
        first, at = nearest[0], nearest[0].free
        if len(nearest) > 1:
            at = at + (nearest[1].free - at) * max((target - first.at) / (nearest[1].at - first.at), -2.0)
        return first, np.where(np.abs(at) < OFF_ZERO, OFF_ZERO, at)
