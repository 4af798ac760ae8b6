"""What to mind when reading a fit: rows of ``diagnostics`` about predictors, groups and columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.cells import Floats
from multilevel.design import Design, Factor
from multilevel.fit import Check, Fit
from multilevel.interpretation.contextual import ContextualEffect
from multilevel.tables.diagnostics import fact
from multilevel.tables.group_predictors import column_values
from multilevel.tables.nesting import Nesting

NEARLY_CONSTANT = 0.99
"""A predictor constant in more than this share of a factor's levels, but not in all, was probably meant to be constant."""

_NAMED = 5

Flags = NDArray[np.bool_]


def simpson_warnings(effects: list[ContextualEffect]) -> list[Check]:
    """One row per predictor with a within and a between slope: it fails where their signs are opposite, and tells where they differ."""
    found = []
    for effect in effects:
        within, between = effect.within.estimate[0], effect.between.estimate[0]
        contextual = effect.contextual
        pooled = f"; one slope for all line items would be {effect.pooled_slope:.4g}" if effect.pooled_slope is not None else ""
        text = (
            f"{effect.predictor}: within {effect.factor} the slope is {within:.4g}, between it is {between:.4g}{pooled}; contextual effect "
            f"(between - within) {contextual.estimate[0]:.4g} ({contextual.lower[0]:.4g} to {contextual.upper[0]:.4g})"
        )
        if effect.changes_sign:
            text += ": the two point in opposite directions (Simpson's paradox)"
        elif effect.differs:
            text += ": the two differ, so one slope for both would mislead"
        name = f"contextual_effect[{effect.predictor}, {effect.factor}]"
        found.append(Check(name, float(contextual.estimate[0]), 0.0, passed=not effect.differs, message=text))
    return found


def effective_sizes(design: Design, nesting: Nesting) -> list[Check]:
    """Of every group-level predictor the number of levels it is known for: its effective sample size, not the number of rows."""
    found = []
    for column in design.population:
        factor = nesting.factors.get(column.constant_within or "")
        if factor is None or column.kind not in ("group_level", "between", "contextual"):
            continue
        sizes = f"{factor.n_levels} levels, not {design.cells.n_rows:,} line items"
        message = f"{column.label} is constant within {factor.name}: its sample size is {sizes}"
        found.append(fact(f"effective_sample_size[{column.label}]", float(factor.n_levels), message))
    return found


def nearly_constant(design: Design, nesting: Nesting) -> list[Check]:
    """Predictors that are constant in nearly every level of a factor but not in all: named, with the levels where they vary."""
    found = []
    for column in design.population:
        if column.label == "Intercept" or column.constant_within is not None:
            continue
        for factor in nesting.factors.values():
            varying = np.flatnonzero(_varies(design, column_values(design, column), column.feature, factor))
            several = _has_several_rows(design, factor)
            share = 1.0 - len(varying) / max(int(several.sum()), 1)
            if len(varying) and share >= NEARLY_CONSTANT:
                names = ", ".join(str(factor.levels[i]) for i in varying[:_NAMED])
                message = (
                    f"{column.label} is constant in all but {len(varying)} of {factor.n_levels} levels of {factor.name} "
                    f"({names}{', ...' if len(varying) > _NAMED else ''}); if it describes the level, correct these"
                )
                found.append(
                    Check(f"nearly_constant[{column.label}, {factor.name}]", share, NEARLY_CONSTANT, passed=False, message=message)
                )
    return found


def aliased_columns(design: Design) -> list[Check]:
    """Population columns left out because the others determine them."""
    if not design.aliased:
        return []
    return [fact("aliased_columns", float(len(design.aliased)), "left out, determined by the others: " + ", ".join(design.aliased))]


def separated_groups(fit: Fit, nesting: Nesting) -> list[Check]:
    """Binomial levels whose outcomes are all failures or all successes: fitted by partial pooling, infinite without it."""
    if fit.family != "binomial":
        return []
    cells, found = fit.design.cells, []
    for factor in nesting.factors.values():
        total = np.bincount(factor.codes, cells.total, factor.n_levels)
        size = np.bincount(factor.codes, cells.size, factor.n_levels)
        count = int(np.sum((total <= 0) | (total >= size)))
        message = f"{count} of {factor.n_levels} levels of {factor.name} are all zero or all one; partial pooling estimates them"
        found.append(fact(f"separated_groups[{factor.name}]", float(count), message))
    return found


def _varies(design: Design, values: Floats, feature: int, factor: Factor) -> Flags:
    """(L,) whether the column takes more than one value within each level."""
    low, high = np.full(factor.n_levels, np.inf), np.full(factor.n_levels, -np.inf)
    np.minimum.at(low, factor.codes, values)
    np.maximum.at(high, factor.codes, values)
    spread = high - low > 1e-9 * (1.0 + np.abs(high))
    if feature:
        inside = design.cells.cross[:, feature - 1, feature - 1] > 1e-12 * (1.0 + values**2)
        spread = spread | (np.bincount(factor.codes, inside, factor.n_levels) > 0)
    return spread


def _has_several_rows(design: Design, factor: Factor) -> Flags:
    return np.bincount(factor.codes, design.cells.n, factor.n_levels) > 1
