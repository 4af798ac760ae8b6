"""Averages draw by draw: each posterior draw of the coefficients beside its own variances of effects that are not known.

For draw s the expected outcome of a new member is E h(eta_s + u), u ~ N(0, z'Sigma_s z): exp(eta_s + z'Sigma_s z / 2) under a log link, and
under a logit link expit(eta_s / sqrt(1 + c^2 z'Sigma_s z)) (Demidenko 2013, section 7.1.2), as where there are no draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.estimands.binning import attenuation
from multilevel.estimands.expected_outcome import PartFit, integrated
from multilevel.estimands.mix_parts import scales
from multilevel.estimands.standardise import BinPairs, Standardisation
from multilevel.fit.container import Summary
from multilevel.fit.joint_draws import FEWEST_DRAWS, evenly_spaced, summarise, summarise_by_median

VALUES_AT_ONCE = 4_000_000
"""Doubles of one part's linear predictor held at once."""

MOST_EVALUATIONS = 200_000_000
"""Evaluations of each inverse link for one chunk of levels before draws are thinned."""

type _Unknown = tuple[int, Floats, Floats]
"""A block, the share (1 or m, 1) of each row for which its effects are not known, and what multiplies them there (m, k)."""


def respond(standard: Standardisation) -> Summary:
    """(L,) averages with their intervals, as ``Standardisation.respond``; a posterior's own variances are integrated draw by draw.

    Under a log link (``log y`` included) the mean over such draws need not exist: the estimate is their median, the interval equal-tailed
    and ``std_error`` (upper - lower) / (2 z).
    """
    outcome = standard.outcome
    if not integrates_draws(standard):
        return standard.respond()
    told = summarise_by_median if is_median(standard) else summarise
    size = max(FEWEST_DRAWS, MOST_EVALUATIONS // max(1, standard.most_rows))
    return Summary.joined([told(values, outcome.interval) for values in averages_of_draws(standard, size)])


def integrates_draws(standard: Standardisation) -> bool:
    """Whether each draw integrates a variance of its own: effects of new members, over a posterior, under a curved link."""
    return standard.outcome.has_draws and bool(standard.integrated) and not standard.outcome.is_linear


def is_median(standard: Standardisation) -> bool:
    """Whether the averages of ``respond`` are medians of draws, whose mean need not exist."""
    return integrates_draws(standard) and any(part.response.is_multiplicative for part in standard.outcome.parts)


def averages_of_draws(standard: Standardisation, size: int) -> Iterator[Floats]:
    """Averages of consecutive levels in every draw, each piece (levels, S).

    Parameters
    ----------
    standard : of an outcome with draws. size : S is at most that, and at most what each part has; draws are evenly spaced.
    """
    outcome = standard.outcome
    kept = [len(part.fit.covariance_draws[0]) for part in outcome.parts if part.fit.covariance_draws is not None]
    drawn = outcome.draws(min([size, *kept]), 0)
    n_draws = len(drawn[0])
    for pairs in standard.pairs():
        values = np.empty((pairs.weights.shape[0], n_draws))
        step = max(1, VALUES_AT_ONCE // max(1, pairs.rows.shape[0]))
        if standard.integrated:
            rows, weights = tuple(part.own(pairs.rows) for part in outcome.parts), pairs.weights
        else:
            rows, weights = integrated(outcome.parts, pairs.rows, pairs.weights, pairs.spread, standard.unseen(pairs.averages))
        unknown = _unknown_effects(standard, pairs) if standard.integrated else []
        for at in range(0, n_draws, step):
            here = np.arange(at, min(at + step, n_draws))
            predictors = [np.asarray(own @ draws[here].T) for own, draws in zip(rows, drawn, strict=True)]
            if unknown:
                predictors = [
                    _moved(part, predictor, unknown, pairs.spread, _places(part, n_draws)[here])
                    for part, predictor in zip(outcome.parts, predictors, strict=True)
                ]
            values[:, here] = weights @ outcome.expected(predictors)
        yield values


def level_draws(standard: Standardisation, size: int) -> Floats:
    """(L, S) averages of all levels in at most ``size`` draws."""
    return np.concatenate(list(averages_of_draws(standard, size)))


def _unknown_effects(standard: Standardisation, pairs: BinPairs) -> list[_Unknown]:
    shares = standard.unseen_shares(pairs.averages)
    return [(block, np.reshape(share, (-1, 1)), scales(standard.sides, pairs.averages, block)) for block, share in shares.items()]


def _places(part: PartFit, n_draws: int) -> Integers:
    """Which of the part's draws of the covariances stand beside ``n_draws`` evenly spaced ones of its coefficients."""
    assert part.fit.covariance_draws is not None
    return evenly_spaced(len(part.fit.covariance_draws[0]), n_draws)


def _moved(part: PartFit, predictor: Floats, unknown: Sequence[_Unknown], spread: Floats, places: Integers) -> Floats:
    """The linear predictor (m, s) at which the inverse link is the expectation over effects that are not known."""
    if part.response.is_linear:
        return predictor
    variance = np.zeros_like(predictor)
    for block, share, z in unknown:
        variance += share * part.fit.drawn_effect_variance(block, z, places)
    if part.response.is_multiplicative:
        return predictor + variance / 2.0
    return predictor * attenuation(spread[:, None] + variance)
