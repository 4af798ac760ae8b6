"""Laplace fits of generalised linear mixed models over cells: lme4's ``nAGQ = 1`` (glmmTMB's where the link is not canonical).

theta first with beta at its conditional mode (lme4's ``nAGQ = 0``), then theta, beta and log dispersion jointly; standard errors from the
Hessian of the deviance over all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from multilevel.cells import Floats
from multilevel.design import Design
from multilevel.errors import FitError
from multilevel.generalised.families import Family, family_of
from multilevel.generalised.objective import Gradient, Objective
from multilevel.generalised.optimise import DISTANCE, Evaluate, Local, newton, quasi_newton, spectrum
from multilevel.generalised.pirls import Mode
from multilevel.generalised.quadrature import quadrature_deviance
from multilevel.generalised.reweighting import Coordinates, reweighting
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.parameters import Theta
from multilevel.reduction import ReducedRows

FEW_COLUMNS = 1_000

UNBOUNDED = 8.0
"""Standard deviation on the link scale from which a search that does not end is taken to run to infinity."""

STARTS = (0.5, 1.5, 0.15, 4.0)
"""Standard deviations of the effects, on the link scale, from which searches begin; those after the first only where one is needed."""


@dataclass(frozen=True)
class LaplaceFit:
    """A fitted generalised linear mixed model.

    theta (nt,), lambdas per block (k, k), covariances per block (k, k) = Lambda Lambda'; beta (p,); effects (q,) conditional modes b in the
    order of ``Design``; dispersion phi or shape, None without one. eta (R,) the linear predictor at the mode with the offset, weights (R,)
    the observed information there, score (R,) the first derivative. log_likelihood of the line items, constants included.
    parameters: (theta, beta, log dispersion) with ``parameter_covariance`` and ``flat``, the share of each in directions without
    information; beta_covariance (p, p) from the joint Hessian. factor: the penalised system at the mode. largest_sd of effects on the link
    scale. distance: to the optimum in standard errors.
    """

    theta: Floats
    lambdas: tuple[Floats, ...]
    covariances: tuple[Floats, ...]
    beta: Floats
    effects: Floats
    dispersion: float | None
    eta: Floats
    weights: Floats
    score: Floats
    log_likelihood: float
    parameters: Floats
    parameter_covariance: Floats
    flat: Floats
    beta_covariance: Floats
    factor: BlockedFactor
    singular: bool
    largest_sd: float
    distance: float
    evaluations: int
    starts: int
    seconds: float
    accuracy: Literal["pilot", "full"]

    @property
    def converged(self) -> bool:
        """Whether the optimum is nearer than a thousandth of a standard error; a pilot is not held to it."""
        return self.accuracy == "pilot" or self.distance < DISTANCE


def fit_laplace(
    design: Design,
    rows: ReducedRows,
    family: str,
    *,
    quadrature_points: int = 1,
    accuracy: Literal["pilot", "full"] = "full",
    seed: int = 0,
) -> LaplaceFit:
    """Fit by PIRLS and Laplace's approximation, or adaptive Gauss-Hermite quadrature for one scalar factor.

    Parameters
    ----------
    design, rows : the model over cells and its reduced rows. family : binomial, poisson, negative_binomial or gamma.
    quadrature_points : 1 for Laplace. accuracy : "pilot" stops with beta profiled. seed : of further starts.

    Raises
    ------
    FitError where modes are infinite, no start converges, or quadrature is asked for with other than one scalar factor.

    Source: Bates et al. (2015), J. Stat. Softw. 67(1); Kristensen et al. (2016), J. Stat. Softw. 70(5).
    """
    began = time.perf_counter()
    problem = _problem(design, rows, family)
    if quadrature_points > 1 and [block.values.shape[1] for block in rows.blocks] != [1]:
        message = (
            f"quadrature_points: {quadrature_points} needs a model with one grouping factor and only its intercept (or one slope) varying; "
            f"this one has {len(rows.blocks)} group terms. Write quadrature_points: 1 (Laplace)."
        )
        raise FitError(message)
    # threads cost more than they save in a factor of a few hundred columns
    with threadpool_limits(1 if len(problem.objective.layout.template.gram) < FEW_COLUMNS else None):
        best, starts = _search(problem, quadrature_points, accuracy, seed)
    if accuracy == "full" and not best.local.converged:
        raise FitError(_not_converged(problem, best, starts, [block.factor.name for block in design.blocks]))
    fit = _finish(problem, best, quadrature_points, accuracy)
    return replace(fit, starts=starts, evaluations=problem.objective.evaluations, seconds=time.perf_counter() - began)


def _not_converged(problem: _Problem, best: _Point, starts: int, names: list[str]) -> str:
    sds = _scaled_sds(problem, best.theta)
    if sds and max(sds) > UNBOUNDED:
        name = names[int(np.argmax(sds))]
        return (
            f"{name}: the likelihood keeps rising as the standard deviation of its effects grows (it stood at {max(sds):.0f} on the link "
            "scale when the search ended), as happens with few line items in a level and outcomes nearly all alike. Use a coarser factor, "
            f"drop a term of {name}, or write engine: bayesian, whose prior bounds it."
        )
    return (
        f"The likelihood's optimiser did not converge from {starts} starts ({problem.objective.evaluations} evaluations; the optimum "
        f"is still {best.local.distance:.2g} standard errors away). Simplify the group terms, or rescale predictors of unlike size."
    )


def _scaled_sds(problem: _Problem, theta: Floats) -> list[float]:
    """Per block its largest standard deviation on the link scale, of a column at its root mean square."""
    lambdas = problem.theta_layout.lambdas(theta)
    return [float(np.max(np.linalg.norm(part, axis=1) * scale)) for part, scale in zip(lambdas, problem.scales, strict=True)]


@dataclass(frozen=True)
class _Problem:
    objective: Objective
    family: Family
    theta_layout: Theta
    scales: tuple[Floats, ...]
    units: Floats
    with_dispersion: bool


@dataclass(frozen=True)
class _Point:
    """theta, gamma and log dispersion, with the search that ended there; ``turn`` (p, p) maps the search's coordinates to gamma."""

    theta: Floats
    basis: Floats
    log_dispersion: float
    local: Local
    turn: Floats


