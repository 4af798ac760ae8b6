"""Profile intervals of a linear mixed model: of the maximum-likelihood deviance, as lme4 profiles it, whatever the fit maximised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from multilevel.cells.statistics import Floats
from multilevel.design.reduction import reduce_design
from multilevel.design.unit_free import unit_free
from multilevel.fit import Fit
from multilevel.intervals.profile import Profiler, Quantity, difference_gradient
from multilevel.linear.assemble import linear_system
from multilevel.linear.criterion import Criterion
from multilevel.linear.engine import column_scales, fit_linear, one_thread
from multilevel.linear.parameters import Theta
from multilevel.linear.profile_component import Components
from multilevel.linear.uncertainty import combined_variances


def with_profile_intervals(fit: Fit, *, seed: int = 0) -> Fit:
    """The same fit with profile intervals for standard deviations, correlations, sigma and population coefficients.

    Raises FitError where a profile has no end or cannot be followed.
    """
    with one_thread(fit.design):
        return _profiled(fit, seed)


def _profiled(fit: Fit, seed: int) -> Fit:
    design = fit.design
    method: Literal["ml"] = "ml"
    best = fit if fit.method == "ml" else fit_linear(design, method=method, interval=fit.interval, seed=seed)
    form = unit_free(design)
    rows = reduce_design(form.design)
    known = design.cells.known_sigma
    layout = Theta(tuple(len(block.columns) for block in design.blocks))
    constant = -float(design.cells.once.get("log_weights", 0.0))
    system = linear_system(rows, names=[block.factor.name for block in design.blocks])
    criterion = Criterion(system, layout, False, constant, 1.0 if known else None)
    theta = layout.flat(_lambdas(best))
    sigma = best.sigma or 1.0
    optimum = theta if known else np.append(theta, math.log(sigma))
    units = layout.units(column_scales(rows))
    units = units if known else np.append(units, 1.0 / math.sqrt(2.0 * criterion.degrees_of_freedom))

    def deviance(values: Floats) -> tuple[float, Floats]:
        factor = criterion.factorise(values if known else values[:-1])
        return criterion.value(factor, None if known else math.exp(values[-1])), criterion.joint_gradient(values)

    profiler = Profiler(deviance, optimum, units)
    held = Components(
        design,
        form.maps,
        lambda values: layout.lambdas(values if known else values[:-1]),
        lambda values: 1.0 if known else math.exp(values[-1]),
        sizes=[0.2 * sigma * np.abs(own) @ (1.0 / scale) for own, scale in zip(form.maps.blocks, column_scales(rows), strict=True)],
        dispersion=0.1,
    )
    profiled = [held.profiled(found, profiler, fit.interval) for found in best.components]
    components = tuple(replace(own, lower=found.lower, upper=found.upper) for own, found in zip(fit.components, profiled, strict=True))
    limits = _coefficients(fit, criterion, profiler, form.maps.population, known=known)
    return replace(fit, components=components, coefficient_limits=limits, record=fit.record | {"intervals": "profile"})


def _lambdas(fit: Fit) -> Sequence[Floats]:
    assert fit.unit_free is not None
    return fit.unit_free.lambdas


def _coefficients(fit: Fit, criterion: Criterion, profiler: Profiler, combinations: Floats, *, known: bool) -> Floats:
    """(p, 2) limits. With the variances fixed the deviance is quadratic in one coefficient, a row of ``combinations`` (p, p) times those of
    the system, the others following it."""

    def quadratic(values: Floats, place: int) -> tuple[float, float]:
        factor = criterion.factorise(values if known else values[:-1])
        sigma = 1.0 if known else math.exp(values[-1])
        own = combinations[[place]]
        return float((own @ factor.beta)[0]), float(combined_variances(factor, sigma, own)[0])

    def along(place: int) -> Profiler:
        def penalty(values: Floats) -> float:
            centre, variance = quadratic(values[:-1], place)
            return (values[-1] - centre) ** 2 / variance

        def deviance(values: Floats) -> tuple[float, Floats]:
            value, gradient = profiler.deviance(values[:-1])
            # in units about the optimum: a coefficient far from zero beside its error would leave a difference no digits
            slopes = difference_gradient(lambda x: penalty(middle + x * units), (values - middle) / units) / units
            return value + penalty(values), np.append(gradient, 0.0) + slopes

        centre, variance = quadratic(profiler.optimum, place)
        units = np.append(profiler.units, math.sqrt(variance))
        middle = np.append(profiler.optimum, centre)
        return Profiler(deviance, middle, units)

    limits = np.empty((len(fit.design.population), 2))
    for place in range(len(limits)):
        own = along(place)
        limits[place] = own.limits(Quantity(lambda values: float(values[-1]), float(own.units[-1])), fit.interval)
    return limits
