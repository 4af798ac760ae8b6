"""Parametric bootstrap in the space of the statistics: new outcomes for the cells, drawn from the fit, fitted again.

What is drawn are the sufficient statistics themselves (cell means and sums of squares, cell totals), never rows, except where a family has
no smaller ones. Percentile intervals (Efron and Tibshirani 1993, section 13.3), as lme4's ``confint(method = "boot")``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, coefficient_matrix, outcome_of, reduce_design
from multilevel.errors import FitError
from multilevel.fit.container import Check, Fit
from multilevel.generalised.laplace import fit_laplace
from multilevel.intervals.profile import NUMERICAL
from multilevel.linear.assemble import linear_system
from multilevel.linear.criterion import Criterion
from multilevel.linear.linear_engine import column_scales, one_thread, optimise, snap
from multilevel.linear.theta import Theta, mapped_lambdas

FAILURES = 0.05
"""Share of refits that may fail before the interval is said to be in doubt."""

type Refit = Callable[[Design, ReducedRows, int], tuple[Floats, tuple[Floats, ...], float | None]]


def with_bootstrap_intervals(fit: Fit, *, samples: int, seed: int, progress: Callable[[float], None] | None = None) -> Fit:
    """The same fit with percentile intervals and bootstrap standard errors for coefficients, standard deviations and correlations.

    Parameters
    ----------
    fit : of the likelihood engine. samples : how many data sets are drawn and fitted. seed : of every random number.
    progress : called with the share done.

    Raises
    ------
    FitError
        If not one refit in two converges. Failures below that are counted in the check ``bootstrap_failures``.
    """
    assert fit.unit_free is not None
    design = fit.unit_free.form.design
    rows = reduce_design(design)
    refit = _refit_linear(fit) if fit.design.cells.has_moments else _refit_generalised(fit)
    rng = np.random.default_rng(seed)
    found: list[Floats] = []
    with one_thread(design):
        for sample in range(samples):
            try:
                changed, drawn = _draw(fit, design, rows, rng)
                found.append(_quantities(fit, *refit(changed, drawn, seed + sample)))
            except NUMERICAL:
                continue
            finally:
                if progress is not None:
                    progress((sample + 1) / samples)
    if len(found) < 0.5 * samples:
        raise FitError(f"Bootstrap: only {len(found)} of {samples} drawn data sets could be fitted. Write intervals: wald or profile.")
    return _with_intervals(fit, np.array(found), samples)


def _draw(fit: Fit, design: Design, rows: ReducedRows, rng: np.random.Generator) -> tuple[Design, ReducedRows]:
    """New effects, then new statistics; the design's own constants of the outcome follow."""
    p, plain = len(design.population), fit.unit_free
    assert plain is not None and plain.joint is not None
    scale = fit.dispersion if fit.sigma is None else fit.sigma
    unit = 1.0 if fit.sigma is None else fit.sigma
    # by way of Lambda, whose signs are fixed: those of eigenvectors may change with the outcome's unit
    effects = [
        rng.standard_normal((block.n_levels, len(part))) @ (unit * part).T for block, part in zip(rows.blocks, plain.lambdas, strict=True)
    ]
    eta = rows.offset + coefficient_matrix(rows) @ np.concatenate([plain.joint.mean[:p], *map(np.ravel, effects)])
    outcome = outcome_of(design.cells, rows, fit.family)
    drawn = outcome.family.draw(outcome, np.asarray(eta), 1.0 if scale is None else scale, rng)
    histogram = drawn.histogram if len(drawn.histogram) else None
    cells = replace(design.cells, once=drawn.once, histogram=histogram, outcomes=None, log_total=None)
    return replace(design, cells=cells), replace(rows, outcome=drawn.outcome, residual_ss=drawn.residual_ss)


