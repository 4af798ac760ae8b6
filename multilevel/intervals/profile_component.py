"""The profile interval of one variance component, whichever deviance is profiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import qr

from multilevel.arrays import Floats
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows
from multilevel.design.unit_free import UnitFree
from multilevel.fit.container import IntervalMethod, VarianceComponent
from multilevel.intervals.path import Deviance, Path, coordinate, correlation
from multilevel.intervals.profile import Limits, profile_limits
from multilevel.linear.theta import Theta

FIRST_STEP = 0.2
"""Of a standard deviation's natural scale, where Wald's standard error says nothing."""

CLOSE = 1e-3
"""Of the same scale, where the deviance's slope tells how far that first step should go: with very many levels not nearly as far."""

PARALLEL = 1e-3
"""Sine of the angle between two terms, in unit-free coordinates, below which their correlation is 1 or -1 whatever the variances are."""

type Turn = tuple[int, Floats]
"""A block and T (k, k), invertible: T b' are the effects that are profiled, b' the unit-free ones."""


@dataclass(frozen=True)
class Profiled:
    """A deviance in parameters (n,) that begin with the Lambdas of ``layout`` and end with the logarithm of the dispersion, if any.

    optimum, units : (n,) its minimum and the parameters' natural scales. best : the least deviance.
    """

    deviance: Deviance
    optimum: Floats
    units: Floats
    best: float
    layout: Theta


class Profiles:
    """Profiles of one fitted model in unit-free coordinates, whose ``build`` lays it out with the effects of a block turned.

    Terms as written are combinations of unit-free effects: turned so that they come first, their sds and correlation are parameters.
    """

    def __init__(self, design: Design, form: UnitFree, build: Callable[[Turn | None], Profiled]) -> None:
        self._design, self._form, self._build = design, form, build
        self._built: dict[tuple[int, tuple[int, ...]] | None, Profiled] = {}

    def model(self, block: int = 0, terms: tuple[int, ...] = ()) -> Profiled:
        """The model with a block's ``terms``, as written but of length one, before its other effects; without them, as it was fitted."""
        turn = turn_to(self._form.maps.blocks[block], terms) if terms else None
        key = None if turn is None or np.array_equal(turn, np.eye(len(turn))) else (block, terms)
        if key not in self._built:
            self._built[key] = self._build(None if key is None or turn is None else (block, turn))
        return self._built[key]

    def component(self, found: VarianceComponent, interval: float) -> VarianceComponent:
        """With its profile limits; a correlation that the fit does not determine has none. ``note`` says why a limit is missing."""
        if not math.isfinite(found.estimate):
            note = "not determined: the standard deviation of one of its terms is estimated as zero"
            return replace(found, lower=None, upper=None, interval_method=None, note=note)
        limits = self._limits(found, interval)
        method: IntervalMethod | None = None if limits.lower is None and limits.upper is None else "profile"
        return replace(found, lower=limits.lower, upper=limits.upper, interval_method=method, note=limits.problem)

    def _limits(self, found: VarianceComponent, interval: float) -> Limits:
        if found.block is None:
            return self._dispersion(found, interval)
        labels = [column.label for column in self._design.blocks[found.block].columns]
        terms = tuple(labels.index(term) for term in (found.term, found.other_term) if term is not None)
        own = self._form.maps.blocks[found.block]
        if len(terms) > 1 and sine(own[list(terms)]) < PARALLEL:
            return Limits(None, None, "not determined: the predictor is so far from 0 that the correlation is 1 or -1 in any case")
        model = self.model(found.block, terms)
        start, k = Theta(model.layout.sizes[: found.block]).n, len(labels)
        if found.other_term is None:
            return _sd_limits(model, start, found, float(np.linalg.norm(own[terms[0]])), interval)
        path = _correlation(model, start, k, found)
        if path is None:
            return Limits(None, None, "not determined: the standard deviation of one of its terms is zero where the likelihood is highest")
        return profile_limits(path, model.best, interval)

    def _dispersion(self, found: VarianceComponent, interval: float) -> Limits:
        model = self.model()
        relative = found.std_error / found.estimate if found.std_error else math.inf
        place = len(model.optimum) - 1
        guess = min(relative, 3.0 * float(model.units[-1]))
        limits = profile_limits(coordinate(model.deviance, model.optimum, model.units, place, guess=guess), model.best, interval)
        lower, upper = (None if limit is None else math.exp(limit) for limit in (limits.lower, limits.upper))
        return replace(limits, lower=lower, upper=upper)


def _sd_limits(model: Profiled, place: int, found: VarianceComponent, length: float, interval: float) -> Limits:
    """``length`` : of the term as written, in unit-free coordinates."""
    centre = abs(float(model.optimum[place]))
    scale = max(centre, FIRST_STEP * float(model.units[place]))
    error = math.inf if found.std_error is None else found.std_error / length
    optimum = np.where(np.arange(len(model.optimum)) == place, centre, model.optimum)
    guess = error if error < scale else min(scale, _flat_distance(model, optimum, place, CLOSE * scale))
    path = coordinate(model.deviance, optimum, model.units, place, guess=guess, lowest=0.0)
    limits = profile_limits(path, model.best, interval)
    lower, upper = (None if limit is None else length * limit for limit in (limits.lower, limits.upper))
    return replace(limits, lower=lower, upper=upper)


def _flat_distance(model: Profiled, optimum: Floats, place: int, distance: float) -> float:
    """How far the parameter at ``place`` moves for a rise of one, by the slope a small ``distance`` from ``optimum`` (n,)."""
    slope = float(model.deviance(np.where(np.arange(len(optimum)) == place, optimum + distance, optimum))[1][place])
    return math.sqrt(2.0 * distance / slope) if 0.0 < slope < math.inf else math.inf


def _correlation(model: Profiled, start: int, k: int, found: VarianceComponent) -> Path | None:
    places = (start, start + 1, start + k)
    first, cross, second = (float(model.optimum[place]) for place in places)
    if first == 0.0 or cross == second == 0.0:
        return None
    error = found.std_error if found.std_error is not None else math.inf
    return correlation(model.deviance, model.optimum, model.units, places, guess=max(min(error, 0.3), 0.05))


def turn_to(own: Floats, terms: tuple[int, ...]) -> Floats:
    """T (k, k): first the rows ``terms`` of ``own`` (k, k), each at length one, then orthonormal rows at right angles to them."""
    first = own[list(terms)]
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    others = qr(first.T)[0][:, len(terms) :].T
    return np.vstack([first, others])


def sine(pair: Floats) -> float:
    """Of the angle between two rows (2, k)."""
    return float(abs(qr((pair / np.linalg.norm(pair, axis=1, keepdims=True)).T, mode="r")[0][1, 1]))


def turned(rows: ReducedRows, turn: Turn | None) -> ReducedRows:
    """The rows for the turned effects of a block."""
    if turn is None:
        return rows
    block, matrix = turn
    changed = replace(rows.blocks[block], values=np.ascontiguousarray(rows.blocks[block].values @ np.linalg.inv(matrix)))
    return replace(rows, blocks=(*rows.blocks[:block], changed, *rows.blocks[block + 1 :]))


def turned_lambdas(lambdas: Sequence[Floats], turn: Turn | None) -> list[Floats]:
    """The Lambdas of the same covariances, a block's effects turned, no diagonal negative."""
    found = [np.asarray(part) for part in lambdas]
    if turn is not None:
        block, matrix = turn
        triangle = qr((matrix @ found[block]).T, mode="economic")[1].T
        found[block] = triangle * np.where(np.diagonal(triangle) < 0, -1.0, 1.0)
    return found
