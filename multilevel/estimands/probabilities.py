"""Probability of lying above the factor's average, and intervals of ranks, from the joint distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri

from multilevel.arrays import Floats, Integers
from multilevel.estimands.expected_outcome import ExpectedOutcome
from multilevel.fit.container import Fit
from multilevel.fit.published import combined, std_errors

EXACT_LEVELS = 1_000
"""Above so many levels the likelihood engine's normal approximation takes each level as independent given the common coefficients."""

RANK_DRAWS = 1_000
_POOLED_DRAWS = 8
_CHUNK_VALUES = 8_000_000
_MOST_VALUES = 20_000_000
_MOST_PAIRED = 100
_ROUNDING = 1e-13
_TIE = 1e-10


def probability_above_average(fit: Fit, rows: csr_array, independent_sd: Floats) -> Floats:
    """P(rows @ (beta, b) > the mean over rows), one per row; NaN where a row cannot differ from the mean (tau = 0).

    Parameters
    ----------
    rows : (L, p + q), one row per level of a factor. independent_sd : (L,) sd of each level's deviation given (theta, beta), which is
        what remains of a difference from the mean of very many levels.
    """
    if fit.has_draws:
        return _from_draws(fit, rows)
    unit = _unit(fit, rows)
    mean_row = csr_array(rows.mean(axis=0).reshape(1, -1))
    if rows.shape[0] <= EXACT_LEVELS:
        every = csr_array(np.ones((rows.shape[0], 1)))
        difference = combined(fit, csr_array(rows - every @ mean_row))
        return _above(difference.estimate, difference.std_error, unit)
    values = np.asarray(rows @ fit.joint.mean)
    return _above(values - values.mean(), independent_sd, unit)


def _unit(fit: Fit, rows: csr_array) -> float:
    """The scale of ``rows @ (beta, b)``, beside which a spread is rounding."""
    unit_free = rows if fit.unit_free is None else rows @ fit.unit_free.form.maps.matrix
    size = float(np.abs(unit_free.data).max(initial=0.0))
    return size * (fit.sigma or 1.0)


@dataclass(frozen=True)
class Standing:
    """Where the levels of a factor stand, each (L,): bounds of the interval of the rank, 1 the highest; the probability of lying above the
    unweighted mean of all levels, NaN where a level cannot differ from it; bounds of the rank among the levels of one parent, None where
    the factor has none."""

    rank: tuple[Floats, Floats]
    above_average: Floats
    in_parent: tuple[Floats, Floats] | None


def standing(
    outcome: ExpectedOutcome,
    differentiate: Callable[[], tuple[csr_array, ...]],
    estimates: Floats,
    independent_sd: Floats,
    seed: int,
    parents: NDArray[np.object_] | None = None,
) -> Standing:
    """Ranks with equal-tailed intervals, and the probability of lying above average.

    Parameters
    ----------
    differentiate : gives per part (L, p + q) derivatives of ``estimates`` (L,) at the joint mean: ranks are those of the linearised
        estimates over joint draws. Above ``EXACT_LEVELS`` each level's own interval is placed in the distribution of all levels instead.
    independent_sd : (L,) sd of each level given what is common to all. parents : (L,) the level that each is nested in.
    """
    families = None if parents is None else np.unique(parents.astype(str), return_inverse=True)[1]
    differences = [_from_the_mean(gradients) for gradients in differentiate()] if len(estimates) <= EXACT_LEVELS else []
    noise = _noise(outcome, differences, seed) if differences else None
    away, unit = estimates - estimates.mean(), float(independent_sd.max(initial=0.0))

    def ranks(at: Integers) -> tuple[Floats, Floats]:
        if noise is None:
            return ranks_of_many(estimates[at], independent_sd[at], outcome.interval, seed)
        return ranks_of_draws(estimates[at], noise[at], outcome.interval, seed)

    if noise is None:
        chance = _above(away, independent_sd, unit)
    elif outcome.has_draws:
        chance = _share_above(away[:, None] + noise, unit)
    else:
        parts = zip(outcome.parts, differences, strict=True)
        variance = sum((std_errors(part.fit, rows) ** 2 for part, rows in parts), np.zeros(len(away)))
        chance = _above(away, np.sqrt(variance), unit)
    return Standing(ranks(np.arange(len(estimates))), chance, _in_parents(families, ranks))


def _in_parents(families: Integers | None, ranks: Callable[[Integers], tuple[Floats, Floats]]) -> tuple[Floats, Floats] | None:
    """Ranks (L,), (L,) among the levels of each parent; ``families`` (L,) numbers the parents."""
    if families is None:
        return None
    lower, upper = np.empty(len(families)), np.empty(len(families))
    order = np.argsort(families, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(families[order])) + 1):
        lower[at], upper[at] = ranks(at)
    return lower, upper


