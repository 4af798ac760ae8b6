"""Penalised iteratively reweighted least squares: the conditional modes of the effects, given theta (Bates et al. 2015, section 5).

With Lambda = Lambda(theta) and b = Lambda u, Newton's method on 2 log f(y | b) - |u|^2. Weights are the observed information, so that the
steps are Newton's for every link and converge quadratically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.errors import FitError
from multilevel.families.likelihood import EPSILON, Curvature, Likelihood
from multilevel.families.likelihood_parts import rounding_of_newton, value_and_rounding, value_of
from multilevel.generalised.basis_prior import BasisPrior
from multilevel.generalised.reweighting import Coordinates, Reweighting, solve, solve_spherical, undone
from multilevel.linear.factorise import BlockedFactor

STEPS = 100
HALVINGS = 30

TOLERANCE = 1e-15
"""Newton decrement (squared distance to the mode in posterior standard deviations) at which the mode is found, or what rounding leaves of
it: large counts and small dispersions have more."""

WELL_CONDITIONED = 1e4
"""Condition number of Lambda up to which u is found again from Lambda'^-1 u, and from b."""

QUICK = 0.05
"""Of the decrement before: steps with another point's factor that shrink it at least so much are cheaper than a factor of their own."""

BORROWED = 12
"""Most steps with one such factor."""

NEARBY = 25.0
"""Squared distance to the mode, in posterior standard deviations of all coefficients together, up to which a start is near."""

STALLED = 0.25
"""Of the decrement before: Newton's steps that shrink it less than that, and below the value's rounding, have come to an end."""


@dataclass(frozen=True)
class Mode:
    """Where PIRLS ended.

    effects : b and gamma (X beta = Q gamma); spherical : u and gamma. eta (R,): linear predictor, offset included. curvature and factor
    are taken there. penalised : -2 log f(y | b) + |u|^2, constants included, and the penalty of a prior of beta.
    """

    effects: Coordinates
    spherical: Coordinates
    eta: Floats
    curvature: Curvature
    factor: BlockedFactor
    penalised: float
    steps: int


@dataclass(frozen=True)
class _Point:
    effects: Coordinates
    spherical: Coordinates
    eta: Floats
    value: float
    rounding: float


