"""The posterior of the variance parameters of a generalised model, coefficients and effects integrated out by Laplace's approximation.

With u = Lambda^-1 b, beta ~ N(m, P^-1) and the mode (u, beta) of their density given theta,

    log p(y | theta) ~ log f(y | u, beta) - |u|^2 / 2 - (beta - m)'P(beta - m) / 2 + log|P| / 2 - log|M| / 2,

M the observed information of (u, beta) there, prior included (Tierney and Kadane 1986; Rue, Martino and Chopin 2009, eq. 12). The last
entry of theta is the logarithm of phi or shape, where the family has one. What Laplace's approximation leaves out is added by
``level_integrals``.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.collapsed import FARTHEST
from multilevel.bayesian.collapsed_gradient import prior_gradient, root_directions
from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.design.reduction import ReducedRows
from multilevel.errors import FitError
from multilevel.families.likelihood import Likelihood
from multilevel.families.likelihood_parts import likelihood_of
from multilevel.families.outcome import Outcome
from multilevel.generalised.basis_prior import BasisPrior
from multilevel.generalised.pirls import Mode, find_mode, quick_mode
from multilevel.generalised.reweighting import Coordinates, Reweighting, reweighting, solve, undone
from multilevel.linear.effects_gradient import volume_gradient
from multilevel.linear.touched_covariances import TouchedCovariances

NEAR_ENOUGH = 1e-9
"""Squared distance to the mode, in posterior standard deviations, at which it is found where gradients are compared."""

NEAR_ENOUGH_FOR_VALUES = 1e-6
"""The same at points: the log-determinant is then right to about a thousandth."""

FARTHEST_WEIGHTS = 0.15
"""Of the log-determinant, what weights between a start and its mode may add to it for the first order to be enough."""

FARTHEST_STEP = 4.0
"""Standard deviations from the centre up to which modes are extrapolated from those on the axes."""


@dataclass(frozen=True)
class Trail:
    """How the mode moves with theta: quadratic along each of the ``axes`` (d, d) through ``centre`` (d,), where the mode is ``base``.

    first, second : per axis, coefficients of the step and of its square. variance : (R,) of the linear predictors there.
    """

    centre: Floats
    axes: Floats
    base: Mode
    first: tuple[Coordinates, ...]
    second: tuple[Coordinates, ...]
    variance: Floats

    def effects(self, theta: Floats) -> Coordinates:
        """About the mode's (b, gamma) at theta (d,)."""
        steps = np.clip(np.linalg.solve(self.axes, theta - self.centre), -FARTHEST_STEP, FARTHEST_STEP)
        found = self.base.effects
        for step, first, second in zip(steps, self.first, self.second, strict=True):
            found = found + first.times(float(step)) + second.times(float(step) ** 2)
        return found


@dataclass(frozen=True)
class NearMode(Mode):
    """A mode whose factor is of other weights nearby; ``log_det_moved`` is what its own add to the log-determinant."""

    log_det_moved: float = 0.0


