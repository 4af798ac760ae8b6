"""The profile interval of one variance component, whichever deviance is profiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import qr

from multilevel.cells.statistics import Floats
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows
from multilevel.fit import IntervalMethod, VarianceComponent
from multilevel.intervals.path import Deviance, Path, coordinate, correlation
from multilevel.intervals.profile import Limits, profile_limits
from multilevel.linear.parameters import Theta

FIRST_STEP = 0.2
"""Of a standard deviation's natural scale, where Wald's standard error says nothing."""

type Order = tuple[int, tuple[int, ...]]
"""A block and the order of its columns."""


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
    """Profiles of one fitted model, whose ``build`` lays it out with a block's columns in another order."""

    def __init__(self, design: Design, build: Callable[[Order | None], Profiled]) -> None:
        self._design, self._build = design, build
        self._built: dict[Order | None, Profiled] = {}

    def model(self, order: Order | None = None) -> Profiled:
        """The model with a block's columns in ``order``; None: as in the design."""
        as_it_is = None if order is None or list(order[1]) == sorted(order[1]) else order
        if as_it_is not in self._built:
            self._built[as_it_is] = self._build(as_it_is)
        return self._built[as_it_is]

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
        first = [labels.index(term) for term in (found.term, found.other_term) if term is not None]
        order = (*first, *(at for at in range(len(labels)) if at not in first))
        model = self.model((found.block, order))
        start, k = Theta(model.layout.sizes[: found.block]).n, len(labels)
        path = _sd(model, start, found) if found.other_term is None else _correlation(model, start, k, found)
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


def _sd(model: Profiled, place: int, found: VarianceComponent) -> Path:
    centre = abs(float(model.optimum[place]))
    scale = max(centre, FIRST_STEP * float(model.units[place]))
    guess = found.std_error if found.std_error is not None and found.std_error < scale else scale
    optimum = np.where(np.arange(len(model.optimum)) == place, centre, model.optimum)
    return coordinate(model.deviance, optimum, model.units, place, guess=guess, lowest=0.0)


def _correlation(model: Profiled, start: int, k: int, found: VarianceComponent) -> Path | None:
    places = (start, start + 1, start + k)
    first, cross, second = (float(model.optimum[place]) for place in places)
    if first == 0.0 or cross == second == 0.0:
        return None
    error = found.std_error if found.std_error is not None else math.inf
    return correlation(model.deviance, model.optimum, model.units, places, guess=max(min(error, 0.3), 0.05))


def reordered(rows: ReducedRows, order: Order | None) -> ReducedRows:
    """The rows with a block's columns in another order."""
    if order is None:
        return rows
    block, columns = order
    changed = replace(rows.blocks[block], values=np.ascontiguousarray(rows.blocks[block].values[:, list(columns)]))
    return replace(rows, blocks=(*rows.blocks[:block], changed, *rows.blocks[block + 1 :]))


def reordered_lambdas(lambdas: Sequence[Floats], order: Order | None) -> list[Floats]:
    """The Lambdas of the same covariances with a block's columns in another order, no diagonal negative."""
    found = [np.asarray(part) for part in lambdas]
    if order is not None:
        block, columns = order
        triangle = qr(found[block][list(columns)].T, mode="economic")[1].T
        found[block] = triangle * np.where(np.diagonal(triangle) < 0, -1.0, 1.0)
    return found
