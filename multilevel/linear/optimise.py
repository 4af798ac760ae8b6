"""Minimising the criterion over theta: unconstrained, with the analytic gradient, from several starts where a variance vanishes.

Bounds at zero create false optima (the criterion is symmetric in the sign of Lambda's columns, so the gradient vanishes on the boundary);
without bounds the search crosses them and signs are fixed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from multilevel.cells import Floats
from multilevel.errors import FitError

GRADIENT_TOLERANCE = 1e-5
"""Largest scaled gradient of a converged fit, relative to one plus the square root of the criterion's curvature scale."""

NEWTON_STEPS = 8
STARTS = (1.0, 0.3, 3.0, 0.05)

type Evaluate = Callable[[Floats], tuple[float, Floats]]


@dataclass(frozen=True)
class Optimum:
    """Where the search ended: theta in its own units, the criterion there, and how it got there."""

    theta: Floats
    value: float
    gradient_norm: float
    evaluations: int
    starts: int
    converged: bool


def minimise(
    evaluate: Evaluate, start: Callable[[float], Floats], units: Floats, *, is_singular: Callable[[Floats], bool], seed: int
) -> Optimum:
    """Minimise from ``start(1.0)``; from further starts too if a variance vanished or the gradient did not.

    ``units`` (n,) is the natural scale of each parameter: the search runs in theta / units. Raises FitError if no start converges.
    """
    counter = _Counter(evaluate, units)
    if not len(units):
        value, _ = evaluate(units)
        return Optimum(units, value, 0.0, 1, 1, True)
    best = _search(counter, start(1.0) / units)
    starts = 1
    rng = np.random.default_rng(seed)
    for size in STARTS[1:]:
        if best.converged and not is_singular(best.theta * units):
            break
        starts += 1
        other = _search(counter, start(size) / units + 0.1 * size * rng.standard_normal(len(units)))
        if (other.converged, -other.value) > (best.converged, -best.value) or other.value < best.value - 1e-8:
            best = other
    if not best.converged:
        message = (
            f"The likelihood's optimiser did not converge from {starts} starts ({counter.calls} evaluations, largest scaled gradient "
            f"{best.gradient_norm:.2g}). Simplify the group terms, or rescale predictors of very different size."
        )
        raise FitError(message)
    return Optimum(best.theta * units, best.value, best.gradient_norm, counter.calls, starts, True)


class _Counter:
    """The criterion in scaled parameters, counting its evaluations."""

    def __init__(self, evaluate: Evaluate, units: Floats) -> None:
        self._evaluate, self._units, self.calls = evaluate, units, 0

    def __call__(self, scaled: Floats) -> tuple[float, Floats]:
        self.calls += 1
        value, gradient = self._evaluate(scaled * self._units)
        return value, gradient * self._units


@dataclass(frozen=True)
class _Local:
    theta: Floats
    value: float
    gradient_norm: float
    converged: bool


def _search(function: _Counter, start: Floats) -> _Local:
    rough = minimize(function, start, jac=True, method="BFGS", options={"gtol": 1e-4, "maxiter": 500})
    theta, value, gradient = _newton(function, np.asarray(rough.x))
    norm = float(np.max(np.abs(gradient)))
    return _Local(theta, value, norm, norm < GRADIENT_TOLERANCE * (1.0 + abs(value)) ** 0.5)


def _newton(function: _Counter, theta: Floats) -> tuple[Floats, float, Floats]:
    """Newton steps with a Hessian by central differences of the gradient, damped; stops when the gradient is down to rounding."""
    value, gradient = function(theta)
    for _ in range(NEWTON_STEPS):
        if np.max(np.abs(gradient)) < 1e-7 * (1.0 + abs(value)) ** 0.5:
            break
        hessian = difference_hessian(lambda t: function(t)[1], theta, np.full(len(theta), 1e-4))
        eigenvalues, vectors = np.linalg.eigh(hessian)
        floor = 1e-8 * max(float(np.max(np.abs(eigenvalues))), 1e-8)
        step = -vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(eigenvalues), floor))
        for damping in (1.0, 0.5, 0.1, 0.01):
            new_value, new_gradient = function(theta + damping * step)
            if new_value <= value + 1e-9 * (1.0 + abs(value)) and np.max(np.abs(new_gradient)) < np.max(np.abs(gradient)):
                theta, value, gradient = theta + damping * step, new_value, new_gradient
                break
        else:
            break
    return theta, value, gradient


def difference_hessian(gradient: Callable[[Floats], Floats], at: Floats, steps: Floats) -> Floats:
    """Symmetric Hessian (n, n) by central differences of a gradient, ``steps`` (n,) apart."""
    columns = []
    for index, step in enumerate(steps):
        move = np.zeros(len(at))
        move[index] = step
        columns.append((gradient(at + move) - gradient(at - move)) / (2.0 * step))
    hessian = np.array(columns)
    return (hessian + hessian.T) / 2.0
