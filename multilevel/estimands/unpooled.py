"""What no pooling and complete pooling say about the levels of one factor, averaged over the same mix as partial pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.design.model import DesignColumn, GroupBlock
from multilevel.design.nesting import Nesting
from multilevel.estimands.expected_outcome import ExpectedOutcome, PartFit
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.mix_parts import Sides
from multilevel.estimands.standardise import Standardisation, population_averages, standardise
from multilevel.fit.container import Fit
from multilevel.pooling.free_intercepts import FreeIntercepts


def complete_pooling(standard: Standardisation, fits: Sequence[Fit] | None) -> Floats:
    """(L,) the averages of the fits without any group terms, one a part, and for ``log y`` their own sigma.

    NaN throughout where there are none, or where one has a column that partial pooling does not have.
    """
    outcome = standard.outcome
    splits = dict(zip((column.label for column in outcome.design.population), standard.sides.population, strict=True))
    if fits is None or any(column.label not in splits for fit in fits for column in fit.design.population):
        return np.full(standard.n_levels, np.nan)
    pooled = _under(outcome, fits, ())
    sides = Sides(pooled.design, tuple(splits[column.label] for column in pooled.design.population), (), (), 1)
    found = population_averages(pooled, sides, _levels(standard)).respond().estimate
    last = fits[-1]
    return found * np.exp(last.sigma**2 / 2.0) if last.design.cells.log_outcome and last.sigma is not None else found


def no_pooling(
    standard: Standardisation, free: Sequence[FreeIntercepts], nesting: Nesting, name: str, variance: LevelVariance | None
) -> tuple[Floats, Floats]:
    """(L,) averages and their standard errors with the intercepts of factor ``name`` free in every part, over the mix of ``standard``.

    NaN where a level's intercept is not determined in some part: no rows, or outcomes all alike. Under ``log y`` the log-variances are
    those of partial pooling.
    """
    freed = free_outcome(standard.outcome, free)
    with np.errstate(over="ignore", invalid="ignore"):
        under = standard.under(freed) if freed.is_linear else standardise(freed, nesting, name, variance)
        found = under.respond()
    usable = np.isfinite(found.estimate) & np.isfinite(found.std_error)
    for own in free:
        usable &= own.determined
    return np.where(usable, found.estimate, np.nan), np.where(usable, found.std_error, np.nan)


def free_outcome(outcome: ExpectedOutcome, free: Sequence[FreeIntercepts]) -> ExpectedOutcome:
    """The expected outcome with one factor's intercepts free in every part."""
    parts = [PartFit(own.fit, part.places) for own, part in zip(free, outcome.parts, strict=True)]
    return outcome.of(parts, outcome.design)


def _under(outcome: ExpectedOutcome, fits: Sequence[Fit], blocks: tuple[GroupBlock, ...]) -> ExpectedOutcome:
    """The outcome under other fits, one a part; the layout has every column that one of them has, and ``blocks``."""
    whole: dict[str, DesignColumn] = {column.label: column for column in outcome.design.population}
    used = dict.fromkeys(column.label for fit in fits for column in fit.design.population)
    layout = list(used)
    n_effects = sum(block.n_effects for block in blocks)
    everything = np.arange(len(layout) + n_effects)
    parts = []
    for fit in fits:
        places = np.array([*(layout.index(column.label) for column in fit.design.population), *everything[len(layout) :]], np.int64)
        parts.append(PartFit(fit, None if np.array_equal(places, everything) else places))
    return outcome.of(parts, replace(outcome.design, population=tuple(whole[label] for label in layout), blocks=blocks))


def _levels(standard: Standardisation) -> Integers:
    """(C,) the level of each cell."""
    return standard.own.level[standard.own.codes]
