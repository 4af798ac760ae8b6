"""Profile intervals of a generalised linear mixed model: of the deviance that was minimised, by Laplace's approximation or quadrature.

Parameters are Lambda, the orthogonal coordinates gamma = T beta of the population coefficients, and the logarithm of the dispersion.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, hstack
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from multilevel.arrays import Floats
from multilevel.design.reduction import reduce_design
from multilevel.errors import FitError, StudyError
from multilevel.fit.container import Fit, Joint, VarianceComponent
from multilevel.generalised.laplace import FEW_COLUMNS
from multilevel.generalised.search import Problem, deviance_of, problem_of
from multilevel.intervals.path import direction
from multilevel.intervals.profile import Limits, profile_limits
from multilevel.intervals.profile_component import Profiled, Profiles, Turn, turned, turned_lambdas
from multilevel.intervals.unfinished import component_or_note, limits_or_note, notes_check

FARTHEST = 40.0
"""Of a log dispersion: beyond it the family is its own limit (Poisson, a constant)."""


def with_profile_intervals(fit: Fit) -> Fit:
    """The same fit with profile intervals for standard deviations, correlations, dispersion and population coefficients.

    Limits that a profile does not give are None (NaN for coefficients); the check ``profile_intervals`` says why.

    Raises
    ------
    StudyError
        Under adaptive quadrature.
    """
    if fit.method == "quadrature":
        raise StudyError("intervals: profile is of Laplace's deviance; write quadrature_points: 1, or intervals: wald.")
    profiles = _GeneralisedProfiles(fit)
    with profiles.threads():
        components = tuple(component_or_note(profiles.component, found) for found in fit.components)
        found = [limits_or_note(profiles.coefficient, place) for place in range(len(fit.design.population))]
    limits = np.array([[np.nan if one is None else one for one in (each.lower, each.upper)] for each in found]).reshape(-1, 2)
    notes = {column.label: each.problem for column, each in zip(fit.design.population, found, strict=True) if each.problem}
    checks = (*fit.checks, *notes_check(components, notes))
    return replace(fit, components=components, coefficient_limits=limits, checks=checks, record=fit.record | {"intervals": "profile"})


def profiled_components(fit: Fit, places: Collection[int]) -> tuple[VarianceComponent, ...]:
    """The fit's components, those at ``places`` with profile intervals, by quadrature where the fit is."""
    profiles = _GeneralisedProfiles(fit)
    with profiles.threads():
        return tuple(component_or_note(profiles.component, found) if at in places else found for at, found in enumerate(fit.components))


class _GeneralisedProfiles:
    """Profiles of the deviance of one fit."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        assert fit.unit_free is not None
        self._inner = fit.unit_free
        self._design = self._inner.form.design
        self._rows = reduce_design(self._design)
        self._of = Profiles(fit.design, self._inner.form, self._build)
        self._errors: Floats | None = None
        self._problem = problem_of(self._design, self._rows, fit.family)
        self._triangle = self._problem.objective.layout.template.triangle

    def threads(self) -> threadpool_limits:
        """One thread where the dense factor is small, as in the fit."""
        return threadpool_limits(1 if len(self._problem.objective.layout.template.gram) < FEW_COLUMNS else None)

    def component(self, found: VarianceComponent) -> VarianceComponent:
        """With its limits."""
        return self._of.component(found, self._fit.interval)

    def coefficient(self, place: int) -> Limits:
        """Limits of a population coefficient."""
        model = self._of.model()
        p, n = len(self._triangle), model.layout.n
        row = np.zeros(len(model.optimum))
        row[n : n + p] = self._inner.form.maps.population[place] @ np.linalg.inv(self._triangle)
        guess = float(np.sqrt(np.sum((row * model.units) ** 2)))
        return profile_limits(direction(model.deviance, model.optimum, model.units, row, guess=guess), model.best, self._fit.interval)

    def _build(self, turn: Turn | None) -> Profiled:
        fit, rows = self._fit, turned(self._rows, turn)
        problem = self._problem if turn is None else problem_of(self._design, rows, fit.family)
        layout = problem.theta_layout
        theta = layout.flat(turned_lambdas(self._inner.lambdas, turn))
        last = [] if fit.dispersion is None else [float(np.log(fit.dispersion))]
        problem.objective.mode(theta, last[0] if last else 0.0, None)  # every later search for modes begins near these
        optimum = np.concatenate([theta, self._triangle @ self._joint.mean[: len(self._triangle)], last])
        units = np.concatenate([problem.units, self._basis_errors(), [0.1] if last else []])
        deviance = _Deviance(problem, len(self._triangle), int(str(fit.record.get("quadrature_points", 1))))
        return Profiled(deviance, optimum, units, deviance(optimum)[0], layout)

    @property
    def _joint(self) -> Joint:
        assert self._inner.joint is not None
        return self._inner.joint

    def _basis_errors(self) -> Floats:
        """(p,) standard errors of the orthogonal coordinates gamma = T beta."""
        if self._errors is None:
            rest = csr_array((len(self._triangle), len(self._joint.mean) - len(self._triangle)))
            self._errors = self._joint.combine(csr_array(hstack([csr_array(self._triangle), rest])), self._fit.interval).std_error
        return self._errors


class _Deviance:
    """The deviance and its gradient, in (theta, gamma, log dispersion)."""

    def __init__(self, problem: Problem, p: int, points: int) -> None:
        self._problem, self._p = problem, p
        self._of = deviance_of(problem, points)

    def __call__(self, values: Floats) -> tuple[float, Floats]:
        n, last = self._problem.theta_layout.n, self._problem.with_dispersion
        log_dispersion = float(values[-1]) if last else 0.0
        if not abs(log_dispersion) <= FARTHEST:
            message = "the data do not bound it: the likelihood stays as high however far it goes"
            raise FitError(message)
        value, gradient = self._of(values[:n], values[n : n + self._p], log_dispersion)
        flat = np.concatenate([gradient.theta, gradient.basis])
        return value, np.append(flat, gradient.log_dispersion) if last else flat
