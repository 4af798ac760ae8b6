"""What the report needs besides the six tables: lines of group-level predictors, shares, timings; JSON-able throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.checking.predictive_picture import predictive_picture
from multilevel.description.mathematics import mathematics
from multilevel.description.model_description import describe
from multilevel.design.effect_rows import add_population, deviation_rows, population_index, terms_of
from multilevel.design.group_predictors import predictors_of
from multilevel.design.nesting import Nesting
from multilevel.estimands.average_differences import average_differences
from multilevel.estimands.coded_terms import coded_terms
from multilevel.estimands.fitted_part import expected_outcome
from multilevel.fit.container import Check, Fit
from multilevel.fit.interval_estimates import combined
from multilevel.formula.tree import Formula
from multilevel.interpretation.variance_partition import variance_partition
from multilevel.study.engines import resolved_priors
from multilevel.study.fitted_parts import PartResults
from multilevel.study.options import FitOptions
from multilevel.tables.group_coefficients import level_counts

MOST_POINTS = 2_000
_GRID = 41


def report_of(
    formula: Formula,
    family: str,
    results: Sequence[PartResults],
    options: FitOptions,
    *,
    checks: Sequence[Check],
    seconds: Mapping[str, float],
) -> dict[str, object]:
    """The report's dictionary; every number in it is also derived from the same fits as the tables. Names in lists carry their part."""
    first = results[0]
    fit, cells = first.fit, first.fit.design.cells
    designs = [result.fit.design for result in results]
    records = {result.part.name or "": jsonable(result.fit.record) for result in results}
    return {
        "study": options.publishing.study,
        "as_of": options.publishing.as_of.isoformat(),
        "run_id": options.publishing.run_id,
        "seed": options.model.seed,
        "cells": list(options.publishing.cells_pair) if options.publishing.cells_pair is not None else None,
        "formula": formula.text,
        "words": describe(formula, designs, family),
        "mathematics": jsonable(mathematics(formula, designs, family)),
        "priors": _priors(results),
        "family": family,
        "log_outcome": cells.log_outcome,
        "engine": fit.engine,
        "method": " and ".join(result.part.told(result.fit.method) for result in results),
        "interval": fit.interval,
        "unit": options.publishing.unit,
        "currency": options.publishing.currency,
        "n_line_items": cells.n_rows,
        "n_cells": cells.n_cells,
        "compression_ratio": cells.n_rows / cells.n_cells,
        "factors": [_factor(fit, first.tree, name) for name in first.tree.factors],
        "variance_shares": [entry for result in results for entry in variance_shares(result.fit, result.part.name)],
        "group_level_lines": [_of_part(line, result) for result in results for line in group_level_lines(result.fit, result.tree)],
        "predictive_pictures": [picture for result in results for picture in predictive_pictures(result)],
        "coded_terms": jsonable(coded_terms(first.fit.design, formula)),
        "average_differences": _differences(results, formula),
        "contextual_effects": [jsonable(effect) for result in results for effect in result.contextual],
        "warnings": [check.message for check in checks if not check.passed],
        "fit_record": records[""] if len(results) == 1 else records,
        "seconds": jsonable(seconds),
    }


def _differences(results: Sequence[PartResults], formula: Formula) -> list[dict[str, object]]:
    """What predictors change on the outcome's scale, where no coefficient says it."""
    columns = ("estimate", "std_error", "lower", "upper")
    return [
        {"term": found.of.term, **{name: jsonable(float(getattr(found.summary, name)[0])) for name in columns}}
        for found in average_differences(expected_outcome([result.fitted for result in results]), formula)
    ]


def _of_part(entry: dict[str, object], result: PartResults) -> dict[str, object]:
    return entry if result.part.name is None else {**entry, "part": result.part.name}


def _priors(results: Sequence[PartResults]) -> list[dict[str, str]] | None:
    """Every part's, its name before the parameter; None where a part has none."""
    found = [(result, priors_in_words(result.fit, result.options)) for result in results]
    if any(entries is None for _, entries in found):
        return None
    return [{**entry, "parameter": result.part.told(entry["parameter"])} for result, entries in found for entry in entries or ()]


