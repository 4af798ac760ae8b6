"""Weighted points of the posterior of the variance parameters: importance sampling in rounds, from the mode and the curvature there.

The first proposal is a t with the curvature's axes and, on each side of each axis, the width that the density has there. Every round fits a
mixture to the weighted points so far, draws from it and weighs all points against all that was drawn from (Cornuet, Marin, Mira and
Robert 2012). It ends once enough points count, or no more are made. Pareto k of the ratios tells whether the tails are covered (Vehtari,
Simpson, Gelman, Yao and Gabry 2024, with their threshold for the number of points).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from multilevel.arrays import Floats
from multilevel.bayesian.independence import LONGEST, importance
from multilevel.bayesian.mixtures import fit_mixture
from multilevel.bayesian.split_t import SplitT
from multilevel.errors import FitError

type Gradient = Callable[[Floats], tuple[float, Floats]]
type Density = Callable[[Floats], Floats]

type Tell = Callable[[str, float], None]
"""Called with the current step and the fraction that is complete, 0 to 1."""

FIRST_ROUND, ROUND = 500, 250
"""Points made at first, and at a time after that."""

AT_ONCE = 125
"""Points between two progress reports."""

TO_MODE = 0.2
"""Rough fraction of the work that is complete when the mode is found."""

MOST_POINTS = 4_000
ENOUGH_ESS = 400.0
MAX_PARETO_K = 0.7
T_DEGREES = 5.0
WIDER = 1.1
"""Scale of the first proposal over that of the density."""

LOOK = 2.0
"""Standard deviations from the mode at which the width of each side is measured."""

NARROWEST, WIDEST = 0.5, 3.0
"""Bounds of a side's width over that of the curvature."""

COMPONENTS = 3
"""Of the mixtures of later rounds, beside the defensive one."""

IMPOSSIBLE = -1e30
"""Stands for a density of zero while the mode is sought: a line search needs a number."""

NEWTON_STEPS = 20
SMALLEST_DECREMENT = 1e-2
"""Twice the expected gain in log density below which the mode is found: points need no better centre."""

SMALLEST_STEP = 1e-9

SEARCHES, STEEP = 5, 0.1
"""How often a search for the mode begins again where it ended, if twice the expected gain in log density is larger there."""

NEAR_GRADIENT = 0.05
"""Of a log density, in its standard deviations, where its mode is taken to be found for the time being."""

HESSIAN_STEP = 1e-3


def nobody(doing: str, share: float) -> None:
    """A ``Tell`` for callers that want no progress."""


class Proposal(Protocol):
    """What points are drawn from."""

    def sample(self, size: int, rng: np.random.Generator) -> Floats:
        """(size, d)."""

    def log_density(self, points: Floats) -> Floats:
        """(S,)."""


@dataclass(frozen=True)
class ThetaPosterior:
    """thetas (S, d); weights (S,), Pareto-smoothed, summing to one; pareto_k with its threshold; ess: 1 / sum w^2; rounds; mode (d,).

    log_densities : (S,). proposals, sizes : what was drawn from, and how often. axes : (d, d) a root of the curvature's covariance.
    chains : (chains, draws) where the points are states of Markov chains, else None; such points know no proposals.
    """

    thetas: Floats
    weights: Floats
    pareto_k: float
    largest_k: float
    ess: float
    rounds: int
    mode: Floats
    log_densities: Floats
    proposals: tuple[Proposal, ...] = ()
    sizes: tuple[int, ...] = ()
    axes: Floats | None = None
    chains: tuple[int, ...] | None = None

    def log_mixture(self, points: Floats) -> Floats:
        """(n,) log density of all that was drawn from, at (n, d) points."""
        return log_mixture(points, self.proposals, self.sizes)

    def standardised(self, points: Floats) -> Floats:
        """(n, d) points in the axes of the curvature at the mode."""
        assert self.axes is not None
        return np.asarray(np.linalg.solve(self.axes, (points - self.mode).T).T)

    @property
    def are_enough(self) -> bool:
        """Whether the gates pass."""
        return self.pareto_k < self.largest_k and self.ess >= ENOUGH_ESS


