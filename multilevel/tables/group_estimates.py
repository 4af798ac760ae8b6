"""``group_estimates``: the expected outcome of every level, standardised to the common mix, beside no and complete pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from multilevel.arrays import Floats
from multilevel.catalogue.table_assembly import Heading, Values, published_table, stack
from multilevel.cells.unit_sums import UnitSums
from multilevel.design.effect_rows import terms_of
from multilevel.design.model import Factor
from multilevel.design.nesting import Nesting
from multilevel.estimands.expected_outcome import ExpectedOutcome
from multilevel.estimands.level_comparison import compare_levels
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.log_means import variance_error, with_variance_error
from multilevel.estimands.new_groups import new_group_estimates
from multilevel.estimands.new_levels import NewLevel, new_levels
from multilevel.estimands.plain_means import plain_means
from multilevel.estimands.standardise import Standardisation, standardise
from multilevel.estimands.unpooled import complete_pooling, no_pooling
from multilevel.fit.container import Fit, Summary
from multilevel.fit.interval_estimates import variance_uncertainty
from multilevel.fit.one_pass import together
from multilevel.fit.theta_points import ThetaPoints
from multilevel.pooling.free_intercepts import FreeIntercepts
from multilevel.tables.group_coefficients import conditional_sd, level_counts
from multilevel.tables.group_rows import new_rows, seen_rows
from multilevel.tables.population_rows import population_columns, population_of_levels
from multilevel.threads import PIECES


def group_estimates(
    outcome: ExpectedOutcome,
    nesting: Nesting,
    heading: Heading,
    *,
    complete: Sequence[Fit] | None = None,
    free: Mapping[str, Sequence[Callable[[], FreeIntercepts]]] | None = None,
    variance: LevelVariance | None = None,
    named: Sequence[NewLevel] = (),
    sampled: Sequence[str] = (),
    units: Sequence[UnitSums] = (),
    seed: int = 0,
) -> pa.Table:
    """The whole table.

    Parameters
    ----------
    outcome : of one response, or of the product of two. complete : the fits without group terms, one a part. free : per factor what
        makes the fits with its intercepts free, one a part; they are let go with the factor's rows.
    variance : the log-variances of a ``log y`` outcome. named : the levels of ``predict_for``. sampled : columns
        whose levels are a sample: levels of the factors above them speak of new members too, and are ranked by that. units : sums
        of those that the formula leaves out, for errors of plain means.
    """

    def of_factor(name: str, factor: Factor) -> list[dict[str, Values]]:
        standard = standardise(outcome, nesting, name, variance)
        n = level_counts(outcome.design, nesting, name)
        pooled = complete_pooling(standard, complete)
        summary = with_variance_error(standard.respond(), standard, variance, nesting, name)
        freed = None if free is None or name not in free else [make() for make in free[name]]
        unpooled = None if freed is None else no_pooling(standard, freed, nesting, name, variance)
        of_new = population_of_levels(outcome, nesting, name, variance, sampled, freed)
        del freed
        ranked, told = (standard, summary) if of_new is None else (of_new.standard, of_new.summary)
        error = variance_error(ranked, variance, nesting, name)
        compared = compare_levels(ranked, told, error, partial(_spread, ranked, nesting, name, told, error), factor.parents, seed)
        observed = plain_means(outcome.design, factor, sampled, units)
        rows = seen_rows(name, factor, n, summary, observed=observed, unpooled=unpooled, complete=pooled, compared=compared)
        new = new_levels(nesting, name, named)
        of_none = new_rows(name, factor, n, new, new_group_estimates(standard, nesting, name, new, seed), pooled)
        return [rows | population_columns(of_new, factor.n_levels), of_none | population_columns(None, len(new))]

    are_points = any(isinstance(part.fit.theta, ThetaPoints) for part in outcome.parts)
    # between the passes over the points one factor has one thread; of other fits its rows are shared out already
    at_once = PIECES if are_points else 1
    found = together([partial(of_factor, name, factor) for name, factor in nesting.factors.items()], at_once)
    pieces = [piece for of_one in found for piece in of_one]
    return published_table(
        "group_estimates", heading, stack(pieces), variance_uncertainty=variance_uncertainty([part.fit for part in outcome.parts])
    )


def _spread(standard: Standardisation, nesting: Nesting, name: str, summary: Summary, error: Floats) -> Floats:
    """(L,) sd of each estimate given what is common to all levels, for ranks among very many; ``error`` (L,) as from ``variance_error``."""
    outcome, lineage = standard.outcome, nesting.lineage(name)
    first = next(iter(terms_of(outcome.design, name)))
    moved = outcome.sensitivities(summary.estimate, standard.chunks)
    errors = [conditional_sd(part.fit, lineage, first) * slope for part, slope in zip(outcome.parts, moved, strict=True)]
    alone = np.sqrt(np.sum(np.square([*errors, error * summary.estimate]), axis=0))
    return np.minimum(alone, summary.std_error)
