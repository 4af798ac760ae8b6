"""The search for the optimum: starts, theta with beta profiled, then everything jointly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import solve_triangular

from multilevel.arrays import Floats
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, outcome_of
from multilevel.errors import FitError
from multilevel.families.likelihood import Likelihood
from multilevel.generalised.laplace_optimise import Evaluate, Local, newton, quasi_newton
from multilevel.generalised.objective import Gradient, Objective
from multilevel.generalised.pirls import Mode
from multilevel.generalised.quadrature import quadrature_deviance
from multilevel.generalised.reweighting import Coordinates, reweighting
from multilevel.linear.theta import Theta

type Accuracy = Literal["pilot", "full"]

STARTS = (0.5, 1.5, 0.15, 4.0)
"""Standard deviations of the effects, on the link scale, from which searches begin; those after the first only where one is needed."""

OWN_LIMIT = 30.0
"""Logarithm of a dispersion beyond which the family is its limit (Poisson): the likelihood no longer changes."""


@dataclass(frozen=True)
class Problem:
    """A model and its deviance. scales: per block (k,) root mean squares of its columns; units (nt,): natural scale of each theta."""

    objective: Objective
    likelihood: Likelihood
    theta_layout: Theta
    scales: tuple[Floats, ...]
    units: Floats
    with_dispersion: bool


@dataclass(frozen=True)
class Point:
    """theta, gamma and log dispersion, with the search that ended there; ``turn`` (p, p) maps the search's coordinates to gamma."""

    theta: Floats
    basis: Floats
    log_dispersion: float
    local: Local
    turn: Floats


def problem_of(design: Design, rows: ReducedRows, family: str) -> Problem:
    """Lay out the rows and begin at the overall mean. Raises FitError as ``linear_system`` does."""
    layout = reweighting(rows)
    outcome = outcome_of(design.cells, rows, family)
    likelihood = outcome.family.likelihood(outcome)
    theta_layout = Theta(tuple(block.values.shape[1] for block in rows.blocks))
    zero = layout.zero()
    constant = likelihood.typical_predictor() - rows.offset
    start = Coordinates(zero.rest, zero.own, np.linalg.lstsq(layout.basis, constant)[0] if len(zero.basis) else zero.basis)
    scales = column_scales(rows)
    objective = Objective(layout, likelihood, theta_layout, start)
    return Problem(objective, likelihood, theta_layout, scales, theta_layout.units(scales), likelihood.has_dispersion)


def column_scales(rows: ReducedRows) -> tuple[Floats, ...]:
    """Per block (k,) root mean square of each column of Z over the line items; 1 for a column that is zero throughout."""
    scales = []
    for block in rows.blocks:
        square = rows.n @ block.values**2 / rows.n.sum()
        scales.append(np.sqrt(np.where(square > 0, square, 1.0)))
    return tuple(scales)


def search(problem: Problem, points: int, accuracy: Accuracy, seed: int) -> tuple[Point, int]:
    """From the first start; from the others too while a variance vanishes or nothing converges."""
    rng = np.random.default_rng(seed)
    best: Point | None = None
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


def _is_singular(problem: Problem, theta: Floats) -> bool:
    return problem.theta_layout.is_singular(theta, problem.scales, 1e-3)


def _descend(problem: Problem, size: float, noise: Floats | float, points: int, accuracy: Accuracy) -> Point:
    theta = problem.theta_layout.start(problem.scales, size) / problem.units + noise
    start = np.append(theta, 0.0) if problem.with_dispersion else theta
    rough = quasi_newton(_profiled(problem), start, 1e-3)
    n = problem.theta_layout.n
    log_dispersion = float(rough.at[-1]) if problem.with_dispersion else 0.0
    mode = problem.objective.mode(rough.at[:n] * problem.units, log_dispersion, None)
    point = Point(rough.at[:n] * problem.units, mode.effects.basis, log_dispersion, rough, basis_root(mode))
    if accuracy == "pilot":
        return point
    point = _polish(problem, point, _laplace(problem))
    return point if points == 1 else _polish(problem, point, _quadrature(problem, points))


type _Deviance = Callable[[Floats, Floats, float], tuple[float, Gradient]]


def deviance_of(problem: Problem, points: int) -> _Deviance:
    """-2 log-likelihood and its gradient in (theta, gamma, log dispersion), by Laplace's approximation or quadrature."""
    return _laplace(problem) if points == 1 else _quadrature(problem, points)


def _laplace(problem: Problem) -> _Deviance:
    def deviance(theta: Floats, basis: Floats, log_dispersion: float) -> tuple[float, Gradient]:
        mode = problem.objective.mode(theta, log_dispersion, basis)
        return problem.objective.value(mode), problem.objective.gradient(mode, log_dispersion, profiled=False)

    return deviance


def _quadrature(problem: Problem, points: int) -> _Deviance:
    def deviance(theta: Floats, basis: Floats, log_dispersion: float) -> tuple[float, Gradient]:
        mode = problem.objective.mode(theta, log_dispersion, basis)
        return quadrature_deviance(problem.objective.layout, problem.likelihood, mode, float(theta[0]), log_dispersion, points)

    return deviance


def _profiled(problem: Problem) -> Evaluate:
    n = problem.theta_layout.n

    def evaluate(x: Floats) -> tuple[float, Floats]:
        log_dispersion = float(x[-1]) if problem.with_dispersion else 0.0
        mode = problem.objective.mode(x[:n] * problem.units, log_dispersion, None)
        gradient = problem.objective.gradient(mode, log_dispersion, profiled=True)
        flat = gradient.theta * problem.units
        return problem.objective.value(mode), np.append(flat, gradient.log_dispersion) if problem.with_dispersion else flat

    return evaluate


def basis_root(mode: Mode) -> Floats:
    """(p, p) C with C C' = Var(gamma) given theta: one unit of the search's coordinates is then about one standard error."""
    q = mode.factor.system.rest_starts[-1]
    root = mode.factor.root[q:, q:]
    return solve_triangular(root, np.eye(len(root))) if len(root) else root


def _polish(problem: Problem, point: Point, deviance: _Deviance) -> Point:
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
    if log_dispersion > OWN_LIMIT and deviance(theta, basis, OWN_LIMIT)[0] <= local.value + 1e-7:
        log_dispersion = OWN_LIMIT
    return Point(theta, basis, log_dispersion, local, turn)


def scaled_sds(problem: Problem, theta: Floats) -> list[float]:
    """Per block its largest standard deviation on the link scale, of a column at its root mean square."""
    lambdas = problem.theta_layout.lambdas(theta)
    return [float(np.max(np.linalg.norm(part, axis=1) * scale)) for part, scale in zip(lambdas, problem.scales, strict=True)]
