"""Probability of lying above the factor's average, and intervals of ranks, from the joint distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri

from multilevel.arrays import Floats
from multilevel.estimands.expected_outcome import ExpectedOutcome, PartRows
from multilevel.fit.container import Fit
from multilevel.fit.interval_estimates import covariance_about, spread_about
from multilevel.fit.shared_rows import Rows, as_csr, joined, largest_entry, mapped, mean_row

EXACT_LEVELS = 10_000
"""Above so many levels the normal approximation takes each level as independent given the common coefficients."""

RANK_DRAWS = 1_000
_POOLED_DRAWS = 8
_CHUNK_VALUES = 8_000_000
_MOST_VALUES = 20_000_000
MOST_JOINT = 2_000
"""Levels up to which their joint covariance is held where draws of all coefficients would be too many."""

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
    values, unit = np.asarray(rows @ fit.joint.mean), unit_of_rows(fit, rows)
    if rows.shape[0] <= EXACT_LEVELS:
        independent_sd = spread_about(fit, rows, mean_row(rows))
    return above(values - values.mean(), independent_sd, unit)


def unit_of_rows(fit: Fit, rows: Rows) -> float:
    """The scale of ``rows @ (beta, b)``, beside which a spread is rounding."""
    unit_free = rows if fit.unit_free is None else mapped(rows, fit.unit_free.form.maps.matrix)
    return largest_entry(unit_free) * (fit.sigma or 1.0)


def has_joint_draws(outcome: ExpectedOutcome, n_levels: int) -> bool:
    """Whether levels are compared over joint draws; else each by what varies given what is common to all levels."""
    if n_levels > EXACT_LEVELS:
        return False
    return outcome.has_draws or not _are_too_many(outcome) or n_levels <= MOST_JOINT


def joint_noise(outcome: ExpectedOutcome, differentiate: Callable[[], Iterator[PartRows]], seed: int) -> Floats:
    """(L, draws) joint deviations of linearised estimates from themselves, less much of what all levels share.

    ``differentiate`` gives, for consecutive levels, per part derivatives (l, p + q) of the estimates at the joint mean.
    """
    fits = [part.fit for part in outcome.parts]
    if not outcome.has_draws and _are_too_many(outcome):
        # at most MOST_JOINT levels; the parts share no parameter: what they bring to a level adds up
        whole = [joined(pieces) for pieces in zip(*differentiate(), strict=True)]
        parts = [covariance_about(fit, rows, mean_row(rows)) for fit, rows in zip(fits, whole, strict=True)]
        return _normal_draws(np.sum(parts, axis=0), seed)
    shared = _shared(differentiate())
    noise = [draws - fit.joint.mean for fit, draws in zip(fits, outcome.draws(RANK_DRAWS, seed), strict=True)]
    pieces = [
        np.sum([_less(as_csr(rows), *own) @ draws.T for rows, own, draws in zip(parts, shared, noise, strict=True)], axis=0)
        for parts in differentiate()
    ]
    found = np.concatenate(pieces)
    return np.asarray(found - found.mean(axis=0))


def _are_too_many(outcome: ExpectedOutcome) -> bool:
    """Whether draws of all coefficients would be."""
    return max(len(part.fit.joint.mean) for part in outcome.parts) * RANK_DRAWS > _MOST_VALUES


def _shared(chunks: Iterator[PartRows]) -> list[tuple[Floats, Floats]]:
    """Per part (p + q,) what every level has of each column, and the column's largest size."""
    bounds: list[tuple[Floats, Floats]] = []
    for parts in (tuple(as_csr(part) for part in chunk) for chunk in chunks):
        own = [(np.asarray(rows.min(axis=0).todense()).ravel(), np.asarray(rows.max(axis=0).todense()).ravel()) for rows in parts]
        pairs = zip(bounds or own, own, strict=True)
        bounds = [(np.minimum(low, least), np.maximum(high, most)) for (low, high), (least, most) in pairs]
    return [(np.maximum(low, 0.0) + np.minimum(high, 0.0), np.maximum(np.abs(low), np.abs(high))) for low, high in bounds]


def _less(rows: csr_array, shared: Floats, largest: Floats) -> csr_array:
    """Rows less what all levels share: ranks do not change when the same is taken from every level, and where much is shared its noise
    would cost digits. No entry is added: a column that is shared in part has an entry in every row."""
    data = rows.data - shared[rows.indices]
    data[np.abs(data) < _ROUNDING * largest[rows.indices]] = 0.0
    return csr_array((data, rows.indices, rows.indptr), shape=rows.shape)


def ranks_of_draws(estimates: Floats, noise: Floats, interval: float, seed: int) -> tuple[Floats, Floats]:
    """Equal-tailed intervals of the ranks of ``estimates`` (L,) + ``noise`` (L, draws), 1 the highest."""
    # Levels that cannot be told apart (tau = 0) are tied up to rounding, and the tie is broken anew in every draw.
    rounding = 8.0 * np.finfo(float).eps * float(np.abs(estimates).max())
    size = max(_TIE * float(np.ptp(estimates) + np.abs(noise).max(initial=0.0)), rounding)
    rng = np.random.default_rng(seed)
    ranks = np.empty(noise.shape, dtype=np.int32)
    step = max(1, _CHUNK_VALUES // len(estimates))
    for at in range(0, noise.shape[1], step):
        own = noise[:, at : at + step]
        draws = estimates[:, None] + own + size * rng.standard_normal(own.shape)
        ranks[:, at : at + step] = 1 + (-draws).argsort(axis=0).argsort(axis=0)
    tail = (1.0 - interval) / 2.0
    lower, upper = np.quantile(ranks, [tail, 1.0 - tail], axis=1, method="closest_observation")
    return lower.astype(float), upper.astype(float)


def _normal_draws(covariance: Floats, seed: int) -> Floats:
    """(L, draws) of N(0, covariance), singular or not."""
    # pivoted (Higham 2002, section 10.3): what is left beyond the rank is rounding
    root, order, rank, _ = lapack.dpstrf(covariance, lower=1)
    noise = np.random.default_rng(seed).standard_normal((rank, RANK_DRAWS))
    drawn = np.empty((len(covariance), RANK_DRAWS))
    drawn[order - 1] = np.tril(root)[:, :rank] @ noise
    return drawn


def _from_draws(fit: Fit, rows: csr_array) -> Floats:
    draws = fit.joint.draws(4_000, 0) if fit.covariance_draws is None else fit.joint.draws(_n_draws(fit), 0)
    average = np.asarray(csr_array(rows.mean(axis=0).reshape(1, -1)) @ draws.T).ravel()
    step = max(1, _CHUNK_VALUES // len(draws))
    unit = unit_of_rows(fit, rows)
    pieces = [_share_above(np.asarray(rows[at : at + step] @ draws.T) - average, unit) for at in range(0, rows.shape[0], step)]
    return np.concatenate(pieces)


def _share_above(difference: Floats, unit: float) -> Floats:
    share = (difference > 0).mean(axis=1)
    return np.where(np.abs(difference).max(axis=1) > 1e-12 * unit, share, np.nan)


def above(difference: Floats, std_error: Floats, unit: float) -> Floats:
    """P(> 0) of normals with the means ``difference`` (L,); NaN where ``std_error`` is rounding beside ``unit``."""
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
