"""The likelihood engine for linear mixed models: (RE)ML from cell statistics, lme4's answers at a cost that rows do not change."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Literal, cast

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from multilevel.arrays import Floats
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, reduce_design
from multilevel.design.unit_free import Maps, unit_free
from multilevel.errors import FitError
from multilevel.fit.container import Check, Fit, Maximum, UnitFreeFit, VarianceComponent, VarianceParameters, fact
from multilevel.linear.assemble import dense_effects, linear_system
from multilevel.linear.criterion import Criterion
from multilevel.linear.factorise import BlockedFactor, BlockedSystem
from multilevel.linear.footprint import refuse_beyond_memory
from multilevel.linear.joint_normal import NormalJoint
from multilevel.linear.mapped_joint import mapped_joint
from multilevel.linear.neighbour import Neighbour
from multilevel.linear.optimise import GRADIENT_TOLERANCE, Near, Optimum, minimise
from multilevel.linear.scored_curvature import is_worthwhile, scored_curvature
from multilevel.linear.theta import Theta, mapped_lambdas, written_lambdas
from multilevel.linear.uncertainty import components, residual_component, satterthwaite, variance_parameters

SEVERAL_THREADS = 2_000
"""Threshold of effects outside the eliminated factor: above it several threads shorten the dense factorisation."""


def fit_linear(
    design: Design, *, method: Literal["reml", "ml"] = "reml", interval: float = 0.95, seed: int = 0, near: Fit | Neighbour | None = None
) -> Fit:
    """Fit a linear mixed model to a gaussian (or lognormal) design.

    Parameters
    ----------
    design : p population columns, blocks with q effects in all. method : "reml" or "ml". interval : probability of the Wald intervals.
    seed : of the further starts, used only where a variance vanishes. near : a fit with the same group terms, or what another day's
        search found; the search starts there.

    Returns
    -------
    Fit with ``record`` telling optimiser, evaluations, starts, gradient norm, tolerance and seconds.

    Raises
    ------
    FitError where the data leave no residual degrees of freedom, a factor has as many levels as there are rows, statistics are not
    finite, or no start converges.

    Source: Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), sections 3.4-3.6.
    """
    _refuse_saturated(design)
    refuse_beyond_memory(design)
    with one_thread(design):
        return _fit(design, method, interval, seed, near)


def one_thread(design: Design) -> AbstractContextManager[object]:
    """Linear algebra on one thread where the dense block is small: more threads cost time there, beside other processes a great deal."""
    return cast(AbstractContextManager[object], threadpool_limits(1 if dense_effects(design) < SEVERAL_THREADS else None, "blas"))


def _fit(design: Design, method: Literal["reml", "ml"], interval: float, seed: int, near: Fit | Neighbour | None) -> Fit:
    began = time.perf_counter()
    form = unit_free(design)
    maps = form.maps
    rows = reduce_design(form.design)
    system = linear_system(rows)
    known = design.cells.known_sigma
    layout = Theta(tuple(len(block.columns) for block in design.blocks))
    constant = -float(design.cells.once.get("log_weights", 0.0))
    criterion = Criterion(system, layout, method == "reml", constant, 1.0 if known else None)
    scales = column_scales(rows)
    optimum = optimise(criterion, scales, seed, None if near is None else beside(near))
    theta = snap(criterion, layout.fix_signs(optimum.theta), optimum.value, scales)
    factor = criterion.factorise(theta)
    sigma = criterion.sigma(factor)
    parameters, nearby = variance_parameters(criterion, factor, theta, sigma, layout.units(scales))
    singular = layout.is_singular(theta, scales)
    # REML integrates over beta in the unit of the columns as written
    value = criterion.value(factor) - (2.0 * float(np.linalg.slogdet(maps.population)[1]) if method == "reml" else 0.0)
    inner = tuple(sigma**2 * part @ part.T for part in factor.lambdas)
    covariances = maps.covariances(inner)
    conditional = tuple(sigma**2 * part for part in factor.conditional_variance(maps.blocks))
    joint = NormalJoint(factor, sigma)
    return Fit(
        design=design,
        family=design.cells.family,
        engine="likelihood",
        method=method,
        interval=interval,
        joint=mapped_joint(joint, maps),
        components=_components(design, layout, parameters, interval, maps, known=known),
        covariances=covariances,
        conditional_variance=conditional,
        shrinkage=tuple(_shrinkage(part, sigma2) for part, sigma2 in zip(conditional, covariances, strict=True)),
        sigma=sigma,
        degrees_of_freedom=satterthwaite(factor, nearby, parameters, maps.population, sigma),
        log_likelihood=-value / 2.0,
        reml_criterion=value if method == "reml" else None,
        n_parameters=len(design.population) + layout.n + (0 if known else 1),
        singular=singular,
        checks=_checks(optimum, singular=singular),
        record=_record(optimum, layout.flat(written_lambdas(factor.lambdas, maps)), system, time.perf_counter() - began),
        unit_free=UnitFreeFit(form, inner, joint=joint, lambdas=factor.lambdas, parameters=parameters, system=system),
    )


def with_maximum(fit: Fit, seed: int = 0) -> Fit:
    """Add the maximum of the unrestricted likelihood to a REML fit. Other fits, and fits whose search fails, keep none."""
    plain = fit.unit_free
    if fit.method != "reml" or plain is None or not isinstance(plain.joint, NormalJoint):
        return fit
    design = fit.design
    layout = Theta(tuple(len(block.columns) for block in design.blocks))
    constant = -float(design.cells.once.get("log_weights", 0.0))
    criterion = Criterion(plain.joint.factor.system, layout, False, constant, 1.0 if design.cells.known_sigma else None)
    with one_thread(design):
        try:
            optimum = optimise(criterion, column_scales(reduce_design(plain.form.design)), seed, beside(fit))
        except FitError as error:
            return replace(fit, checks=(*fit.checks, fact("log_likelihood_ml", None, f"not found: {error}")))
    return replace(fit, maximum=Maximum(layout.fix_signs(optimum.theta), -optimum.value / 2.0))


def column_scales(rows: ReducedRows) -> tuple[Floats, ...]:
    """Per block (k,) root mean square of each column of Z over the line items; 1 for a column that is zero throughout."""
    scales = []
    for block in rows.blocks:
        square = np.sum(block.values**2, axis=0) / rows.n_rows
        scales.append(np.sqrt(np.where(square > 0, square, 1.0)))
    return tuple(scales)


def _refuse_saturated(design: Design) -> None:
    cells = design.cells
    if cells.known_sigma:
        return
    if cells.n_rows <= len(design.population):
        message = (
            f"No residual degrees of freedom: {cells.n_rows} rows for {len(design.population)} population coefficients; "
            "drop terms or widen the window."
        )
        raise FitError(message)
    for block in design.blocks:
        seen = block.n_seen_levels
        if seen >= cells.n_rows or seen * len(block.columns) > cells.n_rows:
            message = (
                f"{block.factor.name}: {seen * len(block.columns)} effects ({seen} levels x {len(block.columns)} terms) for "
                f"{cells.n_rows} rows; with a gaussian outcome they cannot be told from the residual. Use a coarser factor or fewer terms."
            )
            raise FitError(message)


def beside(found: Fit | Neighbour) -> Near | None:
    """Where the search for a model with the same group terms may begin; None of a fit whose variances are not kept."""
    known = Neighbour.of_fit(found) if isinstance(found, Fit) else found
    return None if known is None else Near(np.array(known.theta), known.curvature)


def optimise(criterion: Criterion, scales: Sequence[Floats], seed: int, near: Near | None = None) -> Optimum:
    """The criterion's minimum over theta; ``scales`` from ``column_scales``. FitError where no start converges.

    ``near`` is the minimum of a criterion much like this one (restricted or not, other coefficients), from which the search is short.
    """

    last: list[tuple[Floats, BlockedFactor]] = []

    def factorised(theta: Floats) -> BlockedFactor:
        if not last or not np.array_equal(last[0][0], theta):
            # one factorisation is in memory at a time
            last.clear()
            last.append((theta.copy(), criterion.factorise(theta)))
        return last[0][1]

    def evaluate(theta: Floats) -> tuple[float, Floats]:
        factor = factorised(theta)
        if not factor.penalised_rss > 0:
            message = "The model reproduces the outcome exactly: no residual variance is left to estimate. Drop terms."
            raise FitError(message)
        return criterion.value(factor), criterion.gradient(factor)

    def curvature(theta: Floats, gradient: Floats) -> Floats:
        return scored_curvature(criterion, factorised(theta), theta, gradient)

    layout = criterion.layout
    return minimise(
        evaluate,
        lambda size: layout.start(scales, size),
        layout.units(scales),
        is_singular=lambda theta: layout.is_singular(theta, scales, 1e-3),
        seed=seed,
        near=near,
        curvature=curvature if is_worthwhile(criterion.system) else None,
    )


def snap(criterion: Criterion, theta: Floats, value: float, scales: Sequence[Floats]) -> Floats:
    """Entries of theta that only rounding keeps from zero are zero where the criterion agrees."""
    units = criterion.layout.units(scales)
    snapped = np.where(np.abs(theta) < 1e-3 * units, 0.0, theta)
    if np.array_equal(snapped, theta):
        return theta
    return snapped if criterion.value(criterion.factorise(snapped)) <= value + 1e-9 * (1.0 + abs(value)) else theta


def _components(
    design: Design, layout: Theta, parameters: VarianceParameters, interval: float, maps: Maps, *, known: bool
) -> tuple[VarianceComponent, ...]:
    def lambdas_of(values: Floats) -> tuple[Floats, ...]:
        return mapped_lambdas(layout.lambdas(values if known else values[:-1]), maps)

    def sigma_of(values: Floats) -> float:
        return 1.0 if known else math.exp(values[-1])

    groups = components(design, lambdas_of, sigma_of, parameters, interval)
    return groups if known else (*groups, residual_component(parameters, interval))


def _shrinkage(conditional: Floats, covariance: Floats) -> Floats:
    """(L, k) Var(b | y, theta, beta) / tau^2; 1 where tau is zero."""
    variance = np.diagonal(covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, np.clip(conditional / variance, 0.0, 1.0), 1.0)


def _checks(optimum: Optimum, *, singular: bool) -> tuple[Check, ...]:
    message = "a variance is estimated as zero or a correlation as one: the data ask for a simpler model" if singular else ""
    return (
        Check("converged", optimum.gradient_norm, None, optimum.converged, "largest scaled gradient of the criterion", gate=True),
        Check("singular", float(singular), 0.0, not singular, message),
    )


def _record(optimum: Optimum, theta: Floats, system: BlockedSystem, seconds: float) -> dict[str, object]:
    return {
        "optimiser": "BFGS, then Newton, analytic gradient, unconstrained",
        "evaluations": optimum.evaluations,
        "starts": optimum.starts,
        "gradient_norm": optimum.gradient_norm,
        "gradient_tolerance": GRADIENT_TOLERANCE,
        "theta": [float(value) for value in theta],
        "dense_size": len(system.gram),
        "seconds": {"fit": seconds},
    }
