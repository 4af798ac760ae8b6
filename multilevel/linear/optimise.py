"""Minimising the criterion over theta: unconstrained, with the analytic gradient, from several starts where a variance vanishes.

Bounds at zero create false optima (the criterion is symmetric in the sign of Lambda's columns, so the gradient vanishes on the boundary);
without bounds the search crosses them and signs are fixed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from multilevel.arrays import Floats
from multilevel.errors import FitError

GRADIENT_TOLERANCE = 1e-5
"""Largest scaled gradient of a converged fit, relative to one plus the square root of the criterion's curvature scale."""

NEWTON_STEPS = 12

FIRST_STEP = 0.5
"""Of each parameter's natural scale: a whole one would land on zero, where the gradient vanishes by symmetry."""

STARTS = (1.0, 0.3, 3.0, 0.05)

OFF_ZERO = 0.05
"""Of a parameter's natural scale, where a search begins beside zero: at zero the gradient vanishes by symmetry."""

STRETCHED = 10.0
"""Size of a parameter, in its unit, from which the search goes on in multiples of that size: a gradient for each unit says little there."""

MOST_STRETCHES = 6

SLOW, SLOW_GUESS = 0.1, 0.3
"""Shrinking of the gradient in a step from which a Hessian is computed anew; a guess serves longer, since it cost nothing."""

FLATTEST = 1e-8
"""Ratio of curvatures below which a Hessian says nothing of the flattest direction."""

SAME_VALUE, ARRIVED = 1e-9, 100.0
"""A search from a further start has met a known minimum where its criterion differs relatively by less than the first, and its gradient is
within the second of the tolerance."""

FAR, SCORED_STEPS, LONGEST_STEP, SHORTEST_SHARE = 0.01, 20, 1.0, 1e-3
"""Expected decrease of the criterion above which a search goes where its curvature says: at most so many steps, none longer than its
parameter is large, none cut to less than that share."""

STEEP = 0.25
"""Share of a step's slope left at its end from which the step is doubled: its curvature was too large, and costs more than a look."""

type Evaluate = Callable[[Floats], tuple[float, Floats]]

type Curvature = Callable[[Floats, Floats], Floats]
"""About the Hessian (n, n) at theta (n,), evaluated last, with its gradient (n,)."""


@dataclass(frozen=True)
class Near:
    """A minimum of a criterion much like this one: theta (n,), and the inverse (n, n) of the Hessian there, None where it has none."""

    theta: Floats
    inverse_hessian: Floats | None = None


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
    evaluate: Evaluate,
    start: Callable[[float], Floats],
    units: Floats,
    *,
    is_singular: Callable[[Floats], bool],
    seed: int,
    near: Near | None = None,
    curvature: Curvature | None = None,
) -> Optimum:
    """Minimise from ``start(1.0)``; from further starts too if a variance vanished or the gradient did not.

    ``units`` (n,) is the natural scale of each parameter: the search runs in theta / units. It begins at ``near`` where that is known, off
    zero, and what vanished there may vanish here; where something else does, further starts confirm it. ``curvature`` : where it costs less
    than evaluations do. Raises FitError if no start converges.
    """
    counter = _Counter(evaluate, units, curvature)
    if not len(units):
        value, _ = evaluate(units)
        return Optimum(units, value, 0.0, 1, 1, True)
    if near is not None:
        scaled = near.theta / units
        begin = np.where(np.abs(scaled) < OFF_ZERO, OFF_ZERO, scaled)
        found = _search(counter, begin, guess=_usable(near.inverse_hessian, units))
        if found.converged and (is_singular(near.theta) or not is_singular(found.theta * units)):
            return Optimum(found.theta * units, found.value, found.gradient_norm, counter.calls, 1, True)
        best = found if found.converged else _search(counter, start(1.0) / units)
    else:
        best = _search(counter, start(1.0) / units)
    starts = 1
    rng = np.random.default_rng(seed)
    for size in STARTS[1:]:
        if best.converged and not is_singular(best.theta * units):
            break
        starts += 1
        begin = start(size) / units + 0.1 * size * rng.standard_normal(len(units))
        if starts > 2 and curvature is not None and best.converged:
            # one search from elsewhere altogether has been made: what has not vanished need not be found from afar again
            begin = np.where(np.abs(best.theta) < OFF_ZERO, begin, best.theta)
        other = _search(counter, begin, best if best.converged else None)
        if (other.converged, -other.value) > (best.converged, -best.value) or other.value < best.value - 1e-8:
            best = other
    if not best.converged:
        message = (
            f"The likelihood's optimiser did not converge from {starts} starts ({counter.calls} evaluations, largest scaled gradient "
            f"{best.gradient_norm:.2g}). Simplify the group terms, centre predictors far from zero (center(x)), or rescale those of "
            "very different size."
        )
        raise FitError(message)
    return Optimum(best.theta * units, best.value, best.gradient_norm, counter.calls, starts, True)


