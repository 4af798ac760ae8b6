"""``group_estimates``: the expected outcome of every level, standardised to the common mix, beside no and complete pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from multilevel.arrays import Floats
from multilevel.catalogue.table_assembly import Heading, Values, published_table, stack
from multilevel.design.effect_rows import terms_of
from multilevel.design.nesting import Nesting
from multilevel.estimands.binning import OnePartBinning
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.new_groups import new_group_estimates
from multilevel.estimands.new_levels import NewLevel, new_levels
from multilevel.estimands.probabilities import rank_intervals
from multilevel.estimands.response import response_of
from multilevel.estimands.standardise import Standardisation, standardise
from multilevel.estimands.unpooled import CompletePooling, NoPooling
from multilevel.fit.container import Fit, Summary
from multilevel.tables.group_coefficients import conditional_sd, level_counts
from multilevel.tables.group_rows import new_rows, seen_rows, with_variance_error


def group_estimates(
    fit: Fit,
    nesting: Nesting,
    heading: Heading,
    *,
    complete: CompletePooling | None,
    no_pooling: Mapping[str, NoPooling],
    variance: LevelVariance | None = None,
    named: Sequence[NewLevel] = (),
    seed: int = 0,
) -> pa.Table:
    """The whole table; ``no_pooling`` holds one fit per factor that was fitted so, ``variance`` the log-variances of a ``log(y)`` study."""
    pieces: list[dict[str, Values]] = []
    binning = OnePartBinning(fit, response_of(fit.design.cells))
    for name, factor in nesting.factors.items():
        standard = standardise(binning, nesting, name, variance)
        n = level_counts(fit, nesting, name)
        pooled = complete.respond(standard) if complete is not None else np.full(standard.n_levels, np.nan)
        separate = no_pooling[name].respond(standard, nesting.own_tree(name)) if name in no_pooling else None
        summary = with_variance_error(standard.respond(), standard, variance, nesting, name)
        ranks = rank_intervals(fit, standard.gradients, summary.estimate, _spread(standard, nesting, name, summary), seed)
        pieces.append(seen_rows(name, factor, n, summary, unpooled=separate, complete=pooled, ranks=ranks))
        new = new_levels(nesting, name, named)
        pieces.append(new_rows(name, factor, n, new, new_group_estimates(standard, nesting, name, new, seed), pooled))
    return published_table("group_estimates", heading, stack(pieces))


def _spread(standard: Standardisation, nesting: Nesting, name: str, summary: Summary) -> Floats:
    """(L,) sd of each estimate given what is common to all levels, for ranks among very many."""
    if len(summary.estimate) <= 1_000:
        return summary.std_error
    terms = terms_of(standard.fit.design, name)
    first = next(iter(terms))
    slope = (
        standard.response.slope(standard.response.inverse(np.maximum(summary.estimate, 1e-12))) if not standard.response.is_linear else 1.0
    )
    return np.minimum(conditional_sd(standard.fit, nesting.lineage(name), first) * slope, summary.std_error)
