"""Minimising the Laplace deviance: quasi-Newton steps from far away, Newton's steps with a differenced Hessian at the end.

The search is unconstrained: the deviance is symmetric in the signs of Lambda's columns, so a bound at zero would be a false optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.errors import FitError
from multilevel.linear.optimise import difference_hessian

type Evaluate = Callable[[Floats], tuple[float, Floats]]

DISTANCE = 1e-3
"""Distance to the optimum, in standard errors of the parameters, below which a fit has converged."""

SMALLEST_EIGENVALUE = 1e-7
"""Directions of the Hessian flatter than this, relative to the steepest, carry no information."""

FAR = 1.0
"""Expected decrease of the deviance above which a search is far from the optimum: what it learns of the curvature there serves little."""

HOPED = 5.0
"""Multiple of the expected decrease that a search near its optimum is trusted not to exceed."""

STALE = 1e-7
"""Squared distance, in standard errors, that a search has gone since its Hessian was taken and that one is taken again for."""

LONGEST_STEP = 1.0
QUASI_NEWTON_STEPS = 200
NEWTON_STEPS = 12


@dataclass(frozen=True)
class Local:
    """Where a search ended. hessian (n, n) of the deviance there, or the last quasi-Newton one; distance: see ``DISTANCE``."""

    at: Floats
    value: float
    gradient: Floats
    hessian: Floats
    distance: float

    @property
    def converged(self) -> bool:
        """Whether the optimum is nearer than ``DISTANCE``."""
        return self.distance < DISTANCE


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues and vectors of a Hessian and which directions are ``kept``."""

    values: Floats
    vectors: Floats
    kept: Floats

    def inverse(self) -> Floats:
        """Generalised inverse over the kept directions, their curvature taken as positive."""
        scale = np.where(self.kept, 1.0 / np.where(self.kept, np.abs(self.values), 1.0), 0.0)
        return np.asarray((self.vectors * scale) @ self.vectors.T)

    def flat(self) -> Floats:
        """(n,) share of each parameter in directions without information."""
        return np.asarray(np.sum(self.vectors[:, ~self.kept.astype(bool)] ** 2, axis=1))


def spectrum(hessian: Floats) -> Spectrum:
    """Of a symmetric (n, n) matrix."""
    if not len(hessian):
        return Spectrum(np.zeros(0), np.zeros((0, 0)), np.zeros(0))
    values, vectors = np.linalg.eigh(hessian)
    return Spectrum(values, vectors, np.abs(values) > SMALLEST_EIGENVALUE * np.max(np.abs(values)))


def quasi_newton(
    evaluate: Evaluate,
    start: Floats,
    tolerance: float,
    metric: Floats | None = None,
    *,
    scored: Callable[[Floats, Floats], Floats] | None = None,
    least: float = np.inf,
) -> Local:
    """BFGS with backtracking until the expected decrease is below ``tolerance``; a point without a value counts as infinitely bad.

    ``metric`` (n, n) is the inverse Hessian to begin with, where it is known roughly; ``scored`` finds it at the point that was evaluated
    last, from its gradient, and is asked while the expected decrease is above ``FAR``. A search that will not come below ``least`` ends
    early.
    """
    at, n = start, len(start)
    value, gradient = evaluate(at)
    inverse = np.zeros((0, 0)) if metric is None else metric
    if scored is not None and n:
        inverse = scored(at, gradient)
    for _ in range(QUASI_NEWTON_STEPS if n else 0):
        first = not len(inverse)
        step = -0.3 * gradient / max(float(np.max(np.abs(gradient))), 1e-12) if first else -inverse @ gradient
        if gradient @ step >= 0:
            inverse, first = np.zeros((0, 0)), True
            step = -0.3 * gradient / max(float(np.max(np.abs(gradient))), 1e-12)
        step *= min(1.0, LONGEST_STEP / max(float(np.max(np.abs(step))), 1e-300))
        expected = -float(gradient @ step)
        if expected < tolerance or (expected < FAR and value - HOPED * expected > least):
            break
        moved = _backtrack(evaluate, at, value, gradient, step)
        if moved is None:
            if first:
                break
            inverse = np.zeros((0, 0))
            continue
        new_at, new_value, new_gradient = moved
        change, turn = new_at - at, new_gradient - gradient
        at, value, gradient = new_at, new_value, new_gradient
        inverse = scored(at, gradient) if scored is not None and expected > FAR else _update(inverse, change, turn)
    hessian = np.linalg.pinv(inverse) if len(inverse) else np.eye(n)
    return Local(at, value, gradient, hessian, np.inf)


def _update(inverse: Floats, change: Floats, turn: Floats) -> Floats:
    """The inverse Hessian after a step (Nocedal and Wright 2006, eqs. 6.17 and 6.20); unchanged where the curvature is not positive."""
    slope = float(change @ turn)
    if slope <= 1e-10 * float(np.linalg.norm(change) * np.linalg.norm(turn)):
        return inverse
    base = inverse if len(inverse) else np.eye(len(change)) * slope / float(turn @ turn)
    left = np.eye(len(change)) - np.outer(change, turn) / slope
    return np.asarray(left @ base @ left.T + np.outer(change, change) / slope)


def _backtrack(evaluate: Evaluate, at: Floats, value: float, gradient: Floats, step: Floats) -> tuple[Floats, float, Floats] | None:
    slope, share = float(gradient @ step), 1.0
    for _ in range(25):
        new = at + share * step
        new_value, new_gradient = _try(evaluate, new)
        if new_value <= value + 1e-4 * share * slope:
            return new, new_value, new_gradient
        share *= 0.3
    return None


def _try(evaluate: Evaluate, at: Floats) -> tuple[float, Floats]:
    try:
        return evaluate(at)
    except FitError:
        return np.inf, np.zeros(len(at))


def newton(evaluate: Evaluate, start: Floats, steps: Floats) -> Local:
    """Newton's method from near the optimum; the Hessian comes from differences of the gradient, ``steps`` (n,) apart.

    A Hessian is kept while it serves, and taken again at the end if the search has moved since.
    """
    at = start
    value, gradient = evaluate(at)
    if not len(at):
        return Local(at, value, gradient, np.zeros((0, 0)), 0.0)
    hessian, taken_at = difference_hessian(lambda x: evaluate(x)[1], at, steps), at
    for _ in range(NEWTON_STEPS):
        inverse = spectrum(hessian).inverse()
        step = -inverse @ gradient
        distance = float(np.sqrt(2.0 * abs(gradient @ step)))
        if distance < 1e-2 * DISTANCE:
            break
        step *= min(1.0, LONGEST_STEP / max(float(np.max(np.abs(step))), 1e-300))
        moved = _backtrack(evaluate, at, value + 1e-10 * abs(value), gradient, step)
        if moved is None:
            break
        shrunk = float(np.sqrt(2.0 * abs(moved[2] @ inverse @ moved[2]))) < 0.2 * distance
        at, value, gradient = moved
        if not shrunk:
            hessian, taken_at = difference_hessian(lambda x: evaluate(x)[1], at, steps), at
    moved_by = at - taken_at
    if np.abs(moved_by) @ np.abs(hessian) @ np.abs(moved_by) > STALE:
        hessian = difference_hessian(lambda x: evaluate(x)[1], at, steps)
    distance = float(np.sqrt(2.0 * abs(gradient @ spectrum(hessian).inverse() @ gradient)))
    return Local(at, value, gradient, hessian, distance)
