"""Profile intervals of a linear mixed model: of the maximum-likelihood deviance, as lme4 profiles it, whatever the fit maximised.

Parameters are the covariance factors sigma Lambda and log sigma, so that a standard deviation is one of them. Where a restricted estimate
lies outside its interval, or that is not complete, as with few degrees of freedom, the restricted likelihood is profiled instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.reduction import ReducedRows, reduce_design
from multilevel.errors import FitError
from multilevel.fit.container import Fit, VarianceComponent
from multilevel.intervals.path import coordinate
from multilevel.intervals.profile import NUMERICAL, Limits, profile_limits
from multilevel.intervals.profile_component import Profiled, Profiles, Turn, turned, turned_lambdas
from multilevel.intervals.unfinished import component_or_note, limits_or_note, notes_check
from multilevel.linear.assemble import linear_system
from multilevel.linear.criterion import Criterion
from multilevel.linear.linear_engine import beside, column_scales, one_thread, optimise
from multilevel.linear.theta import Theta
from multilevel.linear.uncertainty import combined_variances

FARTHEST = 50.0
"""Of log sigma from its estimate: farther is not evaluated."""


def with_profile_intervals(fit: Fit, *, seed: int = 0) -> Fit:
    """The same fit with profile intervals for standard deviations, correlations, sigma and population coefficients.

    Limits that a profile does not give are None (NaN for coefficients); the check ``profile_intervals`` says why.
    """
    with one_thread(fit.design):
        profiles = _LinearProfiles(fit, seed)
        components = tuple(profiles.component(found) for found in fit.components)
        found = [limits_or_note(profiles.coefficient, place) for place in range(len(fit.design.population))]
    limits = np.array([[np.nan if one is None else one for one in (each.lower, each.upper)] for each in found]).reshape(-1, 2)
    notes = {column.label: each.problem for column, each in zip(fit.design.population, found, strict=True) if each.problem}
    checks = (*fit.checks, *notes_check(components, notes))
    return replace(fit, components=components, coefficient_limits=limits, checks=checks, record=fit.record | {"intervals": "profile"})


def profiled_components(fit: Fit, places: Collection[int], *, seed: int = 0) -> tuple[VarianceComponent, ...]:
    """The fit's components, those at ``places`` with profile intervals."""
    with one_thread(fit.design):
        profiles = _LinearProfiles(fit, seed)
        return tuple(profiles.component(found) if at in places else found for at, found in enumerate(fit.components))


@dataclass(frozen=True)
class _Model:
    """One criterion, in (sigma Lambda, log sigma); in Lambda alone where sigma is known to be 1."""

    criterion: Criterion
    known: bool
    centre: float

    def split(self, values: Floats) -> tuple[Floats, float]:
        """theta relative to sigma, and sigma."""
        if self.known:
            return values, 1.0
        if not abs(values[-1] - self.centre) <= FARTHEST:
            message = "the residual standard deviation runs off"
            raise FitError(message)
        sigma = math.exp(values[-1])
        return values[:-1] / sigma, sigma

    def deviance(self, values: Floats) -> tuple[float, Floats]:
        """The criterion and its gradient."""
        theta, sigma = self.split(values)
        factor = self.criterion.factorise(theta)
        by_theta = self.criterion.gradient(factor, sigma)
        value = self.criterion.value(factor, sigma)
        if self.known:
            return value, by_theta
        by_sigma = 2.0 * self.criterion.degrees_of_freedom - 2.0 * factor.penalised_rss / sigma**2
        return value, np.append(by_theta / sigma, by_sigma - float(theta @ by_theta))