def _problem(design: Design, rows: ReducedRows, family: str) -> _Problem:
    layout = reweighting(rows)
    likelihood = family_of(family, design.cells, rows)
    theta_layout = Theta(tuple(block.values.shape[1] for block in rows.blocks))
    zero = layout.zero()
    constant = likelihood.typical_predictor() - rows.offset
    start = Coordinates(zero.rest, zero.own, np.linalg.lstsq(layout.basis, constant)[0] if len(zero.basis) else zero.basis)
    scales = column_scales(rows)
    objective = Objective(layout, likelihood, theta_layout, start)
    return _Problem(objective, likelihood, theta_layout, scales, theta_layout.units(scales), likelihood.dispersion is not None)


def column_scales(rows: ReducedRows) -> tuple[Floats, ...]:
    """Per block (k,) root mean square of each column of Z over the line items; 1 for a column that is zero throughout."""
    scales = []
    for block in rows.blocks:
        square = rows.n @ block.values**2 / rows.n.sum()
        scales.append(np.sqrt(np.where(square > 0, square, 1.0)))
    return tuple(scales)


def _search(problem: _Problem, points: int, accuracy: Literal["pilot", "full"], seed: int) -> tuple[_Point, int]:
    """From the first start; from the others too while a variance vanishes or nothing converges."""
    rng = np.random.default_rng(seed)
    best: _Point | None = None
    failure: FitError | None = None
    starts = 0
    for size in STARTS if len(problem.units) else STARTS[:1]:
        if best is not None and (accuracy == "pilot" or (best.local.converged and not _is_singular(problem, best.theta))):
            break
        starts += 1
        noise = 0.0 if starts == 1 else 0.1 * size * rng.standard_normal(len(problem.units))
        try:
            found = _descend(problem, size, noise, points, accuracy)
        except FitError as error:
            failure = error
            continue
        if best is None or (found.local.converged, -found.local.value) > (best.local.converged, -best.local.value + 1e-8):
            best = found
    if best is None:
        assert failure is not None
        raise failure
    return best, starts


