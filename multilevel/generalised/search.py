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
from multilevel.families.likelihood_parts import likelihood_of
from multilevel.generalised.average_information import bounded_inverse, second_order
from multilevel.generalised.laplace_optimise import Local, newton, quasi_newton
from multilevel.generalised.objective import Gradient, Objective
from multilevel.generalised.pirls import Mode
from multilevel.generalised.quadrature import quadrature_deviance
from multilevel.generalised.reweighting import reweighting
from multilevel.linear.neighbour import Neighbour
from multilevel.linear.theta import Theta

type Accuracy = Literal["pilot", "full"]

STARTS = (0.5, 1.5, 0.15, 4.0)
"""Standard deviations of the effects, on the link scale, from which searches begin; those after the first only where one is needed."""

BETTER = 1e-3
"""Of the deviance: a search from another start that ends less than that below the best is of the same optimum."""

NEAR, ROUNDING = 1e-9, 1e-14
"""Expected decrease of the deviance, and its share in the deviance itself, at which a search hands over to Newton's steps."""

VANISHED = 1e-3
"""Standard deviation on the link scale, of a column at its root mean square, below which a variance has vanished."""

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
    likelihood = likelihood_of(outcome)
    theta_layout = Theta(tuple(block.values.shape[1] for block in rows.blocks))
    zero = layout.zero()
    constant = likelihood.typical_predictor() - rows.offset
    start = zero.with_basis(np.linalg.lstsq(layout.basis, constant)[0]) if len(zero.basis) else zero
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


def search(problem: Problem, points: int, accuracy: Accuracy, seed: int, near: Neighbour | None = None) -> tuple[Point, int]:
    """Search from ``near``, else from the first start; then from the others while a variance vanishes or nothing converges."""
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
            start = _start(problem, size, noise, best) if near is None or starts > 1 else _near(problem, near)
            found = _descend(problem, start, points, accuracy, best)
        except FitError as error:
            failure = error
            continue
        if found is None:
            continue
        if best is None or (found.local.converged, -found.local.value) > (best.local.converged, -best.local.value + 1e-8):
            best = found
    if best is None:
        assert failure is not None
        raise failure
    return best, starts


def _is_singular(problem: Problem, theta: Floats) -> bool:
    return problem.theta_layout.is_singular(theta, problem.scales, VANISHED)


def _descend(problem: Problem, start: Floats, points: int, accuracy: Accuracy, best: Point | None) -> Point | None:
    """The optimum near a start; None where it is not below the ``best`` one, by Laplace's approximation."""
    is_compared = best is not None and best.local.converged and points == 1
    least = best.local.value if best is not None and is_compared else np.inf
    profiled = _Profiled(problem)
    rough = quasi_newton(profiled, start, 1e-3, scored=profiled.inverse_curvature, least=least)
    if rough.value > least - BETTER:
        return None
    n = problem.theta_layout.n
    log_dispersion = float(rough.at[-1]) if problem.with_dispersion else 0.0
    mode = problem.objective.mode(rough.at[:n] * problem.units, log_dispersion, None)
    point = Point(rough.at[:n] * problem.units, mode.effects.basis, log_dispersion, rough, basis_root(mode))
    if accuracy == "pilot":
        return point
    point = _polish(problem, point, _laplace(problem), profiled.joint_curvature(point, mode))
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


def _start(problem: Problem, size: float, noise: Floats | float, best: Point | None) -> Floats:
    """(theta / units, log dispersion): effects of ``size``; beside an optimum, of the factors alone whose variance vanished there."""
    layout = problem.theta_layout
    theta, log_dispersion = layout.start(problem.scales, size) / problem.units + noise, 0.0
    if best is not None and best.local.converged:
        vanished = layout.singular_blocks(best.theta, problem.scales, VANISHED)
        own, other = layout.lambdas(theta * problem.units), layout.lambdas(best.theta)
        theta = layout.flat([a if is_gone else b for a, b, is_gone in zip(own, other, vanished, strict=True)]) / problem.units
        log_dispersion = best.log_dispersion
    return np.append(theta, log_dispersion) if problem.with_dispersion else theta


