"""The difference of two levels, from the saved joint distribution: their common part cancels, as it does not in two intervals."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from multilevel.errors import StudyError
from multilevel.estimands.response import response_for
from multilevel.families.link import within_range
from multilevel.prediction.saved_model import SavedFactor, SavedModel

SHOWN = 5
"""Levels that a message lists."""


@dataclass(frozen=True)
class LevelContrast:
    """``level_a`` minus ``level_b`` of one term's coefficient, on the link scale.

    ``probability_greater`` is P(a > b), None where both are the same for certain. ``ratio`` and its bounds: exp of the difference, for an
    intercept under a log link (a ratio of means) or a logit link (an odds ratio); else None. Under ``log(y)`` it is a ratio of medians.
    """

    part: str | None
    grouping_factor: str
    term: str
    level_a: str
    level_b: str
    estimate: float
    std_error: float
    lower: float
    upper: float
    probability_greater: float | None
    ratio: tuple[float, float, float] | None


def level_contrasts(kept: SavedModel, level_a: str, level_b: str, factor: str | None = None) -> tuple[LevelContrast, ...]:
    """The difference of two levels for every term that varies by their factor; ancestors and group-level predictors included.

    Parameters
    ----------
    level_a, level_b : labels; of a nested factor written ``parent:level`` where the label alone is not unique.
    factor : None: the one factor that has both levels.

    Raises
    ------
    StudyError
        No factor, or more than one, has both levels; or one of them lies under several parents.
    """
    found, (first, second) = find_levels(kept.factors, (level_a, level_b), factor)
    return tuple(
        _contrast(kept, term, found.name, (first, second), (level_a, level_b)) for name, term in kept.contrasts if name == found.name
    )


def _contrast(kept: SavedModel, term: str, factor: str, places: tuple[int, int], levels: tuple[str, str]) -> LevelContrast:
    rows = kept.contrasts[(factor, term)]
    difference = rows[[places[0]]] - rows[[places[1]]]
    estimate, std_error = float((difference @ kept.mean)[0]), float(kept.std_error(difference)[0])
    tail = (1.0 - kept.interval) / 2.0
    if kept.has_draws:
        draws = estimate + kept.spread(difference)[0]
        lower, upper = (float(bound) for bound in np.quantile(draws, [tail, 1.0 - tail]))
        above = float(np.mean(draws > 0)) if std_error > 0 else None
    else:
        lower, upper = (float(bound[0]) for bound in kept.conditional(difference).bounds(kept.interval))
        above = float(ndtr(estimate / std_error)) if std_error > 0 else None
    is_ratio = term == "Intercept" and not response_for(kept.family, kept.log_outcome).is_linear
    ratio = None
    if is_ratio:
        at_estimate, at_lower, at_upper = np.exp(within_range(np.array([estimate, lower, upper]))).tolist()
        ratio = (at_estimate, at_lower, at_upper)
    return LevelContrast(kept.part, factor, term, levels[0], levels[1], estimate, std_error, lower, upper, above, ratio)


def find_levels(factors: Mapping[str, SavedFactor], levels: Sequence[str], name: str | None) -> tuple[SavedFactor, list[int]]:
    """The one factor that has all ``levels``, or factor ``name``, and where they are; raises StudyError as ``level_contrasts`` does."""
    found = _factor(factors, levels, name)
    return found, [_place(found, level) for level in levels]


def _factor(factors: Mapping[str, SavedFactor], levels: Sequence[str], name: str | None) -> SavedFactor:
    if name is not None:
        if name not in factors:
            raise StudyError(f"--factor {name}: the study's grouping factors are {', '.join(factors)}.")
        return factors[name]
    every = [factor for factor in factors.values() if all(_matches(factor, level) for level in levels)]
    if len(every) == 1:
        return every[0]
    named = " and ".join(map(repr, levels))
    if every:
        raise StudyError(f"{named} are levels of {', '.join(each.name for each in every)}: choose one with --factor.")
    missing = [level for level in levels if not any(_matches(factor, level) for factor in factors.values())]
    if not missing:
        raise StudyError(f"{named} are levels of different factors; only levels of one factor have a difference.")
    raise StudyError(f"No grouping factor has the level {missing[0]!r}; {_offer(list(factors.values()), missing[0])}")


def _offer(factors: Sequence[SavedFactor], level: str) -> str:
    """Levels that look like the one asked for, or the first of each factor."""
    known = list(dict.fromkeys(label for factor in factors for label in factor.levels))
    inside = [label for label in known if level.casefold() in label.casefold()]
    close = (inside or difflib.get_close_matches(level, known, SHOWN))[:SHOWN]
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return "the first are: " + "; ".join(f"{factor.name}: {', '.join(factor.levels[:SHOWN])}" for factor in factors) + "."


def _matches(factor: SavedFactor, level: str) -> list[int]:
    own = [place for place, label in enumerate(factor.levels) if label == level]
    if own or factor.parents is None:
        return own
    return [place for place, (parent, label) in enumerate(zip(factor.parents, factor.levels, strict=True)) if f"{parent}:{label}" == level]


def named_places(name: str, levels: Sequence[str], parents: Sequence[str] | None, labels: Sequence[str]) -> list[int]:
    """Where each of ``labels`` is among the ``levels`` of factor ``name``; raises StudyError as ``level_contrasts`` does."""
    factor = SavedFactor(name, (), (), tuple(levels), None if parents is None else tuple(parents))
    return [_place(factor, label) for label in labels]


def _place(factor: SavedFactor, level: str) -> int:
    match = _matches(factor, level)
    if not match:
        raise StudyError(f"{factor.name} has no level {level!r}; {_offer([factor], level)}.")
    if len(match) > 1 and factor.parents is not None:
        shown = ", ".join(f"{factor.parents[place]}:{level}" for place in match[:SHOWN])
        raise StudyError(f"The level {level!r} of {factor.name} lies under several parents; write one of: {shown}.")
    return match[0]