def importance_points(
    density: Density,
    gradient: Gradient,
    start: Floats,
    units: Floats,
    rng: np.random.Generator,
    tell: Tell = nobody,
) -> ThetaPosterior:
    """Points and weights, in rounds until the gates pass.

    Parameters
    ----------
    density : (S, d) -> (S,) log densities up to a constant, minus infinity where there is none. gradient : (d,) -> value and (d,) slope.
    start : (d,) any point with a finite density. units : (d,) rough standard deviations, which scale the search for the mode.
    tell : called with the current step and the fraction that is complete, 0 to 1.

    Raises
    ------
    FitError
        The density is not finite at ``start``.
    """
    tell("mode of the variance parameters", 0.0)
    mode, covariance = find_mode(gradient, start, units)
    return points_about(density, mode, covariance, rng, tell)


def points_about(density: Density, mode: Floats, covariance: Floats, rng: np.random.Generator, tell: Tell = nobody) -> ThetaPosterior:
    """As ``importance_points``, from a known mode (d,) and the curvature's covariance (d, d) there."""
    proposals: list[Proposal] = []
    sizes: list[int] = []
    points, values, weights = np.empty((0, len(mode))), np.empty(0), np.empty(0)
    expected: float = FIRST_ROUND
    while True:
        proposals.append(
            fit_mixture(points, weights, COMPONENTS, df=T_DEGREES, rng=rng) if proposals else first_proposal(density, mode, covariance)
        )
        sizes.append(ROUND if len(points) else FIRST_ROUND)
        fresh = proposals[-1].sample(sizes[-1], rng)
        for at in range(0, len(fresh), AT_ONCE):
            made = len(points) + at
            tell(f"{made:,} points", TO_MODE + (1.0 - TO_MODE) * made / max(expected, made + AT_ONCE))
            values = np.concatenate([values, density(fresh[at : at + AT_ONCE])])
        points = np.concatenate([points, fresh])
        weights, k, ess = importance(values - log_mixture(points, proposals, sizes))
        if (k < largest_pareto_k(len(points)) and ess >= ENOUGH_ESS) or len(points) >= MOST_POINTS:
            break
        expected = min(len(points) * max(ENOUGH_ESS / max(ess, 1.0), 1.0), MOST_POINTS)
    axes = np.linalg.cholesky(covariance)
    return ThetaPosterior(
        points, weights, k, largest_pareto_k(len(points)), ess, len(proposals), mode, values, tuple(proposals), tuple(sizes), axes
    )


def further_points(theta: ThetaPosterior, density: Density, rng: np.random.Generator) -> ThetaPosterior:
    """Draw one more round; ``density`` must be the one that the points of ``theta`` were weighed by."""
    proposal = fit_mixture(theta.thetas, theta.weights, COMPONENTS, df=T_DEGREES, rng=rng)
    fresh = proposal.sample(ROUND, rng)
    points, values = np.concatenate([theta.thetas, fresh]), np.concatenate([theta.log_densities, density(fresh)])
    proposals, sizes = (*theta.proposals, proposal), (*theta.sizes, ROUND)
    weights, k, ess = importance(values - log_mixture(points, proposals, sizes))
    return replace(
        theta,
        thetas=points,
        weights=weights,
        pareto_k=k,
        largest_k=largest_pareto_k(len(points)),
        ess=ess,
        rounds=theta.rounds + 1,
        log_densities=values,
        proposals=proposals,
        sizes=sizes,
    )


def log_mixture(points: Floats, proposals: Sequence[Proposal], sizes: Sequence[int]) -> Floats:
    """(n,) log density at (n, d) points of proposals that were drawn from ``sizes`` times."""
    shares = np.log(np.array(sizes) / sum(sizes))
    logs = [share + each.log_density(points) for share, each in zip(shares, proposals, strict=True)]
    return np.asarray(logsumexp(logs, axis=0))


def largest_pareto_k(size: int) -> float:
    """The threshold for so many points (Vehtari et al. 2024, section 3.2.4)."""
    return min(MAX_PARETO_K, 1.0 - 1.0 / math.log10(size))


def find_mode(gradient: Gradient, start: Floats, units: Floats) -> tuple[Floats, Floats]:
    """The mode (d,) and the curvature's covariance (d, d) there; raises as ``search_mode``."""
    return settled(gradient, search_mode(gradient, start, units))


