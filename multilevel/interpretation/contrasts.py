"""Differences between two levels of a factor, from the joint distribution: their common part cancels, as it does not in two intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from multilevel.errors import StudyError
from multilevel.fit import Fit
from multilevel.tables.effect_rows import add_population, deviation_rows, terms_of
from multilevel.tables.group_predictors import predictors_of
from multilevel.tables.nesting import Nesting, nesting


@dataclass(frozen=True)
class Contrast:
    """``level_a`` minus ``level_b`` of one term's coefficient, link scale; ``probability_greater`` is P(a > b), None where equal."""

    grouping_factor: str
    term: str
    level_a: str
    level_b: str
    estimate: float
    std_error: float
    lower: float
    upper: float
    probability_greater: float | None


def contrast(fit: Fit, factor: str, level_a: str, level_b: str, term: str = "Intercept", *, with_predictors: bool = True) -> Contrast:
    """The difference of two levels' coefficients (ancestors and, unless switched off, group-level predictors included).

    A level of a nested factor is written ``parent:level`` where its own label is not unique. Raises StudyError for a factor, a term or a
    level that the fit does not have.
    """
    tree = nesting(fit.design)
    places = np.array([_place(tree, factor, level) for level in (level_a, level_b)])
    if term not in terms_of(fit.design, factor):
        raise StudyError(f"{factor} has no varying term {term!r}; it has: {', '.join(terms_of(fit.design, factor))}.")
    rows = deviation_rows(fit.design, tree.lineage(factor), term)[places]
    if with_predictors:
        predicted = predictors_of(fit.design, tree.factors[factor], term)
        rows = add_population(fit.design, rows, {place: values[places] for place, values in predicted.items()})
    difference = rows[[0]] - rows[[1]]
    summary = fit.joint.combine(difference, fit.interval)
    draws = None if fit.engine == "likelihood" else np.asarray(difference @ fit.joint.draws(4_000, 0).T).ravel()
    estimate, std_error = float(summary.estimate[0]), float(summary.std_error[0])
    above = None if std_error <= 0 else float(ndtr(estimate / std_error)) if draws is None else float((draws > 0).mean())
    return Contrast(factor, term, level_a, level_b, estimate, std_error, float(summary.lower[0]), float(summary.upper[0]), above)


def _place(tree: Nesting, factor: str, level: str) -> int:
    if factor not in tree.factors:
        raise StudyError(f"There is no grouping factor {factor!r}; the fit has: {', '.join(tree.factors)}.")
    known = tree.factors[factor]
    match = np.flatnonzero(known.levels == level)
    if len(match) != 1 and known.parents is not None:
        full = known.parents + ":" + known.levels
        match = np.flatnonzero(full == level) if len(match) == 0 else match
    if len(match) == 0:
        raise StudyError(f"{factor} has no level {level!r}; its first are: {', '.join(map(str, known.levels[:5]))}.")
    if len(match) > 1:
        shown = ", ".join(f"{known.parents[i]}:{level}" for i in match[:3]) if known.parents is not None else level
        raise StudyError(f"The level {level!r} of {factor} lies under several parents; write one of: {shown}.")
    return int(match[0])
