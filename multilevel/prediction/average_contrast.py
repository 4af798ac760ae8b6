"""Differences of published averages: each that of the table's two estimates, with the error that their joint distribution gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import ndtr, ndtri

from multilevel.arrays import Floats
from multilevel.fit.interval_estimates import ONE, SMALLEST, Moments
from multilevel.prediction.saved_averages import SavedAverages

DRAWS = 20_000
"""Draws of several levels at once, for simultaneous intervals and choices."""


@dataclass(frozen=True)
class AverageContrast:
    """``level_a`` minus ``level_b`` on the scale of the outcome.

    probability : P(a > b), None where both are the same for certain. ratio : a / b with its bounds, where the outcome is positive.
    ``lower`` and ``upper`` hold for all differences that were asked for at once where ``is_simultaneous``.
    """

    grouping_factor: str
    level_a: str
    level_b: str
    difference: float
    std_error: float
    lower: float
    upper: float
    probability: float | None
    ratio: tuple[float, float, float] | None
    is_simultaneous: bool = False


@dataclass(frozen=True)
class Choice:
    """One of the levels asked for: P(it is the highest of them), and the loss expected of choosing it, in units of the outcome."""

    level: str
    estimate: float
    probability_best: float
    expected_loss: float


def average_contrasts(kept: SavedAverages, places: Sequence[int], names: Sequence[str]) -> list[AverageContrast]:
    """Every pair of the levels at ``places``, named ``names``; with more than one pair the intervals are simultaneous.

    Simultaneous intervals are those of the largest |t| among the pairs (Westfall and Young 1993).
    """
    pairs = list(combinations(range(len(places)), 2))
    joint = _draws(kept, places) if len(pairs) > 1 else None
    found = [_contrast(kept, (places[a], places[b]), (names[a], names[b])) for a, b in pairs]
    if joint is None:
        return found
    errors = np.array([each.std_error for each in found])
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.abs(np.array([joint[a] - joint[b] for a, b in pairs])) / errors[:, None]
    reach = float(np.quantile(np.nanmax(np.where(errors[:, None] > 0, t, np.nan), axis=0), kept.interval)) if (errors > 0).any() else 0.0
    return [_widened(each, reach) for each in found]


def choices(kept: SavedAverages, places: Sequence[int], names: Sequence[str]) -> list[Choice]:
    """Of the levels at ``places``: which is the highest, and what choosing another costs, over their joint distribution."""
    estimate = kept.estimate[list(places)]
    values = estimate[:, None] + _draws(kept, places)
    best = values.max(axis=0)
    shares = np.bincount(values.argmax(axis=0), minlength=len(places)) / values.shape[1]
    losses = (best - values).mean(axis=1)
    return [Choice(*each) for each in zip(names, map(float, estimate), map(float, shares), map(float, losses), strict=True)]


def _contrast(kept: SavedAverages, places: tuple[int, int], names: tuple[str, str]) -> AverageContrast:
    a, b = places
    difference = float(kept.estimate[a] - kept.estimate[b])
    spread = kept.spread[a].astype(np.float64) - kept.spread[b].astype(np.float64)
    own = float(np.hypot(kept.own[a], kept.own[b]))
    std_error = float(np.hypot(np.sqrt(spread @ spread / (len(spread) - 1)), own))
    tail = (1.0 - kept.interval) / 2.0
    z = float(ndtri(1.0 - tail))
    if kept.has_draws and std_error > 0:
        draws = difference + spread + own * np.random.default_rng(0).standard_normal(len(spread))
        lower, upper = (float(bound) for bound in np.quantile(draws, [tail, 1.0 - tail]))
        above: float | None = float(np.mean(draws > 0))
        if kept.is_median:
            std_error = (upper - lower) / (2.0 * z)
    else:
        found = _deviation(kept, places, np.array([1.0, -1.0]), std_error)
        lower, upper = _bounds(found, difference, kept.interval)
        above = _probability(found, difference) if std_error > 0 else None
    return AverageContrast(kept.factor, *names, difference, std_error, lower, upper, above, _ratio(kept, a, b))


def _deviation(kept: SavedAverages, places: tuple[int, int], factors: Floats, std_error: float) -> Moments:
    """Distribution of ``factors`` (2,) times two averages about the same of their estimates: normal, or a mixture over points of theta."""
    if kept.at_points is None:
        return Moments(np.zeros((1, 1)), np.full((1, 1), std_error**2), ONE)
    own = float(np.linalg.norm(factors * kept.own[list(places)]))
    return kept.at_points.at(places).combined(factors, own)


def _bounds(found: Moments, estimate: float, interval: float) -> tuple[float, float]:
    """Equal-tailed, the estimate between them."""
    lower, upper = (float(bound[0]) for bound in found.bounds(interval))
    return estimate + min(lower, 0.0), estimate + max(upper, 0.0)


def _probability(found: Moments, difference: float) -> float:
    """That the difference is above zero."""
    return float(ndtr((difference + found.mean) / np.maximum(np.sqrt(found.variance), SMALLEST))[0] @ found.weights)


def _ratio(kept: SavedAverages, a: int, b: int) -> tuple[float, float, float] | None:
    """a / b with bounds from the difference of logarithms, by the delta method."""
    if not (kept.is_positive and kept.estimate[a] > 0 and kept.estimate[b] > 0):
        return None
    spread = kept.spread[a].astype(np.float64) / kept.estimate[a] - kept.spread[b].astype(np.float64) / kept.estimate[b]
    own = np.hypot(kept.own[a] / kept.estimate[a], kept.own[b] / kept.estimate[b])
    if kept.is_median:
        return _ratio_of_draws(kept, a, b, float(own))
    error = float(np.hypot(np.sqrt(spread @ spread / (len(spread) - 1)), own))
    ratio = float(kept.estimate[a] / kept.estimate[b])
    found = _deviation(kept, (a, b), np.array([1.0 / kept.estimate[a], -1.0 / kept.estimate[b]]), error)
    lower, upper = _bounds(found, 0.0, kept.interval)
    return ratio, ratio * float(np.exp(lower)), ratio * float(np.exp(upper))


def _ratio_of_draws(kept: SavedAverages, a: int, b: int, own: float) -> tuple[float, float, float]:
    """a / b of the estimates with equal-tailed bounds from its draws; ``own``: sd of its logarithm beyond them."""
    drawn = [np.log(np.maximum(kept.estimate[place] + kept.spread[place], np.finfo(float).tiny)) for place in (a, b)]
    logs = drawn[0] - drawn[1] + own * np.random.default_rng(0).standard_normal(len(drawn[0]))
    tail = (1.0 - kept.interval) / 2.0
    lower, upper = np.exp(np.quantile(logs, [tail, 1.0 - tail]))
    return float(kept.estimate[a] / kept.estimate[b]), float(lower), float(upper)


def _widened(each: AverageContrast, reach: float) -> AverageContrast:
    half = reach * each.std_error
    return AverageContrast(
        each.grouping_factor,
        each.level_a,
        each.level_b,
        each.difference,
        each.std_error,
        each.difference - half,
        each.difference + half,
        each.probability,
        each.ratio,
        is_simultaneous=True,
    )


def _draws(kept: SavedAverages, places: Sequence[int]) -> Floats:
    """(levels, draws) joint deviations of the averages from their estimates."""
    spread, rng = kept.spread[list(places)].astype(np.float64), np.random.default_rng(0)
    if kept.at_points is not None:
        together = kept.at_points.at(places).draws(DRAWS, rng)
        return together + kept.own[list(places), None] * rng.standard_normal(together.shape)
    together = spread if kept.has_draws else spread @ rng.standard_normal((spread.shape[1], DRAWS)) / np.sqrt(spread.shape[1] - 1)
    return together + kept.own[list(places), None] * rng.standard_normal(together.shape)