class LaplaceCollapsed:
    """The log posterior of theta (see ``parameters.Layout``), up to the constants of y.

    coordinates : the rows laid out for elimination. likelihood : theirs. A search for the mode in theta begins each mode of (u, beta) at
    the last; points begin at the ``trail``, so that none depends on those before it.
    """

    def __init__(self, rows: ReducedRows, outcome: Outcome, layout: Layout, priors: ResolvedPriors) -> None:
        self.coordinates: Reweighting = reweighting(rows)
        self.likelihood: Likelihood = likelihood_of(outcome)
        self.layout, self.priors = layout, priors
        self.prior = BasisPrior.of(self.coordinates, priors.beta_precision, priors.beta_location)
        basis = self.coordinates.basis
        constant = self.likelihood.typical_predictor() - rows.offset
        self._start = self.coordinates.zero().with_basis(np.linalg.lstsq(basis, constant)[0])
        self._last: Mode | None = None
        self.trail: Trail | None = None

    @cached_property
    def log_det_prior(self) -> float:
        """log |P|."""
        return float(np.linalg.slogdet(self.priors.beta_precision)[1])

    def lambdas(self, theta: Floats) -> list[Floats]:
        """Per block the root (k, k) of its covariance."""
        return [self.layout.factor(theta, block) for block in range(len(self.layout.widths))]

    def log_dispersion(self, theta: Floats) -> float:
        """Of phi or shape; 0 without one."""
        return float(theta[-1]) if self.layout.with_scale else 0.0

    def mode(self, theta: Floats) -> Mode:
        """The mode of (u, beta) at theta (d,). Raises FitError where there is none."""
        if self.trail is None:
            return self._mode(theta, self._last, self._start if self._last is None else self._last.effects, NEAR_ENOUGH)
        start = self.trail.effects(theta)
        return self._near(theta, self.trail, start) or self._mode(
            theta, replace(self.trail.base, effects=start), start, NEAR_ENOUGH_FOR_VALUES
        )

    def _near(self, theta: Floats, trail: Trail, start: Coordinates) -> NearMode | None:
        """The mode with the factor of weights nearby; twice, where the start was too far."""
        rows, log_dispersion = self.coordinates, self.log_dispersion(theta)
        for _ in range(2):
            found = quick_mode(
                rows, self.likelihood, self.lambdas(theta), log_dispersion, start, prior=self.prior, tolerance=NEAR_ENOUGH_FOR_VALUES
            )
            if found is None:
                return None
            mode, before = found
            moved = float(trail.variance @ (mode.curvature.weight - before))
            if abs(moved) <= FARTHEST_WEIGHTS:
                return NearMode(**{field.name: getattr(mode, field.name) for field in fields(Mode)}, log_det_moved=moved)
            start = mode.effects
        return None

    def _mode(self, theta: Floats, near: Mode | None, start: Coordinates, tolerance: float) -> Mode:
        return find_mode(
            self.coordinates,
            self.likelihood,
            self.lambdas(theta),
            self.log_dispersion(theta),
            start,
            with_basis=True,
            near=near,
            prior=self.prior,
            tolerance=tolerance,
        )

    def of_mode(self, mode: Mode, theta: Floats) -> float:
        """log p(theta | y) + constant, from the mode there."""
        value = self.likelihood_at(mode) + float(log_prior(theta[None], self.layout, self.priors)[0])
        return value if math.isfinite(value) else -math.inf

    def likelihood_at(self, mode: Mode) -> float:
        """Laplace's approximation of log p(y | theta), from the mode there."""
        log_det = mode.factor.log_det_effects + mode.factor.log_det_population
        if isinstance(mode, NearMode):
            log_det += mode.log_det_moved
        return -0.5 * (mode.penalised + log_det - self.log_det_prior)

    def spherical(self, theta: Floats, effects: Coordinates) -> Coordinates:
        """(u, gamma) of (b, gamma)."""
        rows = self.coordinates
        parts = [undone(root, own) for root, own in zip(self.lambdas(theta), rows.by_block(effects), strict=True)]
        return rows.from_blocks(parts, effects.basis)

    def __call__(self, theta: Floats) -> float:
        """log p(theta | y) + constant at one theta (d,); minus infinity where no mode is found."""
        if np.any(np.abs(theta) > FARTHEST):
            return -math.inf
        try:
            return self.of_mode(self.mode(theta), theta)
        except (FitError, np.linalg.LinAlgError, OverflowError):
            return -math.inf

    def many(self, thetas: Floats, threads: int) -> Floats:
        """(S,) values at (S, d) thetas, on ``threads`` threads."""
        if threads == 1 or self.trail is None:
            return np.array([self(theta) for theta in thetas])
        with ThreadPoolExecutor(threads) as pool:
            return np.array(list(pool.map(self, thetas)))

    def value_and_gradient(self, theta: Floats) -> tuple[float, Floats]:
        """log p(theta | y) + constant and its derivative (d,); minus infinity and zeros where no mode is found."""
        nowhere = -math.inf, np.zeros(len(theta))
        if np.any(np.abs(theta) > FARTHEST):
            return nowhere
        try:
            near, start = self._last, self._start if self._last is None else self._last.effects
            self._last = mode = self._mode(theta, near, start, NEAR_ENOUGH)
            value = self.of_mode(mode, theta)
            slope = self._likelihood_gradient(mode, theta) + prior_gradient(self.layout, self.priors, theta)
        except (FitError, np.linalg.LinAlgError, OverflowError):
            return nowhere
        return (value, slope) if math.isfinite(value) and np.all(np.isfinite(slope)) else nowhere

    def follow(self, centre: Floats, covariance: Floats) -> None:
        """Lay the trail through ``centre`` (d,), a standard deviation of the ``covariance`` (d, d) to both sides along each axis."""
        self.trail = None
        base = self._last = self.mode(centre)
        axes = np.linalg.cholesky(covariance)
        first, second = [], []
        for axis in axes.T:
            above, below = (self.mode(centre + sign * axis).effects for sign in (1.0, -1.0))
            first.append((above - below).times(0.5))
            second.append((above + below).times(0.5) - base.effects)
        variance = self.coordinates.variances(TouchedCovariances.with_beta(base.factor))
        self.trail = Trail(centre, axes, base, tuple(first), tuple(second), variance)

    def _likelihood_gradient(self, mode: Mode, theta: Floats) -> Floats:
        """As ``generalised.objective``, with the coefficients and their prior inside the determinant."""
        rows, curvature = self.coordinates, mode.curvature
        given = TouchedCovariances.with_beta(mode.factor)
        variance = rows.variances(given)
        pull = curvature.weight_slope * variance
        follow, follow_u = solve(mode.factor, rows.transposed(pull), with_basis=True)
        moved = rows.linear(follow)
        direct = rows.by_block(rows.transposed(-2.0 * curvature.score + pull - curvature.weight * moved))
        score = rows.by_block(rows.transposed(curvature.score))
        u, a = rows.by_block(mode.spherical), rows.by_block(follow_u)
        volume = volume_gradient(mode.factor, given)
        result = np.zeros(len(theta))
        for block, root in enumerate(self.lambdas(theta)):
            by_root = np.tril(direct[block].T @ u[block] + score[block].T @ a[block] + volume[block])
            for at, direction in enumerate(root_directions(self.layout, theta, block, root), self.layout.starts[block]):
                result[at] = -0.5 * float(np.sum(by_root * direction))
        if self.layout.with_scale:
            by = self.likelihood.by_dispersion(mode.eta, self.log_dispersion(theta))
            result[-1] = by.log_likelihood - 0.5 * (float(variance @ by.weight) + float(moved @ by.score))
        return result
