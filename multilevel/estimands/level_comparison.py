"""The levels of one factor beside each other: intervals of ranks, ranks within a parent, P(above the mean of all levels)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.estimands.drawn_averages import level_draws
from multilevel.estimands.expected_outcome import PartRows
from multilevel.estimands.probabilities import (
    EXACT_LEVELS,
    RANK_DRAWS,
    above,
    has_joint_draws,
    joint_noise,
    ranks_of_draws,
    ranks_of_many,
    unit_of_rows,
)
from multilevel.estimands.standardise import Standardisation
from multilevel.fit.container import Summary
from multilevel.fit.interval_estimates import spread_about
from multilevel.fit.shared_rows import mean_row
from multilevel.fit.theta_points import in_turn

FEW_SIBLINGS = 100
"""Siblings of one parent up to which ranks are those of draws where levels are too many for joint draws of all."""

FEW_DRAWS = 200

_VALUES_AT_ONCE = 4_000_000
_ROUNDING = 64.0 * np.finfo(float).eps


@dataclass(frozen=True)
class LevelComparison:
    """ranks : (L,), (L,) equal-tailed intervals of the rank, 1 the highest. above : (L,) P(above the unweighted mean of all levels), NaN
    where a level cannot differ from it. in_parent : rank among the levels of the same parent and its interval, None without parents."""

    ranks: tuple[Floats, Floats]
    above: Floats
    in_parent: tuple[Floats, Floats, Floats] | None


def compare_levels(
    standard: Standardisation, told: Summary, error: Floats, alone: Callable[[], Floats], parents: NDArray[np.object_] | None, seed: int
) -> LevelComparison:
    """Compare the averages ``told`` (L,) of ``standard``.

    Parameters
    ----------
    error : (L,) sd of what is unknown of each log mean beyond the coefficients, independent between levels; 0 without.
    alone : gives (L,) the sd of each average given what is common to all levels, for more than ``EXACT_LEVELS``, or for more coefficients
        than can be drawn. parents : (L,) the parent of each level.

    Returns
    -------
    LevelComparison
        Over posterior draws of the averages themselves where there are draws, else over the joint normal distribution, linear about the
        estimates.
    """
    outcome, n_levels = standard.outcome, len(told.estimate)
    siblings = None if parents is None else np.unique(np.asarray(parents).astype(str), return_inverse=True)[1]
    if not has_joint_draws(outcome, n_levels):
        sd = alone()
        ranks = ranks_of_many(told.estimate, sd, outcome.interval, seed)
        within = None if siblings is None else _ranks_within_many(told.estimate, sd, siblings, outcome.interval, seed)
        return LevelComparison(ranks, _above_of_many(standard, told, error, sd), _in_parent(told.estimate, siblings, within))
    rng = np.random.default_rng(seed)
    if outcome.has_draws:
        drawn = level_draws(standard, RANK_DRAWS)
        noise = drawn * np.exp(error[:, None] * rng.standard_normal(drawn.shape)) if error.any() else drawn
        noise -= told.estimate[:, None]
        chance = _share_above(told.estimate, noise)
    else:
        noise = joint_noise(outcome, standard.gradient_chunks, seed)
        if error.any():
            noise += (error * told.estimate)[:, None] * rng.standard_normal(noise.shape)
        chance = _normal_above(standard, told, error)
    ranks = ranks_of_draws(told.estimate, noise, outcome.interval, seed)
    within = None if siblings is None else _ranks_within(told.estimate, noise, siblings, outcome.interval, seed)
    return LevelComparison(ranks, chance, _in_parent(told.estimate, siblings, within))


def _share_above(estimate: Floats, noise: Floats) -> Floats:
    """(L,) share of draws in which a level's ``estimate + noise`` lies above the mean of all levels."""
    about = estimate - estimate.mean()
    difference = about[:, None] + noise - noise.mean(axis=0)
    possible = np.abs(difference).max(axis=1) > _ROUNDING * np.abs(estimate).max()
    return np.where(possible, (difference > 0.0).mean(axis=1), np.nan)