def _usable(inverse_hessian: Floats | None, units: Floats) -> Floats | None:
    """In scaled parameters; None where it is not positive definite by a wide margin."""
    if inverse_hessian is None or not np.all(np.isfinite(inverse_hessian)):
        return None
    scaled = inverse_hessian / np.outer(units, units)
    scaled = (scaled + scaled.T) / 2.0
    eigenvalues = np.linalg.eigvalsh(scaled)
    return scaled if eigenvalues[0] > FLATTEST * eigenvalues[-1] else None


class _Counter:
    """The criterion in scaled parameters, counting its evaluations."""

    def __init__(self, evaluate: Evaluate, units: Floats, curvature: Curvature | None = None) -> None:
        self._evaluate, self._units, self.calls, self._curvature = evaluate, units, 0, curvature
        self._last: tuple[Floats, tuple[float, Floats]] | None = None

    def stretch(self, factor: Floats) -> None:
        """Multiply the units by ``factor`` (n,)."""
        self._units, self._last = self._units * factor, None

    @property
    def has_curvature(self) -> bool:
        """Whether ``inverse_curvature`` may be asked for."""
        return self._curvature is not None

    def inverse_curvature(self, scaled: Floats) -> Floats | None:
        """(n, n) about the inverse Hessian, positive definite; None where there is no curvature, as with all variances at zero."""
        assert self._curvature is not None
        _, gradient = self(scaled)
        hessian = self._curvature(scaled * self._units, gradient / self._units) * np.outer(self._units, self._units)
        if not np.all(np.isfinite(hessian)):
            return None
        values, vectors = np.linalg.eigh(hessian)
        steepest = float(np.max(np.abs(values)))
        if not steepest > 0:
            return None
        inverse = (vectors / np.maximum(np.abs(values), FLATTEST * steepest)) @ vectors.T
        return np.asarray((inverse + inverse.T) / 2.0)

    def __call__(self, scaled: Floats) -> tuple[float, Floats]:
        if self._last is not None and np.array_equal(self._last[0], scaled):
            return self._last[1]
        self.calls += 1
        value, gradient = self._evaluate(scaled * self._units)
        self._last = scaled.copy(), (value, gradient * self._units)
        return self._last[1]


@dataclass(frozen=True)
class _Local:
    theta: Floats
    value: float
    gradient_norm: float
    converged: bool


def _search(function: _Counter, start: Floats, known: _Local | None = None, guess: Floats | None = None) -> _Local:
    """A search in units of the parameters' own size, where that is much larger than the units they came in; ``known`` if it gets there.

    ``guess`` (n, n) is the inverse Hessian, near enough.
    """
    found = _descend(function, start, known, guess)
    if found is known:
        return found
    for _ in range(MOST_STRETCHES):
        size = np.abs(found.theta)
        if not found.theta.size or size.max() <= STRETCHED:
            break
        stretch = np.where(size > STRETCHED, size, 1.0)
        function.stretch(stretch)
        again = _descend(function, found.theta / stretch)
        function.stretch(1.0 / stretch)
        moved = np.max(np.abs(again.theta * stretch / found.theta - 1.0)[size > STRETCHED])
        found = _Local(again.theta * stretch, again.value, again.gradient_norm, again.converged)
        if moved < 1.0:
            break
    return found


def _descend(function: _Counter, start: Floats, known: _Local | None = None, guess: Floats | None = None) -> _Local:
    if function.has_curvature:
        start, guess = _scored(function, start)
    value, gradient = function(start)
    slope = np.abs(gradient)
    if guess is None:
        # the first step moves each parameter by half its natural scale, instead of by its gradient
        guess = np.diag(FIRST_STEP / np.maximum(slope, 1e-3 * max(float(slope.max()), 1.0)))
    # closer than this the criterion's rounding defeats a line search; Newton's steps do the rest
    goal = GRADIENT_TOLERANCE * (1.0 + abs(value)) ** 0.5
    if known is None and function.has_curvature:
        theta, value, gradient = _newton(function, start, guess)
        if (norm := float(np.max(np.abs(gradient)))) < goal:
            return _Local(theta, value, norm, True)

    def arrived(theta: Floats) -> bool:
        """Whether the search has come down to the minimum that is known: towards a variance of zero the last digits take it longest."""
        if known is None:
            return False
        here, slopes = function(theta)
        return abs(here - known.value) < SAME_VALUE * (1.0 + abs(known.value)) and float(np.max(np.abs(slopes))) < ARRIVED * goal

    def stop(intermediate_result: OptimizeResult) -> None:
        if arrived(intermediate_result.x):
            raise StopIteration

    rough = minimize(function, start, jac=True, method="BFGS", options={"gtol": goal, "maxiter": 500, "hess_inv0": guess}, callback=stop)
    if known is not None and arrived(np.asarray(rough.x)):
        return known
    theta, value, gradient = _newton(function, np.asarray(rough.x), np.asarray(rough.hess_inv))
    norm = float(np.max(np.abs(gradient)))
    return _Local(theta, value, norm, norm < GRADIENT_TOLERANCE * (1.0 + abs(value)) ** 0.5)


