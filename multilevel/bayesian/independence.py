"""Exact draws from a low-dimensional density: mode, curvature, a heavy-tailed proposal, then independence Metropolis-Hastings.

The proposal is a t at the mode, improved from its own importance-weighted draws until most of them count (adaptive importance sampling;
Cappe et al. 2008, Cornuet et al. 2012). The chains accept or reject independent proposals (Tierney 1994), so their draws are exact
whatever the proposal and their R-hat and ESS are those of real Markov chains; Pareto k of the importance ratios (Vehtari et al. 2024)
tells whether the proposal's tails cover the target's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from multilevel.arrays import Floats, Integers
from multilevel.bayesian.convergence import convergence
from multilevel.bayesian.mixtures import TMixture, fit_mixture, single
from multilevel.errors import FitError

PILOT_DRAWS = (250, 1000)
"""Draws per round while the proposal is improved: a quarter of those asked for, between these bounds."""

ENOUGH = 0.7
"""Importance ESS over draws above which a proposal is not improved further."""

LIGHT = 0.3
"""Pareto k at which a proposal's tails are not improved further."""

HEAVY = 0.7
"""Pareto k above which the proposal is fitted once more, to all the draws it gave."""

REFITS = 2
MOST_COMPONENTS = 7
ROUNDS = 5
MOST_PROPOSALS = 16
ENOUGH_ESS = 800.0
NO_WEIGHT = -1e6
"""Log ratio, below the largest, of a point whose density is zero: a tail is fitted to numbers."""

IMPOSSIBLE = -1e30
"""Stands for a density of zero while the mode is sought: a line search needs a number."""

NEWTON_STEPS = 20

LONGEST = 3.0
"""Largest sd that curvature at the mode may claim for one parameter on its log scale; flatter means a long tail, not a wide peak."""


@dataclass(frozen=True)
class IndependenceDraws:
    """What the sampler leaves.

    thetas (chains, draws, d); origin (chains, draws): which proposal each state is; acceptance: share of proposals accepted;
    pareto_k and importance_ess of all the proposals' ratios; thin: proposals made per draw kept; rounds: proposals fitted.
    """

    thetas: Floats
    origin: Integers
    acceptance: float
    pareto_k: float
    importance_ess: float
    thin: int
    rounds: int


def find_mode(density: Callable[[Floats], float], start: Floats) -> Floats:
    """The mode of a smooth log density; ``FitError`` where no finite start can be found."""
    if not np.isfinite(density(start)):
        raise FitError("The posterior density is not finite at its starting values; check the outcome and the priors.")

    def negative(theta: Floats) -> float:
        return -max(density(theta), IMPOSSIBLE)

    def slope(theta: Floats) -> Floats:
        return -gradient(density, theta)

    mode = np.asarray(minimize(negative, start, jac=slope, method="BFGS", options={"gtol": 1e-3}).x)
    for _ in range(NEWTON_STEPS):  # line searches give up where millions of rows leave the density few digits near its peak
        step = curvature(density, mode) @ gradient(density, mode)
        decrement = float(step @ gradient(density, mode))
        while density(mode + step) < density(mode) and np.abs(step).max() > 1e-12:
            step = step / 2
        mode = mode + step
        if decrement < 1e-4:
            break
    return mode


def gradient(density: Callable[[Floats], float], theta: Floats, step: float = 1e-4) -> Floats:
    """(d,) central differences, zero where the density is zero."""
    moves = step * np.eye(len(theta))
    found = np.array([density(theta + move) - density(theta - move) for move in moves]) / (2 * step)
    return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)


def curvature(density: Callable[[Floats], float], mode: Floats, step: float = 0.02) -> Floats:
    """(d, d) covariance from central second differences at the mode, made positive definite and capped at ``LONGEST``."""
    d = len(mode)
    moves = step * np.eye(d)
    at_mode = density(mode)
    hessian = np.empty((d, d))
    for i in range(d):
        hessian[i, i] = (density(mode + moves[i]) - 2 * at_mode + density(mode - moves[i])) / step**2
        for j in range(i):
            both = density(mode + moves[i] + moves[j]) + density(mode - moves[i] - moves[j])
            other = density(mode + moves[i] - moves[j]) + density(mode - moves[i] + moves[j])
            hessian[i, j] = hessian[j, i] = (both - other) / (4 * step**2)
    values, vectors = np.linalg.eigh(-np.nan_to_num(hessian, posinf=0.0, neginf=0.0))
    return (vectors / np.maximum(values, LONGEST**-2)) @ vectors.T


