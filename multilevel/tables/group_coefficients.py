"""``group_coefficients``: the coefficients of every level of every factor, on the link scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.catalogue.table_assembly import Heading, Values, published_table, stack
from multilevel.design.effect_rows import add_population, coefficient_rows, deviation_rows, population_index, terms_of
from multilevel.design.group_predictors import predictors_of
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting
from multilevel.estimands.new_levels import NewLevel, NewLevels, new_effect, new_levels
from multilevel.estimands.probabilities import probability_above_average
from multilevel.fit.container import Fit, Summary
from multilevel.fit.interval_estimates import combined, variance_uncertainty
from multilevel.fit.one_pass import together
from multilevel.pooling.free_intercepts import TermByTerm


def group_coefficients(
    fit: Fit,
    nesting: Nesting,
    heading: Heading,
    named: Sequence[NewLevel] = (),
    seed: int = 0,
    unpooled: Mapping[tuple[str, str], TermByTerm] | None = None,
) -> pa.Table:
    """The whole table; ``named`` are levels of ``predict_for``, ``unpooled`` by factor and term the coefficients with that term free."""
    tasks: list[Callable[[], dict[str, Values]]] = []
    for name in nesting.factors:
        new = new_levels(nesting, name, named)
        n = level_counts(fit.design, nesting, name)
        for term in terms_of(fit.design, name):
            free = None if unpooled is None else unpooled.get((name, term))
            tasks += [partial(_seen, fit, nesting, name, term, n, free), partial(_new, fit, nesting, name, term, new, seed=seed)]
    pieces = together(tasks)
    return published_table("group_coefficients", heading, stack(pieces) | {"part": None}, variance_uncertainty=variance_uncertainty([fit]))


def level_counts(design: Design, nesting: Nesting, name: str) -> Integers:
    """(L,) line items of every level of a factor."""
    factor = nesting.factors[name]
    return np.bincount(factor.codes, weights=design.cells.n, minlength=factor.n_levels).astype(np.int64)


def conditional_sd(fit: Fit, lineage: Mapping[str, Integers], term: str) -> Floats:
    """(L,) sd of the summed deviations given (theta, beta), taking ancestors as independent of their descendants."""
    n_levels = len(next(iter(lineage.values())))
    variance = np.zeros(n_levels)
    for name, levels in lineage.items():
        terms = terms_of(fit.design, name)
        if term in terms:
            block, column = terms[term]
            variance += fit.conditional_variance[block][levels, column]
    return np.sqrt(variance)


def _seen(fit: Fit, nesting: Nesting, name: str, term: str, n: Integers, unpooled: TermByTerm | None) -> dict[str, Values]:
    factor, lineage = nesting.factors[name], nesting.lineage(name)
    block, column = terms_of(fit.design, name)[term]
    rows = coefficient_rows(fit.design, lineage, term), deviation_rows(fit.design, {name: lineage[name]}, term)
    deviations, alone = deviation_rows(fit.design, lineage, term), conditional_sd(fit, lineage, term)
    told: list[Summary] = []
    chance: list[Floats] = []
    together(
        [
            lambda: told.extend(together([partial(_with_plain_errors, fit, each) for each in rows])),
            lambda: chance.append(probability_above_average(fit, deviations, alone)),
        ]
    )
    estimate, own = told
    return {
        **_labels(name, term, factor.levels, factor.parents),
        **_columns(estimate, ""),
        **_columns(own, "deviation_"),
        "conditional_sd": None if fit.is_posterior else np.sqrt(fit.conditional_variance[block][:, column]),
        "fitted_value": estimate.estimate + _predicted(fit, nesting, name, term),
        "n": n,
        "shrinkage": np.clip(fit.shrinkage[block][:, column], 0.0, 1.0),
        "probability_above_average": chance[0],
        "is_new": np.zeros(factor.n_levels, dtype=bool),
        "no_pooling_estimate": None if unpooled is None else unpooled.estimate,
        "no_pooling_std_error": None if unpooled is None else unpooled.std_error,
    }


def _with_plain_errors(fit: Fit, rows: csr_array) -> Summary:
    """Bounds carry what is unknown of the variances; the standard errors are given them, as lme4's are."""
    found = combined(fit, rows)
    return found if fit.is_posterior else replace(found, std_error=fit.joint.combine(rows, fit.interval).std_error)


def _new(fit: Fit, nesting: Nesting, name: str, term: str, new: NewLevels, *, seed: int) -> dict[str, Values]:
    block, column = terms_of(fit.design, name)[term]
    # Levels of one factor always have at least their own place in a lineage, so an empty one is a row of zeros.
    lineage = new.ancestors or {name: np.zeros(len(new), dtype=np.int64)}
    deviations = deviation_rows(fit.design, lineage, term) if new.ancestors else deviation_rows(fit.design, lineage, term) * 0.0
    place = population_index(fit.design, term)
    rows = deviations if place is None else add_population(fit.design, deviations, {place: np.ones(1)})
    estimate, own = together([partial(new_effect, fit, block, column, each, seed=seed) for each in (rows, rows[:1] * 0.0)])
    has_predictors = bool(predictors_of(fit.design, nesting.factors[name], term))
    return {
        **_labels(name, term, new.level, new.parent),
        **_columns(estimate, ""),
        **{key: np.broadcast_to(np.asarray(value), len(new)) for key, value in _columns(own, "deviation_").items()},
        "conditional_sd": None,
        "fitted_value": None if has_predictors else estimate.estimate,
        "n": np.zeros(len(new), dtype=np.int64),
        "shrinkage": None,
        "probability_above_average": None,
        "is_new": np.ones(len(new), dtype=bool),
        "no_pooling_estimate": None,
        "no_pooling_std_error": None,
    }


def _predicted(fit: Fit, nesting: Nesting, name: str, term: str) -> Floats:
    """(L,) what the level's own group-level predictors and cross-level terms add."""
    factor = nesting.factors[name]
    total = np.zeros(factor.n_levels)
    for place, values in predictors_of(fit.design, factor, term).items():
        total += fit.joint.mean[place] * values
    return total


def _labels(name: str, term: str, levels: Values, parents: Values) -> dict[str, Values]:
    assert levels is not None
    n_rows = len(levels)
    return {
        "grouping_factor": np.full(n_rows, name, dtype=object),
        "level": levels,
        "parent_level": parents if parents is not None else np.full(n_rows, None, dtype=object),
        "term": np.full(n_rows, term, dtype=object),
    }


def _columns(summary: Summary, prefix: str) -> dict[str, Values]:
    value = "deviation" if prefix else "estimate"
    return {
        value: summary.estimate,
        f"{prefix}std_error": summary.std_error,
        f"{prefix}lower": summary.lower,
        f"{prefix}upper": summary.upper,
    }