class _Search:
    """Newton's steps of one model at one theta and dispersion."""

    def __init__(
        self,
        layout: Reweighting,
        likelihood: Likelihood,
        lambdas: Sequence[Floats],
        log_dispersion: float,
        *,
        with_basis: bool,
        prior: BasisPrior | None,
        least: float,
    ) -> None:
        self._layout, self._likelihood, self._lambdas = layout, likelihood, lambdas
        self._log_dispersion, self._with_basis, self._prior, self._least = log_dispersion, with_basis, prior, least
        self.constant = -2.0 * likelihood.constant(log_dispersion)
        self._is_regular = all(np.linalg.cond(part) < WELL_CONDITIONED for part in lambdas)

    def evaluate(self, effects: Coordinates, spherical: Coordinates) -> _Point:
        """The penalised deviance less the constant, infinite where it overflows."""
        eta = self._layout.offset + self._layout.linear(effects)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            value, rounding = value_and_rounding(self._likelihood, eta, self._log_dispersion)
        penalty = self._penalty(spherical)
        value, rounding = penalty - 2.0 * value, 2.0 * rounding + EPSILON * penalty
        if not (np.isfinite(value) and np.isfinite(rounding)):
            return _Point(effects, spherical, eta, np.inf, 0.0)
        return _Point(effects, spherical, eta, value, rounding)

    def value(self, eta: Floats, spherical: Coordinates) -> float:
        """The value of ``evaluate`` at a predictor that is known, whatever rounding may move it by."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._penalty(spherical) - 2.0 * value_of(self._likelihood, eta, self._log_dispersion)

    def _penalty(self, spherical: Coordinates) -> float:
        return spherical.effects_dot(spherical) + (0.0 if self._prior is None else self._prior.penalty(spherical.basis))

    def curvature(self, eta: Floats) -> Curvature | None:
        """Derivatives at ``eta``, None where they overflow."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = self._likelihood.curvature(eta, self._log_dispersion)
        return found if np.isfinite(found.weight).all() and np.isfinite(found.score).all() else None

    def factorise(self, curvature: Curvature) -> BlockedFactor | None:
        """The penalised system with the weights of ``curvature``, None where they are so unlike that rounding leaves it no root."""
        prior = self._prior
        try:
            system = self._layout.system(curvature.weight)
            return system.factorise(self._lambdas) if prior is None else system.factorise(self._lambdas, prior.precision, prior.location)
        except FitError:
            return None

    def refined(self, factor: BlockedFactor, curvature: Curvature, point: _Point) -> tuple[Coordinates, Coordinates]:
        """``target`` by way of the step, whose right-hand side Lambda' Z's - u vanishes at the mode: ``target``'s own has the size of the
        weights, and what rounding leaves of it is as large as the effects' prior where weights are 1e8."""
        if not self._is_regular:
            return self.target(factor, curvature, point.eta, point.effects)
        step, step_u = solve(factor, self._uphill(curvature.score, point.spherical), with_basis=self._with_basis)
        return point.effects + step, point.spherical + step_u

    def _uphill(self, score: Floats, spherical: Coordinates) -> Coordinates:
        """(Z's - Lambda'^-1 u, Q's)."""
        raw = self._layout.transposed(score)
        return (raw - _pull(self._layout, self._lambdas, spherical)).with_basis(self._basis_slope(raw.basis, spherical.basis))

    def _basis_slope(self, raw: Floats, basis: Floats) -> Floats:
        """(p,) Q's, less the pull of the prior."""
        return raw if self._prior is None else raw - self._prior.pull(basis)

    def target(self, factor: BlockedFactor, curvature: Curvature, eta: Floats, effects: Coordinates) -> tuple[Coordinates, Coordinates]:
        """Where Newton's step goes: (b, gamma) and (u, gamma); gamma stays unless it is sought too."""
        layout = self._layout
        known = 0.0 if self._with_basis else layout.basis @ effects.basis
        right = layout.transposed(curvature.weight * (eta - layout.offset - known) + curvature.score)
        if self._prior is not None:
            right = right.with_basis(right.basis + self._prior.rotated @ self._prior.centre)
        target, target_u = solve(factor, right, with_basis=self._with_basis)
        if self._with_basis:
            return target, target_u
        return target.with_basis(effects.basis), target_u.with_basis(effects.basis)

    def beside(self, near: Mode, basis: Floats) -> _Point | None:
        """The point at the effects of another mode, or at its u where a Lambda is singular or nearly so; None where the value overflows."""
        if self._is_regular:
            effects, spherical = near.effects, _turned(self._layout, self._lambdas, near.effects)
        else:
            effects, spherical = self._effects(near.spherical), near.spherical
        point = self.evaluate(effects.with_basis(basis), spherical.with_basis(basis))
        return point if np.isfinite(point.value) else None

    def _effects(self, spherical: Coordinates) -> Coordinates:
        """b = Lambda u."""
        parts = [own @ part.T for own, part in zip(self._layout.by_block(spherical), self._lambdas, strict=True)]
        return self._layout.from_blocks(parts, spherical.basis)

    def borrowed(self, factor: BlockedFactor, point: _Point, before: float) -> _Point:
        """Steps from ``point`` with the ``factor`` of another point, while each leaves at most ``QUICK`` of the decrement ``before``."""
        for _ in range(BORROWED):
            curvature = self.curvature(point.eta)
            if curvature is None:
                break
            step, step_u, decrement = self.borrowed_step(factor, curvature.score, point.spherical)
            if not 0.0 < decrement <= QUICK * before:
                break
            moved = self.evaluate(point.effects + step, point.spherical + step_u)
            if not moved.value <= point.value + max(point.rounding, moved.rounding):
                break
            expected = decrement * (decrement / before if np.isfinite(before) else QUICK)
            point, before = moved, decrement
            if expected <= self.tolerance(point.eta, curvature):
                break
        return point

    def borrowed_step(self, factor: BlockedFactor, score: Floats, spherical: Coordinates) -> tuple[Coordinates, Coordinates, float]:
        """The step in b and in u, and its decrement."""
        if self._is_regular:
            right = self._uphill(score, spherical)
            step, _ = solve(factor, right, with_basis=self._with_basis)
            return step, _turned(self._layout, self._lambdas, step), step.dot(right)
        right = self._downhill(score, spherical)
        step_u = solve_spherical(factor, right, with_basis=self._with_basis)
        return self._effects(step_u), step_u, step_u.dot(right)

    def decrement(self, score: Floats, spherical: Coordinates, move: Coordinates) -> float:
        """Step times half the downhill gradient."""
        return move.dot(self._downhill(score, spherical))

    def _downhill(self, score: Floats, spherical: Coordinates) -> Coordinates:
        """(Lambda' Z's - u, Q's)."""
        raw = self._layout.transposed(score)
        turned = [part @ lam for lam, part in zip(self._lambdas, self._layout.by_block(raw), strict=True)]
        return (self._layout.from_blocks(turned, raw.basis) - spherical).with_basis(self._basis_slope(raw.basis, spherical.basis))

    def tolerance(self, eta: Floats, curvature: Curvature) -> float:
        """The decrement at which the mode is found."""
        return max(self._least, rounding_of_newton(self._likelihood, eta, self._log_dispersion, curvature.weight))

    def move(self, point: _Point, target: Coordinates, target_u: Coordinates) -> _Point | None:
        """The step, halved until the deviance does not rise by more than rounding; None if it always does."""
        moved = self.evaluate(target, target_u)
        step, step_u, share = target - point.effects, target_u - point.spherical, 1.0
        for _ in range(HALVINGS):
            if moved.value <= point.value + max(point.rounding, moved.rounding):
                return moved
            share /= 2.0
            moved = self.evaluate(point.effects + step.times(share), point.spherical + step_u.times(share))
        return None