def _noise(outcome: ExpectedOutcome, differences: Sequence[csr_array], seed: int) -> Floats | None:
    """(L, draws) of the estimates less their mean, about it; None where drawing would take too much memory."""
    fits = [part.fit for part in outcome.parts]
    if not outcome.has_draws and max(len(fit.joint.mean) for fit in fits) * RANK_DRAWS > _MOST_VALUES:
        if differences[0].shape[0] > _MOST_PAIRED:
            return None
        # the parts share no parameter: what they bring to a level adds up
        return _normal_draws(np.sum([_covariance(fit, rows) for fit, rows in zip(fits, differences, strict=True)], axis=0), seed)
    drawn = outcome.draws(RANK_DRAWS, seed)
    pieces = [np.asarray(rows @ (draws - fit.joint.mean).T) for fit, rows, draws in zip(fits, differences, drawn, strict=True)]
    return np.asarray(np.sum(pieces, axis=0))


def _from_the_mean(gradients: csr_array) -> csr_array:
    """(L, p + q) less their mean: ranks do not change when the same is taken from every level, and what all share need not be drawn."""
    every = csr_array(np.ones((gradients.shape[0], 1)))
    differences = csr_array(gradients - every @ csr_array(gradients.mean(axis=0).reshape(1, -1)))
    largest = np.asarray(abs(gradients).max(axis=0).todense()).ravel()
    differences.data[np.abs(differences.data) < _ROUNDING * largest[differences.indices]] = 0.0
    differences.eliminate_zeros()
    return differences


def ranks_of_draws(estimates: Floats, noise: Floats, interval: float, seed: int) -> tuple[Floats, Floats]:
    """Equal-tailed intervals of the ranks of ``estimates`` (L,) + ``noise`` (L, draws), 1 the highest."""
    # Levels that cannot be told apart (tau = 0) are tied up to rounding, and the tie is broken anew in every draw.
    rounding = 8.0 * np.finfo(float).eps * float(np.abs(estimates).max())
    size = max(_TIE * float(np.ptp(estimates) + np.abs(noise).max(initial=0.0)), rounding)
    tie = size * np.random.default_rng(seed).standard_normal(noise.shape)
    draws = estimates[:, None] + noise + tie
    ranks = 1.0 + (-draws).argsort(axis=0).argsort(axis=0)
    tail = (1.0 - interval) / 2.0
    lower, upper = np.quantile(ranks, [tail, 1.0 - tail], axis=1, method="closest_observation")
    return lower, upper


def _covariance(fit: Fit, rows: csr_array) -> Floats:
    """(L, L) covariance of ``rows @ (beta, b)`` from variances of sums: Cov(i, j) = (Var(i + j) - Var(i) - Var(j)) / 2."""
    n = rows.shape[0]
    first, second = np.triu_indices(n)
    sums = std_errors(fit, csr_array(rows[first] + rows[second])) ** 2
    total = np.zeros((n, n))
    total[first, second] = total[second, first] = sums
    alone = np.diagonal(total) / 4.0
    return (total - alone[:, None] - alone[None, :]) / 2.0


def _normal_draws(covariance: Floats, seed: int) -> Floats:
    """(L, draws) of N(0, covariance), singular or not."""
    values, vectors = np.linalg.eigh(covariance)
    noise = np.random.default_rng(seed).standard_normal((len(values), RANK_DRAWS))
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ noise)


def _from_draws(fit: Fit, rows: csr_array) -> Floats:
    draws = fit.joint.draws(4_000, 0) if fit.covariance_draws is None else fit.joint.draws(_n_draws(fit), 0)
    average = np.asarray(csr_array(rows.mean(axis=0).reshape(1, -1)) @ draws.T).ravel()
    step = max(1, _CHUNK_VALUES // len(draws))
    unit = _unit(fit, rows)
    pieces = [_share_above(np.asarray(rows[at : at + step] @ draws.T) - average, unit) for at in range(0, rows.shape[0], step)]
    return np.concatenate(pieces)


def _share_above(difference: Floats, unit: float) -> Floats:
    share = (difference > 0).mean(axis=1)
    return np.where(np.abs(difference).max(axis=1) > 1e-12 * unit, share, np.nan)


def _above(difference: Floats, std_error: Floats, unit: float) -> Floats:
    # A difference of rounding errors over a standard error of rounding errors says nothing.
    possible = std_error > 1e-10 * unit
    return np.where(possible, ndtr(difference / np.where(possible, std_error, 1.0)), np.nan)


def ranks_of_many(estimates: Floats, sd: Floats, interval: float, seed: int) -> tuple[Floats, Floats]:
    """Intervals of ranks where each level's own interval is placed in the distribution of all levels."""
    rng = np.random.default_rng(seed)
    pool = np.sort((estimates + sd * rng.standard_normal((_POOLED_DRAWS, len(estimates)))).ravel())
    reach = ndtri(0.5 + interval / 2.0) * sd
    n = len(estimates)
    lower = 1.0 + (n - 1) * (1.0 - np.searchsorted(pool, estimates + reach, side="right") / len(pool))
    upper = 1.0 + (n - 1) * (1.0 - np.searchsorted(pool, estimates - reach, side="left") / len(pool))
    return np.floor(lower), np.ceil(upper)


def _n_draws(fit: Fit) -> int:
    return len(fit.covariance_draws[0]) if fit.covariance_draws else 4_000
