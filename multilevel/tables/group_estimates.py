"""``group_estimates``: the expected outcome of every level, standardised to the common mix, beside no and complete pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from multilevel.cells import Floats
from multilevel.fit import Fit, Summary
from multilevel.study_fit_options import NewLevel
from multilevel.tables.assemble import Heading, Values, published_table, stack
from multilevel.tables.binning import OnePartBinning
from multilevel.tables.effect_rows import terms_of
from multilevel.tables.group_coefficients import conditional_sd, level_counts
from multilevel.tables.level_variance import LevelVariance, widened
from multilevel.tables.nesting import Nesting
from multilevel.tables.new_groups import new_group_estimates
from multilevel.tables.new_levels import NewLevels, new_levels
from multilevel.tables.probabilities import rank_intervals
from multilevel.tables.response import response_of
from multilevel.tables.standardise import Standardisation, standardise
from multilevel.tables.unpooled import CompletePooling, NoPooling


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
    for name in nesting.factors:
        standard = standardise(binning, nesting, name, variance)
        pooled = complete.respond(standard) if complete is not None else np.full(standard.n_levels, np.nan)
        pieces.append(_seen(standard, nesting, name, pooled, no_pooling=no_pooling.get(name), variance=variance, seed=seed))
        new = new_levels(nesting, name, named)
        pieces.append(_new(standard, nesting, name, new, pooled, seed=seed))
    return published_table("group_estimates", heading, stack(pieces))


def _seen(
    standard: Standardisation,
    nesting: Nesting,
    name: str,
    pooled: Floats,
    *,
    no_pooling: NoPooling | None,
    variance: LevelVariance | None,
    seed: int,
) -> dict[str, Values]:
    fit, factor = standard.fit, nesting.factors[name]
    summary = with_variance_error(standard.respond(), standard, variance, nesting, name)
    separate = no_pooling.respond(standard, nesting.own_tree(name)) if no_pooling is not None else None
    lower, upper = rank_intervals(fit, standard.gradients, summary.estimate, _spread(standard, nesting, name, summary), seed)
    return {
        **_labels(name, factor.levels, factor.parents),
        **_columns(summary),
        "no_pooling_estimate": separate[0] if separate is not None else None,
        "no_pooling_std_error": separate[1] if separate is not None else None,
        "complete_pooling_estimate": pooled,
        "n": level_counts(fit, nesting, name),
        "rank_lower": lower,
        "rank_upper": upper,
        "is_new": np.zeros(factor.n_levels, dtype=bool),
    }


def _new(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels, pooled: Floats, *, seed: int) -> dict[str, Values]:
    summary, _ = new_group_estimates(standard, nesting, name, new, seed)
    n = level_counts(standard.fit, nesting, name)
    factor = nesting.factors[name]
    group = np.zeros(factor.n_levels, np.int64) if factor.parents is None else np.unique(factor.parents.astype(str), return_inverse=True)[1]
    expected = np.bincount(group, n * pooled) / np.bincount(group, n)
    return {
        **_labels(name, new.level, new.parent),
        **_columns(summary),
        "no_pooling_estimate": None,
        "no_pooling_std_error": None,
        "complete_pooling_estimate": expected[group[new.sibling]],
        "n": np.zeros(len(new), dtype=np.int64),
        "rank_lower": None,
        "rank_upper": None,
        "is_new": np.ones(len(new), dtype=bool),
    }


def with_variance_error(
    summary: Summary, standard: Standardisation, variance: LevelVariance | None, nesting: Nesting, name: str
) -> Summary:
    """Widen natural-scale means by what is unknown of their sigma: log mean = eta + sigma^2 / 2, so sd sigma^2 / 2 x sd(log sigma^2)."""
    if variance is None:
        return summary
    factor = nesting.factors[name]
    n = standard.fit.design.cells.n
    own = np.bincount(factor.codes, n * _cell_variance(standard), factor.n_levels) / np.bincount(factor.codes, n, factor.n_levels)
    extra = own / 2.0 * variance.std_errors[name]
    return widened(summary, extra, standard.fit.interval)


def _cell_variance(standard: Standardisation) -> Floats:
    return standard.own_variance[standard.own.codes] * standard.common_variance[standard.common.codes]


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


def _labels(name: str, levels: Values, parents: Values) -> dict[str, Values]:
    assert levels is not None
    return {
        "grouping_factor": np.full(len(levels), name, dtype=object),
        "level": levels,
        "parent_level": parents if parents is not None else np.full(len(levels), None, dtype=object),
    }


def _columns(summary: Summary) -> dict[str, Values]:
    return {"estimate": summary.estimate, "std_error": summary.std_error, "lower": summary.lower, "upper": summary.upper}