def _scored(function: _Counter, start: Floats) -> tuple[Floats, Floats | None]:
    """Steps that the curvature at each point asks for, until the next would gain little; where they end, with the inverse Hessian, None
    where there is none."""
    at = start
    value, gradient = function(at)
    inverse = function.inverse_curvature(at)
    for _ in range(SCORED_STEPS):
        if inverse is None:
            break
        step = -inverse @ gradient
        step *= min(1.0, LONGEST_STEP / max(float(np.max(np.abs(step) / np.maximum(1.0, np.abs(at)))), 1e-300))
        slope = float(gradient @ step)
        if -slope < FAR:
            break
        share, moved = 1.0, None
        while share > SHORTEST_SHARE and moved is None:
            new_value, new_gradient = function(at + share * step)
            if new_value <= value + 1e-4 * share * slope:
                moved = at + share * step, new_value, new_gradient
            share *= 0.3
        if moved is None:
            break
        at, value, gradient = _further(function, at, step, slope, moved) if share == 0.3 else moved
        inverse = function.inverse_curvature(at)
    return at, inverse


type Place = tuple[Floats, float, Floats]
"""A point (n,), the criterion there and its gradient (n,)."""


def _further(function: _Counter, start: Floats, step: Floats, slope: float, found: Place) -> Place:
    """The step from ``start`` to ``found``, doubled as long as the criterion goes on falling about as steeply."""
    share = 1.0
    while float(found[2] @ step) < STEEP * slope:
        share *= 2.0
        value, gradient = function(start + share * step)
        if not value < found[1]:
            break
        found = start + share * step, value, gradient
    return found


def _newton(function: _Counter, theta: Floats, inverse: Floats) -> tuple[Floats, float, Floats]:
    """Damped Newton steps until the gradient is down to rounding; a Hessian serves as long as it shrinks the gradient.

    ``inverse`` (n, n) is the inverse Hessian that the search before has come to know: the first to serve.
    """
    value, gradient = function(theta)
    shape, is_guess = _shape_of(inverse), True
    for _ in range(NEWTON_STEPS):
        size = np.max(np.abs(gradient))
        if size < 1e-7 * (1.0 + abs(value)) ** 0.5:
            break
        if shape is None:
            hessian = difference_hessian(lambda t: function(t)[1], theta, np.full(len(theta), 1e-4))
            eigenvalues, vectors = np.linalg.eigh(hessian)
            shape = np.maximum(np.abs(eigenvalues), 1e-8 * max(float(np.max(np.abs(eigenvalues))), 1e-8)), vectors
            is_guess = False
        curvature, directions = shape
        step = -directions @ ((directions.T @ gradient) / curvature)
        moved = _damped(function, theta, value, size, step)
        if moved is None and not is_guess:
            break
        if moved is not None:
            theta, value, gradient = moved
        if moved is None or np.max(np.abs(gradient)) > (SLOW_GUESS if is_guess else SLOW) * size:
            shape = None
    return theta, value, gradient


def _damped(function: _Counter, theta: Floats, value: float, size: float, step: Floats) -> tuple[Floats, float, Floats] | None:
    """The longest part of a step that lowers the gradient's ``size``, with criterion and gradient there; None where none does."""
    for damping in (1.0, 0.5, 0.1, 0.01):
        new_value, new_gradient = function(theta + damping * step)
        if new_value <= value + 1e-9 * (1.0 + abs(value)) and np.max(np.abs(new_gradient)) < size:
            return theta + damping * step, new_value, new_gradient
    return None


def _shape_of(inverse: Floats) -> tuple[Floats, Floats] | None:
    """Eigenvalues and vectors of the Hessian; None where its inverse is none."""
    if not np.all(np.isfinite(inverse)):
        return None
    values, vectors = np.linalg.eigh((inverse + inverse.T) / 2.0)
    return (1.0 / values, vectors) if values[0] > FLATTEST * values[-1] else None


def difference_hessian(gradient: Callable[[Floats], Floats], at: Floats, steps: Floats) -> Floats:
    """Symmetric Hessian (n, n) by central differences of a gradient, ``steps`` (n,) apart."""
    columns = []
    for index, step in enumerate(steps):
        move = np.zeros(len(at))
        move[index] = step
        columns.append((gradient(at + move) - gradient(at - move)) / (2.0 * step))
    hessian = np.array(columns)
    return (hessian + hessian.T) / 2.0
