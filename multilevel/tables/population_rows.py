"""Columns of ``group_estimates`` that speak of new members of a level: the population that its members are a sample of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.catalogue.table_assembly import Values
from multilevel.design.nesting import Nesting
from multilevel.estimands.drawn_averages import respond
from multilevel.estimands.expected_outcome import ExpectedOutcome
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.log_means import with_variance_error
from multilevel.estimands.population import n_sampled, population, units_of
from multilevel.estimands.standardise import Standardisation
from multilevel.estimands.unpooled import free_outcome
from multilevel.fit.container import Summary
from multilevel.pooling.free_intercepts import FreeIntercepts

NUMBERS = (
    "population_estimate",
    "population_std_error",
    "population_lower",
    "population_upper",
    "population_no_pooling_estimate",
    "population_no_pooling_std_error",
)


@dataclass(frozen=True)
class PopulationOfLevels:
    """Estimates (L,) of a new member of each level, what averages them, the same without pooling, and how many members there are."""

    standard: Standardisation
    summary: Summary
    unpooled: tuple[Floats, Floats] | None
    n_sampled: Integers


def population_of_levels(
    outcome: ExpectedOutcome,
    nesting: Nesting,
    name: str,
    variance: LevelVariance | None,
    sampled: Sequence[str],
    free: Sequence[FreeIntercepts] | None,
) -> PopulationOfLevels | None:
    """Of factor ``name``; None where no sampled column lies inside it. ``free``: its intercepts free, one fit a part."""
    units = units_of(nesting, name, sampled)
    if units is None:
        return None
    standard = population(outcome, nesting, name, variance, sampled, units)
    summary = with_variance_error(respond(standard), standard, variance, nesting, name)
    unpooled = None
    if free is not None:
        found = population(free_outcome(outcome, free), nesting, name, variance, sampled, units).respond()
        usable = np.isfinite(found.estimate) & np.isfinite(found.std_error)
        for own in free:
            usable &= own.determined
        unpooled = np.where(usable, found.estimate, np.nan), np.where(usable, found.std_error, np.nan)
    return PopulationOfLevels(standard, summary, unpooled, n_sampled(nesting, name, units))


def population_columns(found: PopulationOfLevels | None, n_levels: int) -> dict[str, Values]:
    """The columns; null, with the members as they are for the headline, where there is no population to speak of."""
    members = np.full(n_levels, "members" if found is None else "population", dtype=object)
    if found is None:
        return {**dict.fromkeys(NUMBERS), "headline": members, "n_sampled": None}
    summary, unpooled = found.summary, (None, None) if found.unpooled is None else found.unpooled
    numbers = (summary.estimate, summary.std_error, summary.lower, summary.upper, *unpooled)
    return {**dict(zip(NUMBERS, numbers, strict=True)), "headline": members, "n_sampled": found.n_sampled}
