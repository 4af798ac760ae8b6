"""``cell_estimates``: the expected outcome of every combination of the study's two groups, those never seen included."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from multilevel.catalogue.published_tables import arrow_schema
from multilevel.catalogue.table_assembly import Heading, Values, published_table
from multilevel.design.nesting import Nesting
from multilevel.estimands.cell_pairs import cell_pair
from multilevel.estimands.combinations import Combinations, combination_chunks, combine, effect_variance, log_mean_error, unseen_chunks
from multilevel.estimands.expected_outcome import ExpectedOutcome
from multilevel.estimands.level_variance import LevelVariance, widened
from multilevel.fit.container import Summary
from multilevel.fit.interval_estimates import variance_uncertainty
from multilevel.fit.theta_points import in_turn


def cell_estimates(
    outcome: ExpectedOutcome,
    nesting: Nesting,
    heading: Heading,
    columns: tuple[str, str] | None,
    variance: LevelVariance | None = None,
    seed: int = 0,
) -> pa.Table:
    """The whole table, empty where the study names no pair. ``variance``: the log-variances of a ``log y`` outcome."""
    if columns is None:
        return arrow_schema("cell_estimates").empty_table()
    work = combine(outcome, nesting, cell_pair(outcome.design, nesting, columns), variance)
    fits = [part.fit for part in outcome.parts]
    summary = Summary.joined(list(in_turn(lambda chunk: outcome.average(*chunk), combination_chunks(work), fits)))
    error = np.zeros(len(work.n)) if variance is None else log_mean_error(work, nesting, variance)
    if variance is not None:
        summary = widened(summary, error, outcome.interval)
    unseen = np.flatnonzero(work.n == 0)
    if work.pair.joint and len(unseen):
        variances = [effect_variance(work, part.fit) for part in outcome.parts]
        found = outcome.unseen_pairs(summary.at(unseen), lambda: unseen_chunks(work, unseen), variances, error[unseen], seed)
        summary = summary.replaced(unseen, found)
    return _table(work, heading, summary)


def _table(work: Combinations, heading: Heading, summary: Summary) -> pa.Table:
    """``cell_estimates`` from the summary of every combination, the first column's levels slowest."""
    pair, n = work.pair, work.n
    values: dict[str, Values] = {
        "customer_group": np.repeat(pair.first.values, pair.shape[1]),
        "product_group": np.tile(pair.second.values, pair.shape[0]),
        "estimate": summary.estimate,
        "std_error": summary.std_error,
        "lower": summary.lower,
        "upper": summary.upper,
        "n": n,
        "is_new": n == 0,
    }
    return published_table(
        "cell_estimates", heading, values, variance_uncertainty=variance_uncertainty([part.fit for part in work.outcome.parts])
    )