def _turned(layout: Reweighting, lambdas: Sequence[Floats], effects: Coordinates) -> Coordinates:
    """u = Lambda^-1 b."""
    parts = [undone(part, own) for part, own in zip(lambdas, layout.by_block(effects), strict=True)]
    return layout.from_blocks(parts, effects.basis)


def _pull(layout: Reweighting, lambdas: Sequence[Floats], spherical: Coordinates) -> Coordinates:
    """Lambda'^-1 u."""
    parts = [undone(part.T, own) for part, own in zip(lambdas, layout.by_block(spherical), strict=True)]
    return layout.from_blocks(parts, spherical.basis)


def find_mode(
    layout: Reweighting,
    likelihood: Likelihood,
    lambdas: Sequence[Floats],
    log_dispersion: float,
    start: Coordinates,
    *,
    with_basis: bool,
    near: Mode | None = None,
    prior: BasisPrior | None = None,
    tolerance: float = TOLERANCE,
) -> Mode:
    """Conditional modes of u (and of gamma too, ``with_basis``), from the effects and gamma of ``start``.

    ``near`` : a mode nearby, whatever its theta; where steps with its factor are quick, no other is made before the last.
    ``prior`` : of beta, which is then sought too. ``tolerance`` : Newton decrement at which the mode is found.
    Raises FitError where no finite mode is reached.
    """
    search = _Search(layout, likelihood, lambdas, log_dispersion, with_basis=with_basis, prior=prior, least=tolerance)
    point, before = _first(search, layout, start, near), np.inf
    for steps in range(1, STEPS):
        curvature = search.curvature(point.eta)
        if curvature is None:
            break
        factor = search.factorise(curvature)
        if factor is None:
            break
        target, target_u = search.refined(factor, curvature, point)
        decrement = search.decrement(curvature.score, point.spherical, target_u - point.spherical)
        arrived = decrement <= search.tolerance(point.eta, curvature)
        stalled = STALLED * before <= decrement <= point.rounding
        moved = None if arrived or stalled else search.move(point, target, target_u)
        if moved is None:
            if arrived or decrement <= point.rounding:
                return Mode(point.effects, point.spherical, point.eta, curvature, factor, point.value + search.constant, steps)
            break
        point, before = search.borrowed(factor, moved, decrement), decrement
    message = (
        "The modes of the group-level effects were not found: the outcome, an offset or a predictor is far out of scale, "
        "or a coefficient is infinite (separation). Rescale predictors, or drop the terms that separate the outcome."
    )
    raise FitError(message)


def _first(search: _Search, layout: Reweighting, start: Coordinates, near: Mode | None) -> _Point:
    """Steps from the mode ``near`` with its factor, if they are quick; else one Newton step, since u is unknown (theta has changed), and
    no effects where that is better, or overflows."""
    beside = None if near is None else search.beside(near, start.basis)
    if near is not None and beside is not None:
        found = search.borrowed(near.factor, beside, np.inf)
        if found is not beside:
            return found
    bare = layout.zero().with_basis(start.basis)
    without = search.evaluate(bare, bare)
    eta = layout.offset + layout.linear(start)
    curvature = search.curvature(eta)
    factor = None if curvature is None else search.factorise(curvature)
    if curvature is None or factor is None:
        return without
    point = search.evaluate(*search.target(factor, curvature, eta, start))
    return point if np.isfinite(point.value) and point.value <= without.value else without


def quick_mode(
    layout: Reweighting,
    likelihood: Likelihood,
    lambdas: Sequence[Floats],
    log_dispersion: float,
    start: Coordinates,
    *,
    prior: BasisPrior,
    tolerance: float,
) -> tuple[Mode, Floats] | None:
    """The joint mode from a ``start`` so near that one factor does, that of the weights (R,) there; None where it is not as near.

    The factor of the mode that is returned is of those weights, which are returned too; its curvature is of those at the mode.
    """
    search = _Search(layout, likelihood, lambdas, log_dispersion, with_basis=True, prior=prior, least=tolerance)
    effects, spherical = start, _turned(layout, lambdas, start)
    first = curvature = search.curvature(layout.offset + layout.linear(effects))
    factor = None if first is None else search.factorise(first)
    if first is None or factor is None:
        return None
    for steps in range(1, BORROWED):
        assert curvature is not None
        step, step_u, decrement = search.borrowed_step(factor, curvature.score, spherical)
        if not 0.0 <= decrement < NEARBY:
            return None
        effects, spherical = effects + step, spherical + step_u
        eta = layout.offset + layout.linear(effects)
        curvature = search.curvature(eta)
        if curvature is None:
            return None
        # the next decrement is about the square of this one, and no smaller than it times what the weights are off by
        if decrement * min(decrement, 1.0) * QUICK <= tolerance:
            value = search.value(eta, spherical)
            found = Mode(effects, spherical, eta, curvature, factor, value + search.constant, steps)
            return (found, first.weight) if np.isfinite(value) else None
    return None