def search_mode(gradient: Gradient, start: Floats, units: Floats) -> Floats:
    """About the mode (d,), by quasi-Newton steps in ``units``.

    Raises
    ------
    FitError
        The density is not finite at ``start``.
    """
    if not math.isfinite(gradient(start)[0]):
        raise FitError("The posterior density is not finite at its starting values; check the outcome and the priors.")

    def negative(scaled: Floats) -> tuple[float, Floats]:
        value, slope = gradient(start + units * scaled)
        return -max(value, IMPOSSIBLE), -units * slope

    at = np.zeros(len(start))
    for _ in range(SEARCHES):
        # a line search that meets a plateau without a density gives up, however steep it is here
        found = minimize(negative, at, jac=True, method="BFGS", options={"gtol": 1e-2})
        at, slope = np.asarray(found.x), np.asarray(found.jac)
        if not float(slope @ np.asarray(found.hess_inv) @ slope) > STEEP:
            break
    return start + units * at


def near_mode(gradient: Gradient, start: Floats, covariance: Floats, farthest: float = math.inf) -> tuple[Floats, Floats]:
    """About the mode (d,), and about the curvature's ``covariance`` (d, d) there, by quasi-Newton steps from those of a density like it.

    Where the mode is more than ``farthest`` standard deviations away: the place that far on the way to it, and the covariance as it was.
    """
    root = np.linalg.cholesky(covariance)

    def negative(scaled: Floats) -> tuple[float, Floats]:
        value, slope = gradient(start + root @ scaled)
        return -max(value, IMPOSSIBLE), -root.T @ slope

    found = minimize(negative, np.zeros(len(start)), jac=True, method="BFGS", options={"gtol": NEAR_GRADIENT})
    length = float(np.linalg.norm(found.x))
    if length > farthest:
        return start + root @ found.x * (farthest / length), covariance
    return start + root @ found.x, np.asarray(root @ found.hess_inv @ root.T)


def settled(gradient: Gradient, mode: Floats) -> tuple[Floats, Floats]:
    """Newton's steps from very near the mode, and the curvature's covariance there."""
    value, slope = gradient(mode)
    covariance = curvature(gradient, mode)
    for _ in range(NEWTON_STEPS):  # line searches give up where millions of rows leave the density few digits near its peak
        step = covariance @ slope
        if float(step @ slope) < SMALLEST_DECREMENT:
            break
        ahead, slope_ahead = gradient(mode + step)
        while ahead < value and np.abs(step).max() > SMALLEST_STEP:
            step = step / 2
            ahead, slope_ahead = gradient(mode + step)
        if ahead < value:
            break
        mode, value, slope = mode + step, ahead, slope_ahead
        covariance = curvature(gradient, mode)
    return mode, covariance


def curvature(gradient: Gradient, mode: Floats, step: float = HESSIAN_STEP) -> Floats:
    """(d, d) covariance from differences of the gradient at the mode, made positive definite and capped at ``LONGEST``."""
    moves = step * np.eye(len(mode))
    rows = np.array([(gradient(mode + move)[1] - gradient(mode - move)[1]) / (2.0 * step) for move in moves])
    values, vectors = np.linalg.eigh(-(rows + rows.T) / 2.0)
    return np.asarray((vectors / np.maximum(values, LONGEST**-2)) @ vectors.T)


def first_proposal(density: Density, mode: Floats, covariance: Floats) -> SplitT:
    """A t whose sides are as wide as a normal distribution that falls as much as the density does ``LOOK`` standard deviations away."""
    values, vectors = np.linalg.eigh(covariance)
    axes = vectors * np.sqrt(values)
    d = len(mode)
    falls = density(mode[None])[0] - density(np.concatenate([mode - LOOK * axes.T, mode + LOOK * axes.T]))
    with np.errstate(divide="ignore", invalid="ignore"):
        widths = np.where(falls > 0, LOOK / np.sqrt(2.0 * falls), WIDEST)
    widths = WIDER * np.clip(np.nan_to_num(widths, nan=NARROWEST), NARROWEST, WIDEST)
    return SplitT(mode, axes, widths[:d], widths[d:], T_DEGREES)
