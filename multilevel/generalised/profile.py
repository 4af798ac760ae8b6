"""Profile intervals of a generalised linear mixed model: of the deviance by Laplace's approximation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multilevel.cells.statistics import Floats
from multilevel.design.reduction import reduce_design
from multilevel.errors import StudyError
from multilevel.fit import Fit, Joint
from multilevel.generalised.search import Problem, problem_of
from multilevel.intervals.profile import Profiler, Quantity
from multilevel.linear.profile_component import Components

SIZE = 0.2
"""Of a standard deviation's scale on the link: the first step where a Wald interval does not exist."""


def with_profile_intervals(fit: Fit) -> Fit:
    """The same fit with profile intervals for standard deviations, correlations, dispersion and population coefficients.

    Raises
    ------
    StudyError
        Under adaptive quadrature. FitError: a profile has no end or cannot be followed.
    """
    if fit.method == "quadrature":
        raise StudyError("intervals: profile is of Laplace's deviance; write quadrature_points: 1, or intervals: wald.")
    design = fit.design
    assert fit.unit_free is not None
    form, inner = fit.unit_free.form, fit.unit_free.joint
    assert inner is not None
    problem = problem_of(form.design, reduce_design(form.design), fit.family)
    triangle = problem.objective.layout.template.triangle
    n, p = problem.theta_layout.n, len(design.population)
    theta = problem.theta_layout.flat(fit.unit_free.lambdas)
    basis = triangle @ inner.mean[:p]
    log_dispersion = 0.0 if fit.dispersion is None else float(np.log(fit.dispersion))
    problem.objective.mode(theta, log_dispersion, None)  # every later search for modes begins near these
    optimum = np.concatenate([theta, basis, [log_dispersion] if fit.dispersion is not None else []])
    errors = _basis_errors(inner, triangle)
    units = np.concatenate([problem.units, errors, [0.1] if fit.dispersion is not None else []])
    profiler = Profiler(_deviance(problem, n, p), optimum, units)
    sizes = [SIZE * np.abs(own) @ (1.0 / scale) for own, scale in zip(form.maps.blocks, problem.scales, strict=True)]
    held = Components(design, form.maps, lambda values: problem.theta_layout.lambdas(values[:n]), lambda _: 1.0, sizes, dispersion=0.3)
    components = tuple(held.profiled(found, profiler, fit.interval) for found in fit.components)
    inverse = form.maps.population @ np.linalg.inv(triangle) if p else triangle
    wald = np.sqrt(np.sum((inverse * errors) ** 2, axis=1))
    limits = np.array([_coefficient(inverse[place], n, float(wald[place]), profiler, fit.interval) for place in range(p)]).reshape(p, 2)
    return replace(fit, components=components, coefficient_limits=limits, record=fit.record | {"intervals": "profile"})


def _basis_errors(joint: Joint, triangle: Floats) -> Floats:
    """(p,) standard errors of the orthogonal coordinates gamma = T beta."""
    p = len(triangle)
    draws = joint.draws(400, 0)[:, :p] @ triangle.T
    return np.asarray(draws.std(axis=0))


def _deviance(problem: Problem, n: int, p: int):  # type: ignore[no-untyped-def]
    def deviance(values: Floats) -> tuple[float, Floats]:
        log_dispersion = float(values[-1]) if problem.with_dispersion else 0.0
        mode = problem.objective.mode(values[:n], log_dispersion, values[n : n + p])
        gradient = problem.objective.gradient(mode, log_dispersion, profiled=False)
        flat = np.concatenate([gradient.theta, gradient.basis])
        return problem.objective.value(mode), np.append(flat, gradient.log_dispersion) if problem.with_dispersion else flat

    return deviance


def _coefficient(row: Floats, n: int, error: float, profiler: Profiler, interval: float) -> tuple[float, float]:
    return profiler.limits(Quantity(lambda values: float(row @ values[n : n + len(row)]), error), interval)