def importance(log_ratios: Floats) -> tuple[Floats, float, float]:
    """Pareto-smoothed normalised weights (S,), k-hat and the importance ESS 1 / sum w^2."""
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    is_finite = np.isfinite(log_ratios)
    if not is_finite.any():
        raise FitError("The posterior density is not finite at any point of its proposal; check the outcome and the priors.")
    finite = np.where(is_finite, log_ratios - log_ratios[is_finite].max(), NO_WEIGHT)
    if np.ptp(finite) < 1e-12:  # a perfect proposal has no tail to fit
        return np.full(len(finite), 1.0 / len(finite)), -np.inf, float(len(finite))
    smoothed, k = array_stats.psislw(-finite)  # it takes log-likelihoods, whose negatives are the ratios
    weights = np.exp(smoothed - np.max(smoothed))
    weights /= weights.sum()
    return weights, float(k), float(1.0 / (weights**2).sum())


def sample_independently(
    density: Callable[[Floats], Floats], first: TMixture, *, chains: int, draws: int, rng: np.random.Generator
) -> IndependenceDraws:
    """Chains of exact draws; ``density`` maps (S, d) to (S,). Where they move too little, more proposals are made per draw kept."""
    pool, weights, proposal, rounds = _adapt(density, first, int(np.clip(chains * draws // 4, *PILOT_DRAWS)), rng)
    for refit in range(REFITS + 1):
        found, proposed, log_ratios = _chains(density, proposal, pool[rng.choice(len(pool), size=chains, p=weights)], draws, rng)
        if found.pareto_k < HEAVY or refit == REFITS:
            break
        # those draws have met a tail that the proposal's own had not
        pool, (weights, _, _) = proposed, importance(log_ratios)
        proposal, rounds = fit_mixture(pool, weights, MOST_COMPONENTS, df=6.0, rng=rng), rounds + 1
    return replace(found, rounds=rounds)


def _chains(
    density: Callable[[Floats], Floats], proposal: TMixture, starts: Floats, draws: int, rng: np.random.Generator
) -> tuple[IndependenceDraws, Floats, Floats]:
    """Chains from ``starts`` (chains, d) with one proposal; all its points, and the log ratios of target to proposal there."""
    chains = len(starts)
    start_ratios = density(starts) - proposal.log_density(starts)
    thin = 1
    while True:
        proposed = proposal.sample(chains * draws * thin, rng)
        log_ratios = density(proposed) - proposal.log_density(proposed)
        path = _accept(np.concatenate([start_ratios, log_ratios]), chains, rng)
        kept = path[:, thin::thin]
        thetas = np.concatenate([starts, proposed])[kept]
        found = convergence(thetas)
        if thin >= MOST_PROPOSALS or min(found.ess_bulk.min(), found.ess_tail.min()) >= min(ENOUGH_ESS, 0.2 * chains * draws):
            break
        thin *= 2
    accepted = float(np.mean(path[:, 1:] != path[:, :-1]))
    _, pareto_k, importance_ess = importance(log_ratios)
    return IndependenceDraws(thetas, kept, accepted, pareto_k, importance_ess, thin, 0), proposed, log_ratios


def _adapt(
    density: Callable[[Floats], Floats], first: TMixture, size: int, rng: np.random.Generator
) -> tuple[Floats, Floats, TMixture, int]:
    """Improve the proposal from all draws so far, each weighed against the mixture of the proposals used."""
    proposals = [first]
    points = first.sample(size, rng)
    values = density(points)
    while True:
        mixture = np.logaddexp.reduce([proposal.log_density(points) for proposal in proposals], axis=0) - np.log(len(proposals))
        weights, _, _ = importance(values - mixture)
        newest = slice(-size, None)
        _, k, ess = importance(values[newest] - proposals[-1].log_density(points[newest]))
        efficiency = ess / size
        if (len(proposals) > 1 and efficiency >= ENOUGH and k < LIGHT) or len(proposals) > ROUNDS:
            return points, weights, proposals[-1], len(proposals)
        components = min(1 + 2 * len(proposals), MOST_COMPONENTS)
        proposals.append(fit_mixture(points, weights, components, df=6.0, rng=rng))
        fresh = proposals[-1].sample(size, rng)
        points, values = np.concatenate([points, fresh]), np.concatenate([values, density(fresh)])


def _accept(log_ratios: Floats, chains: int, rng: np.random.Generator) -> Integers:
    """(chains, 1 + proposals) index of each chain's state; the first ``chains`` ratios belong to the starting states."""
    proposals = np.arange(chains, len(log_ratios)).reshape(chains, -1)
    log_uniform = np.log(rng.uniform(size=proposals.shape))
    states = np.empty((chains, proposals.shape[1] + 1), dtype=np.int64)
    for chain in range(chains):
        current = states[chain, 0] = chain
        for at, candidate in enumerate(proposals[chain]):
            if log_uniform[chain, at] < log_ratios[candidate] - log_ratios[current]:
                current = candidate
            states[chain, at + 1] = current
    return states


def laplace_proposal(density: Callable[[Floats], float], start: Floats) -> tuple[Floats, TMixture]:
    """The mode, and a t with 5 degrees of freedom there, a little wider than the curvature says."""
    mode = find_mode(density, start)
    return mode, single(mode, 1.2 * curvature(density, mode), 5.0)