def _is_singular(problem: _Problem, theta: Floats) -> bool:
    return problem.theta_layout.is_singular(theta, problem.scales, 1e-3)


def _descend(problem: _Problem, size: float, noise: Floats | float, points: int, accuracy: Literal["pilot", "full"]) -> _Point:
    theta = problem.theta_layout.start(problem.scales, size) / problem.units + noise
    start = np.append(theta, 0.0) if problem.with_dispersion else theta
    rough = quasi_newton(_profiled(problem), start, 1e-3)
    n = problem.theta_layout.n
    log_dispersion = float(rough.at[-1]) if problem.with_dispersion else 0.0
    mode = problem.objective.mode(rough.at[:n] * problem.units, log_dispersion, None)
    point = _Point(rough.at[:n] * problem.units, mode.effects.basis, log_dispersion, rough, _basis_root(mode))
    if accuracy == "pilot":
        return point
    point = _polish(problem, point, _laplace(problem))
    return point if points == 1 else _polish(problem, point, _quadrature(problem, points))


type _Deviance = Callable[[Floats, Floats, float], tuple[float, Gradient]]


def _laplace(problem: _Problem) -> _Deviance:
    def deviance(theta: Floats, basis: Floats, log_dispersion: float) -> tuple[float, Gradient]:
        mode = problem.objective.mode(theta, log_dispersion, basis)
        return problem.objective.value(mode), problem.objective.gradient(mode, log_dispersion, profiled=False)

    return deviance


def _quadrature(problem: _Problem, points: int) -> _Deviance:
    def deviance(theta: Floats, basis: Floats, log_dispersion: float) -> tuple[float, Gradient]:
        mode = problem.objective.mode(theta, log_dispersion, basis)
        return quadrature_deviance(problem.objective.layout, problem.family, mode, float(theta[0]), log_dispersion, points)

    return deviance


def _profiled(problem: _Problem) -> Evaluate:
    n = problem.theta_layout.n

    def evaluate(x: Floats) -> tuple[float, Floats]:
        log_dispersion = float(x[-1]) if problem.with_dispersion else 0.0
        mode = problem.objective.mode(x[:n] * problem.units, log_dispersion, None)
        gradient = problem.objective.gradient(mode, log_dispersion, profiled=True)
        flat = gradient.theta * problem.units
        return problem.objective.value(mode), np.append(flat, gradient.log_dispersion) if problem.with_dispersion else flat

    return evaluate


def _basis_root(mode: Mode) -> Floats:
    """(p, p) C with C C' = Var(gamma) given theta: one unit of the search's coordinates is then about one standard error."""
    q = mode.factor.system.rest_starts[-1]
    root = mode.factor.root[q:, q:]
    return solve_triangular(root, np.eye(len(root))) if len(root) else root


def _polish(problem: _Problem, point: _Point, deviance: _Deviance) -> _Point:
    """Newton over (theta / units, standardised gamma, log dispersion), from ``point``."""
    n, p, units, turn = problem.theta_layout.n, len(point.basis), problem.units, point.turn

    def split(x: Floats) -> tuple[Floats, Floats, float]:
        return x[:n] * units, point.basis + turn @ x[n : n + p], float(x[-1]) if problem.with_dispersion else 0.0

    def evaluate(x: Floats) -> tuple[float, Floats]:
        value, gradient = deviance(*split(x))
        flat = np.concatenate([gradient.theta * units, turn.T @ gradient.basis])
        return value, np.append(flat, gradient.log_dispersion) if problem.with_dispersion else flat

    start = np.concatenate([point.theta / units, np.zeros(p)])
    steps = np.concatenate([np.full(n, 1e-3), np.full(p, 1e-2)])
    if problem.with_dispersion:
        start, steps = np.append(start, point.log_dispersion), np.append(steps, 1e-3)
    local = newton(evaluate, start, steps)
    if not local.converged:
        # far from quadratic, as where a correlation is -1: short quasi-Newton steps first
        local = newton(evaluate, quasi_newton(evaluate, local.at, 1e-8).at, steps)
    theta, basis, log_dispersion = split(local.at)
    snapped = np.where(np.abs(theta) < 1e-3 * units, 0.0, theta)
    if not np.array_equal(snapped, theta):
        value, _ = deviance(snapped, basis, log_dispersion)
        theta = snapped if value <= local.value + 1e-7 else theta
    return _Point(theta, basis, log_dispersion, local, turn)


