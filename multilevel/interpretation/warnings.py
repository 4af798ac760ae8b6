"""What to mind when reading a fit: rows of ``diagnostics`` about predictors, groups and columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.design.checks import DesignWarning
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting
from multilevel.families.registry import family_named
from multilevel.fit.container import Check, Fit, fact
from multilevel.interpretation.contextual import ContextualEffect


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
        # of a two-part outcome some levels have no amounts
        n_levels = len(np.unique(factor.codes))
        sizes = f"{n_levels} levels, not {design.cells.n_rows:,} line items"
        message = f"{column.label} is constant within {factor.name}: its sample size is {sizes}"
        found.append(fact(f"effective_sample_size[{column.label}]", float(n_levels), message))
    return found


def design_warnings(warnings: Sequence[DesignWarning]) -> list[Check]:
    """What the design's own checks found, one row per kind of warning: how many, and all of their messages."""
    found: dict[str, list[str]] = {}
    for warning in warnings:
        found.setdefault(warning.check, []).append(warning.message)
    return [Check(name, float(len(messages)), 0.0, passed=False, message=" ".join(messages)) for name, messages in found.items()]


def separated_groups(fit: Fit, nesting: Nesting) -> list[Check]:
    """Levels whose trials all failed or all succeeded: fitted by partial pooling, infinite without it."""
    cells, found, family = fit.design.cells, [], family_named(fit.family)
    if not family.is_bounded:
        return []
    for factor in nesting.factors.values():
        total = np.bincount(factor.codes, cells.total, factor.n_levels)
        size = np.bincount(factor.codes, cells.size, factor.n_levels)
        count = int(np.sum((total <= 0) | family.is_full(total, size)))
        message = f"{count} of {factor.n_levels} levels of {factor.name} are all zero or all one; partial pooling estimates them"
        found.append(fact(f"separated_groups[{factor.name}]", float(count), message))
    return found