def _refit_linear(fit: Fit) -> Refit:
    design = fit.design
    known = design.cells.known_sigma
    layout = Theta(tuple(len(block.columns) for block in design.blocks))
    constant = -float(design.cells.once.get("log_weights", 0.0))

    def refit(_: Design, rows: ReducedRows, seed: int) -> tuple[Floats, tuple[Floats, ...], float | None]:
        system = linear_system(rows)
        criterion = Criterion(system, layout, fit.method == "reml", constant, 1.0 if known else None)
        scales = column_scales(rows)
        optimum = optimise(criterion, scales, seed)
        factor = criterion.factorise(snap(criterion, optimum.theta, optimum.value, scales))
        sigma = criterion.sigma(factor)
        return factor.beta, tuple(sigma * part for part in factor.lambdas), None if known else sigma

    return refit


def _refit_generalised(fit: Fit) -> Refit:
    points = int(str(fit.record.get("quadrature_points", 1)))

    def refit(design: Design, rows: ReducedRows, seed: int) -> tuple[Floats, tuple[Floats, ...], float | None]:
        found = fit_laplace(design, rows, fit.family, quadrature_points=points, seed=seed)
        return found.beta, found.lambdas, found.dispersion

    return refit


def _quantities(fit: Fit, beta: Floats, lambdas: tuple[Floats, ...], scale: float | None) -> Floats:
    """Coefficients, then the components in the order of ``Fit.components``, in the columns as written;
    ``lambdas`` are in the outcome's unit."""
    assert fit.unit_free is not None
    maps = fit.unit_free.form.maps
    beta, roots = maps.population @ beta, mapped_lambdas(lambdas, maps)
    values: list[float] = []
    for component in fit.components:
        if component.block is None:
            values.append(math.nan if scale is None else scale)
            continue
        labels = [column.label for column in fit.design.blocks[component.block].columns]
        own = roots[component.block][labels.index(component.term)]
        if component.other_term is None:
            values.append(float(np.linalg.norm(own)))
        else:
            other = roots[component.block][labels.index(component.other_term)]
            size = float(np.linalg.norm(own) * np.linalg.norm(other))
            values.append(float(own @ other) / size if size > 0 else math.nan)
    return np.concatenate([beta, values])


def _with_intervals(fit: Fit, found: Floats, samples: int) -> Fit:
    tail = (1.0 - fit.interval) / 2.0
    p = len(fit.design.population)
    lower, upper, errors = np.array([_percentiles(column[np.isfinite(column)], tail) for column in found.T]).T
    # a percentile may lie beyond the estimate, as where a variance is estimated as zero: the interval is widened to hold it
    estimates = np.concatenate([fit.joint.mean[:p], [component.estimate for component in fit.components]])
    lower, upper = np.fmin(lower, estimates), np.fmax(upper, estimates)
    components = tuple(
        replace(
            component,
            std_error=float(errors[p + at]),
            lower=float(lower[p + at]),
            upper=float(upper[p + at]),
            interval_method="bootstrap" if math.isfinite(lower[p + at]) else None,
        )
        for at, component in enumerate(fit.components)
    )
    failures = samples - len(found)
    message = f"of {samples} data sets drawn from the fit so many could not be fitted; the intervals are of the others"
    check = Check("bootstrap_failures", float(failures), FAILURES * samples, failures <= FAILURES * samples, message)
    limits = np.stack([lower[:p], upper[:p]], axis=1)
    record = fit.record | {"intervals": "bootstrap", "bootstrap_samples": samples}
    return replace(fit, components=components, coefficient_limits=limits, checks=(*fit.checks, check), record=record)


def _percentiles(values: Floats, tail: float) -> tuple[float, float, float]:
    """Limits and standard error, NaN where there are too few values: a correlation exists only where both variances do."""
    if len(values) < 2:
        return math.nan, math.nan, math.nan
    lower, upper = np.quantile(values, [tail, 1.0 - tail])
    return float(lower), float(upper), float(np.std(values, ddof=1))