def _normal_above(standard: Standardisation, told: Summary, error: Floats) -> Floats:
    """(L,) from the normal joint distribution of a level's average and the mean of all: parts and sigmas are independent of each other."""
    fits = [part.fit for part in standard.outcome.parts]
    n_levels, units = len(told.estimate), [0.0]
    sums = [np.zeros((1, len(fit.joint.mean))) for fit in fits]
    for gradients in standard.gradient_chunks():
        for place, (fit, rows) in enumerate(zip(fits, gradients, strict=True)):
            sums[place] += rows.shape[0] * np.asarray(mean_row(rows).todense())
            units.append(unit_of_rows(fit, rows))
    centres = [csr_array(total / n_levels) for total in sums]

    def variances(gradients: PartRows) -> Floats:
        parts = [spread_about(fit, rows, centre) ** 2 for fit, rows, centre in zip(fits, gradients, centres, strict=True)]
        return np.asarray(np.sum(parts, axis=0))

    pieces = list(in_turn(variances, standard.gradient_chunks(), fits))
    own = (error * told.estimate) ** 2
    variance = np.concatenate(pieces) + own * (1.0 - 2.0 / n_levels) + own.sum() / n_levels**2
    return above(told.estimate - told.estimate.mean(), np.sqrt(variance), max(units))


def _above_of_many(standard: Standardisation, told: Summary, error: Floats, sd: Floats) -> Floats:
    """(L,) against the mean of so many levels that it is known; exact where only draws of the coefficients would be too many."""
    if len(told.estimate) <= EXACT_LEVELS:
        return _normal_above(standard, told, error)
    fits = [part.fit for part in standard.outcome.parts]
    unit = max(unit_of_rows(fit, rows) for fit, rows in zip(fits, next(standard.gradient_chunks()), strict=True))
    return above(told.estimate - told.estimate.mean(), sd, unit)


def _in_parent(estimate: Floats, siblings: Integers | None, within: tuple[Floats, Floats] | None) -> tuple[Floats, Floats, Floats] | None:
    """The rank of every level among its siblings beside its interval; equal estimates share the best rank."""
    if siblings is None or within is None:
        return None
    order = np.lexsort((-estimate, siblings))
    group, value = siblings[order], estimate[order]
    first = np.r_[True, group[1:] != group[:-1]]
    at = np.arange(len(order))
    start = np.maximum.accumulate(np.where(first, at, 0))
    leader = np.maximum.accumulate(np.where(first | np.r_[True, value[1:] != value[:-1]], at, 0))
    rank = np.empty(len(order))
    rank[order] = 1.0 + leader - start
    return rank, *within


def _ranks_within(estimate: Floats, noise: Floats, siblings: Integers, interval: float, seed: int) -> tuple[Floats, Floats]:
    lower, upper = np.empty(len(estimate)), np.empty(len(estimate))
    for own in _groups(siblings):
        lower[own], upper[own] = ranks_of_draws(estimate[own], noise[own], interval, seed)
    return lower, upper


def _ranks_within_many(estimate: Floats, sd: Floats, siblings: Integers, interval: float, seed: int) -> tuple[Floats, Floats]:
    """As ``_ranks_within`` where levels vary independently: many siblings as in ``ranks_of_many``, few by draws of their own."""
    lower, upper = np.ones(len(estimate)), np.ones(len(estimate))
    groups = _groups(siblings)
    for own in groups:
        if len(own) > FEW_SIBLINGS:
            lower[own], upper[own] = ranks_of_many(estimate[own], sd[own], interval, seed)
    rng, tail = np.random.default_rng(seed), (1.0 - interval) / 2.0
    for size in sorted({len(own) for own in groups if 1 < len(own) <= FEW_SIBLINGS}):
        same = np.array([own for own in groups if len(own) == size])
        step = max(1, _VALUES_AT_ONCE // (size * FEW_DRAWS))
        for at in range(0, len(same), step):
            own = same[at : at + step]
            drawn = estimate[own][:, :, None] + sd[own][:, :, None] * rng.standard_normal((*own.shape, FEW_DRAWS))
            ranks = 1 + (-drawn).argsort(axis=1).argsort(axis=1)
            bounds = np.quantile(ranks, [tail, 1.0 - tail], axis=2, method="closest_observation")
            lower[own], upper[own] = bounds[0], bounds[1]
    return lower, upper


def _groups(codes: Integers) -> list[Integers]:
    """Places of each code."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