def _near(problem: Problem, near: Neighbour) -> Floats:
    """(theta / units, log dispersion) of another day's fit, a vanished variance off zero: there the gradient vanishes by symmetry."""
    layout, theta = problem.theta_layout, np.array(near.theta)
    first = layout.start(problem.scales, STARTS[0])
    vanished = layout.singular_blocks(theta, problem.scales, VANISHED)
    own, other = layout.lambdas(first), layout.lambdas(theta)
    theta = layout.flat([a if is_gone else b for a, b, is_gone in zip(own, other, vanished, strict=True)]) / problem.units
    return np.append(theta, near.log_dispersion or 0.0) if problem.with_dispersion else theta


class _Profiled:
    """The deviance in (theta / units, log dispersion), gamma at its mode, with its curvature where it was evaluated last."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._last: tuple[Floats, Mode] | None = None

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Value and gradient at x (n,)."""
        problem, n = self._problem, self._problem.theta_layout.n
        log_dispersion = float(x[-1]) if problem.with_dispersion else 0.0
        mode = problem.objective.mode(x[:n] * problem.units, log_dispersion, None)
        self._last = x.copy(), mode
        gradient = problem.objective.gradient(mode, log_dispersion, profiled=True)
        flat = gradient.theta * problem.units
        return problem.objective.value(mode), np.append(flat, gradient.log_dispersion) if problem.with_dispersion else flat

    def inverse_curvature(self, x: Floats, gradient: Floats) -> Floats:
        """(n, n) about the inverse Hessian at ``x``, from average information."""
        problem, n = self._problem, self._problem.theta_layout.n
        mode = self._mode(x)
        by_theta = problem.objective.information(mode).average + second_order(
            problem.theta_layout, x[:n] * problem.units, gradient[:n] / problem.units
        )
        return bounded_inverse(self._beside_dispersion(by_theta * np.outer(problem.units, problem.units), mode, x))

    def joint_curvature(self, point: Point, mode: Mode) -> Floats:
        """(n, n) about the Hessian in the coordinates of ``_polish``: the deviance at theta rises by the squared distance of gamma to its
        mode, in standard errors."""
        problem, n, p = self._problem, self._problem.theta_layout.n, len(point.basis)
        information = problem.objective.information(mode)
        x = np.append(point.theta / problem.units, point.log_dispersion) if problem.with_dispersion else point.theta / problem.units
        moves = np.zeros((p, len(x)))
        moves[:, :n] = solve_triangular(point.turn, information.basis_moves * problem.units) if p else moves[:, :n]
        profiled = point.local.hessian + 2.0 * moves.T @ moves
        whole = np.block([[profiled, -2.0 * moves.T], [-2.0 * moves, 2.0 * np.eye(p)]])
        order = np.r_[:n, len(x) : len(x) + p, n : len(x)]
        return np.asarray(whole[np.ix_(order, order)])

    def _mode(self, x: Floats) -> Mode:
        if self._last is None or not np.array_equal(self._last[0], x):
            self(x)
        assert self._last is not None
        return self._last[1]

    def _beside_dispersion(self, by_theta: Floats, mode: Mode, x: Floats) -> Floats:
        """With the curvature in the log dispersion at the linear predictor of ``mode``."""
        if not self._problem.with_dispersion:
            return by_theta
        likelihood, step = self._problem.likelihood, 1e-3
        slopes = [likelihood.by_dispersion(mode.eta, float(x[-1]) + move).log_likelihood for move in (step, -step)]
        whole = np.zeros((len(x), len(x)))
        whole[:-1, :-1] = by_theta
        whole[-1, -1] = max(abs(slopes[0] - slopes[1]) / step, 1e-3)
        return whole


def basis_root(mode: Mode) -> Floats:
    """(p, p) C with C C' = Var(gamma) given theta: one unit of the search's coordinates is then about one standard error."""
    q = mode.factor.system.rest_starts[-1]
    root = mode.factor.root[q:, q:]
    return solve_triangular(root, np.eye(len(root))) if len(root) else root


def _polish(problem: Problem, point: Point, deviance: _Deviance, curvature: Floats | None = None) -> Point:
    """Newton over (theta / units, standardised gamma, log dispersion), from ``point``; ``curvature`` (n, n) is about the Hessian there."""
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
    if curvature is not None and len(start):
        nearly = max(NEAR, ROUNDING * abs(point.local.value))
        start = quasi_newton(evaluate, start, nearly, bounded_inverse(curvature)).at
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