class _LinearProfiles:
    """Profiles of the maximum-likelihood deviance, and of the restricted one where that is called for."""

    def __init__(self, fit: Fit, seed: int) -> None:
        self._fit, self._seed = fit, seed
        assert fit.unit_free is not None
        self._inner = fit.unit_free
        self._rows = reduce_design(self._inner.form.design)
        self._by_criterion: dict[bool, tuple[Profiles, _Model] | FitError] = {}

    def component(self, found: VarianceComponent) -> VarianceComponent:
        """With its limits; of the restricted likelihood where those of the likelihood are missing, or leave the restricted estimate out."""
        interval = self._fit.interval

        def of(reml: bool) -> VarianceComponent:
            return component_or_note(lambda one: self._profiles(reml=reml)[0].component(one, interval), found)

        profiled = of(reml=False)
        if self._fit.method == "reml" and math.isfinite(found.estimate) and (profiled.note or _leaves_out(profiled)):
            return of(reml=True)
        return profiled

    def coefficient(self, place: int) -> Limits:
        """Limits of a population coefficient. With the variances fixed the deviance is quadratic in it, the others following."""
        profiles, model = self._profiles(reml=False)
        base = profiles.model()
        own = self._inner.form.maps.population[[place]]

        def quadratic(values: Floats) -> tuple[float, float]:
            theta, sigma = model.split(values)
            factor = model.criterion.factorise(theta)
            return float((own @ factor.beta_from_location)[0]), float(combined_variances(factor, sigma, own)[0])

        centre, variance = quadratic(base.optimum)
        if not (math.isfinite(centre) and 0.0 < variance < math.inf):
            message = "its standard error is lost to rounding"
            raise FitError(message)
        units = np.append(base.units, math.sqrt(variance))

        def penalty(values: Floats) -> float:
            middle, spread = quadratic(values[:-1])
            return (values[-1] - middle) ** 2 / spread

        def deviance(values: Floats) -> tuple[float, Floats]:
            value, gradient = base.deviance(values[:-1])
            slopes = _differences(lambda x: penalty(x * units), values / units) / units
            return value + penalty(values), np.append(gradient, 0.0) + slopes

        path = coordinate(deviance, np.append(base.optimum, centre), units, len(base.optimum), guess=float(units[-1]))
        limits = profile_limits(path, base.best, self._fit.interval)
        factor = model.criterion.factorise(model.split(base.optimum)[0])
        location = float((own @ (factor.beta - factor.beta_from_location))[0])
        lower, upper = (None if limit is None else location + limit for limit in (limits.lower, limits.upper))
        return replace(limits, lower=lower, upper=upper)

    def _profiles(self, *, reml: bool) -> tuple[Profiles, _Model]:
        if reml not in self._by_criterion:
            self._by_criterion[reml] = self._built(reml)
        found = self._by_criterion[reml]
        if isinstance(found, FitError):
            raise found
        return found

    def _built(self, reml: bool) -> tuple[Profiles, _Model] | FitError:
        """A failure is kept too: it would take every other quantity as long to meet it."""
        try:
            return self._build(reml)
        except NUMERICAL as error:
            return FitError(str(error))

    def _build(self, reml: bool) -> tuple[Profiles, _Model]:
        design = self._fit.design
        known = design.cells.known_sigma
        layout = Theta(tuple(len(block.columns) for block in design.blocks))
        constant = -float(design.cells.once.get("log_weights", 0.0))

        def model(rows: ReducedRows, centre: float) -> _Model:
            criterion = Criterion(linear_system(rows), layout, reml, constant, 1.0 if known else None)
            return _Model(criterion, known, centre)

        plain = model(self._rows, 0.0)
        theta = self._optimum(plain.criterion, layout)
        sigma = plain.criterion.sigma(plain.criterion.factorise(theta))
        if not 0.0 < sigma < math.inf:
            message = "the residual standard deviation is zero where the likelihood is highest"
            raise FitError(message)
        centre = math.log(sigma)
        plain = replace(plain, centre=centre)

        def build(turn: Turn | None) -> Profiled:
            rows = turned(self._rows, turn)
            own = plain if turn is None else model(rows, centre)
            factors = turned_lambdas([sigma * part for part in layout.lambdas(theta)], turn)
            units = layout.units([scale / sigma for scale in column_scales(rows)])
            optimum = layout.flat(factors)
            if not known:
                optimum = np.append(optimum, centre)
                units = np.append(units, 1.0 / math.sqrt(2.0 * own.criterion.degrees_of_freedom))
            return Profiled(own.deviance, optimum, units, own.deviance(optimum)[0], layout)

        return Profiles(design, self._inner.form, build), plain

    def _optimum(self, criterion: Criterion, layout: Theta) -> Floats:
        fitted = layout.flat(self._inner.lambdas)
        if self._fit.method == ("reml" if criterion.reml else "ml"):
            return fitted
        if self._fit.maximum is not None and not criterion.reml:
            return self._fit.maximum.theta
        return layout.fix_signs(optimise(criterion, column_scales(self._rows), self._seed, near=beside(self._fit)).theta)


def _leaves_out(found: VarianceComponent) -> bool:
    return not ((found.lower is None or found.lower <= found.estimate) and (found.upper is None or found.estimate <= found.upper))


def _differences(function: Callable[[Floats], float], at: Floats, step: float = 1e-5) -> Floats:
    """(n,) central differences."""
    moves = step * np.eye(len(at))
    return np.array([(function(at + move) - function(at - move)) / (2.0 * step) for move in moves])