def priors_in_words(fit: Fit, options: FitOptions) -> list[dict[str, str]] | None:
    """Every prior of a bayesian fit as it would be written in a study; None for the likelihood engine."""
    if not fit.is_posterior:
        return None
    found, design = resolved_priors(fit.design, options), fit.design
    entries = [(column.label, str(prior)) for column, prior in zip(design.population, found.terms, strict=True)]
    for block, sds, eta in zip(design.blocks, found.sds, found.correlations, strict=True):
        entries += [(f"sd({block.factor.name}, {column.label})", str(prior)) for column, prior in zip(block.columns, sds, strict=True)]
        entries += [(f"correlation({block.factor.name})", f"lkj({eta:g})")] if len(block.columns) > 1 else []
    entries += [(name, str(prior)) for name, prior in (("sigma", found.sigma), ("dispersion", found.dispersion)) if prior is not None]
    return [{"parameter": parameter, "prior": prior} for parameter, prior in entries]


def predictive_pictures(result: PartResults) -> list[dict[str, object]]:
    """The one picture of a part's fit; none where there are too few cells for one."""
    found = predictive_picture(result.fit, result.options.model.seed)
    return [] if found is None else [{"part": result.part.name, **found}]


def _factor(fit: Fit, nesting: Nesting, name: str) -> dict[str, object]:
    terms = list(terms_of(fit.design, name))
    return {"grouping_factor": name, "n_levels": nesting.factors[name].n_levels, "terms": terms, "parent": nesting.parent(name)}


def variance_shares(fit: Fit, part: str | None = None) -> list[dict[str, object]]:
    """Each block's and the residual's variance on the link scale, and its share; factors as ``name (part)`` where there are two parts."""
    partition = variance_partition(fit)
    suffix = "" if part is None else f" ({part})"
    entries: list[dict[str, object]] = [
        {
            "grouping_factor": block.factor.name + suffix,
            "terms": [column.label for column in block.columns],
            "variance": float(variance),
            "share": float(share),
        }
        for block, variance, share in zip(fit.design.blocks, partition.blocks, partition.shares, strict=True)
    ]
    name = "residual (latent)" if fit.sigma is None else "residual"
    entries.append({"grouping_factor": name + suffix, "terms": [], "variance": partition.residual, "share": partition.residual_share})
    return entries


def group_level_lines(fit: Fit, nesting: Nesting) -> list[dict[str, object]]:
    """For every group-level predictor of every varying term: the levels' coefficients against it, and its line with a band.

    The line is the term's population coefficient with the other group-level predictors at their mean over levels (Gelman and Hill 2006,
    fig. 12.6). At most ``MOST_POINTS`` levels are kept, the ones with most line items.
    """
    lines = []
    for name in nesting.factors:
        for term in terms_of(fit.design, name):
            predictors = predictors_of(fit.design, nesting.factors[name], term)
            lines += [_line(fit, nesting, name, term, place) for place, values in predictors.items() if np.ptp(values) > 0]
    return lines


def _line(fit: Fit, nesting: Nesting, name: str, term: str, place: int) -> dict[str, object]:
    factor = nesting.factors[name]
    predictors = predictors_of(fit.design, factor, term)
    population = population_index(fit.design, term)
    base = {} if population is None else {population: np.ones(factor.n_levels)}
    n = level_counts(fit.design, nesting, name)
    kept = np.sort(np.argsort(-n, kind="stable")[:MOST_POINTS])
    rows = add_population(fit.design, deviation_rows(fit.design, nesting.lineage(name), term), {**base, **predictors})
    points = combined(fit, csr_array(rows[kept]))
    x = predictors[place]
    grid = np.linspace(x.min(), x.max(), _GRID)
    others = {other: np.full(_GRID, values.mean()) for other, values in predictors.items() if other != place}
    start = csr_array((_GRID, rows.shape[1]))
    constant = {} if population is None else {population: np.ones(_GRID)}
    band = combined(fit, add_population(fit.design, start, {**constant, **others, place: grid}))
    parents = factor.parents[kept] if factor.parents is not None else [None] * len(kept)
    return {
        "grouping_factor": name,
        "term": term,
        "predictor": fit.design.population[place].label,
        "levels": [str(level) for level in factor.levels[kept]],
        "parents": [None if parent is None else str(parent) for parent in parents],
        "n": n[kept].tolist(),
        "x": x[kept].tolist(),
        "estimate": points.estimate.tolist(),
        "lower": points.lower.tolist(),
        "upper": points.upper.tolist(),
        "line": {"x": grid.tolist(), "estimate": band.estimate.tolist(), "lower": band.lower.tolist(), "upper": band.upper.tolist()},
    }


def jsonable(value: object) -> object:
    """Plain Python values all the way down; NaN and infinity become None, anything unknown its text."""
    if is_dataclass(value) and not isinstance(value, type):
        return jsonable(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