def _finish(problem: _Problem, best: _Point, points: int, accuracy: Literal["pilot", "full"]) -> LaplaceFit:
    layout, theta_layout = problem.objective.layout, problem.theta_layout
    theta = theta_layout.fix_signs(best.theta)
    mode = problem.objective.mode(theta, best.log_dispersion, best.basis)
    value = problem.objective.value(mode)
    if points > 1:
        value, _ = quadrature_deviance(layout, problem.family, mode, float(theta[0]), best.log_dispersion, points)
    beta = layout.beta(mode.effects)
    parameters = np.concatenate([theta, beta, [best.log_dispersion] if problem.with_dispersion else []])
    n, p = theta_layout.n, len(beta)
    inverse = solve_triangular(layout.template.triangle, np.eye(p)) if p else np.zeros((0, 0))
    if accuracy == "full":
        covariance, flat = _parameter_covariance(problem, best, inverse)
    else:
        covariance, flat = np.zeros((len(parameters), len(parameters))), np.ones(len(parameters))
        covariance[n : n + p, n : n + p] = inverse @ _basis_root(mode) @ _basis_root(mode).T @ inverse.T
    lambdas = theta_layout.lambdas(theta)
    return LaplaceFit(
        theta=theta,
        lambdas=lambdas,
        covariances=tuple(part @ part.T for part in lambdas),
        beta=beta,
        effects=np.concatenate([part.ravel() for part in layout.by_block(mode.effects)]) if lambdas else np.zeros(0),
        dispersion=float(np.exp(best.log_dispersion)) if problem.with_dispersion else None,
        eta=mode.eta,
        weights=mode.curvature.weight,
        score=mode.curvature.score,
        log_likelihood=-value / 2.0,
        parameters=parameters,
        parameter_covariance=covariance,
        flat=flat,
        beta_covariance=covariance[n : n + p, n : n + p],
        factor=mode.factor,
        singular=theta_layout.is_singular(theta, problem.scales),
        largest_sd=max(_scaled_sds(problem, theta), default=0.0),
        distance=best.local.distance,
        evaluations=0,
        starts=0,
        seconds=0.0,
        accuracy=accuracy,
    )


def _parameter_covariance(problem: _Problem, best: _Point, inverse: Floats) -> tuple[Floats, Floats]:
    """2 H^-1 in (theta, beta, log dispersion); columns of Lambda whose sign was turned turn with it."""
    n, p = problem.theta_layout.n, len(best.basis)
    curvature = spectrum(best.local.hessian)
    signs = np.where(problem.theta_layout.fix_signs(best.theta) * best.theta < 0, -1.0, 1.0)
    change = np.eye(len(best.local.at))
    change[:n, :n] = np.diag(problem.units * signs)
    change[n : n + p, n : n + p] = inverse @ best.turn
    covariance = 2.0 * change @ curvature.inverse() @ change.T
    mixed = change[n : n + p, n : n + p] ** 2 @ curvature.flat()[n : n + p]
    flat = curvature.flat()
    total = np.sum(change[n : n + p, n : n + p] ** 2, axis=1)
    flat[n : n + p] = mixed / np.where(total > 0, total, 1.0)
    return covariance, flat
