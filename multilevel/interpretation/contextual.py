"""Within, between and contextual effects (Mundlak 1978; Bell and Jones 2015): does a predictor mean the same inside and across groups?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.design.model import Design, DesignColumn
from multilevel.fit.container import Fit, Summary


@dataclass(frozen=True)
class ContextualEffect:
    """A row-level predictor split into its deviation from the group mean and that mean.

    within, between : places in beta. contextual : between - within, or the coefficient of the mean itself where the formula holds x and
    between(x, g) (then between is their sum). ``pooled_slope`` is the slope of complete pooling, None where it was not fitted.
    ``differs`` : whether the interval of the contextual effect excludes zero.
    """

    predictor: str
    factor: str
    within: Summary
    between: Summary
    contextual: Summary
    pooled_slope: float | None
    differs: bool
    changes_sign: bool


def contextual_effects(fit: Fit, complete: Fit | None = None) -> list[ContextualEffect]:
    """Every predictor that the formula holds both within and between the groups of a factor."""
    found = []
    labels = [column.label for column in fit.design.population]
    for place, label in enumerate(labels):
        split = _arguments(label, "between")
        if split is None:
            continue
        predictor, factor = split
        partner = _find(labels, predictor, factor)
        if partner is None:
            continue
        is_split = labels[partner].startswith("within(")
        found.append(_effect(fit, complete, (predictor, factor), partner, place, is_split=is_split))
    return found


def _effect(fit: Fit, complete: Fit | None, names: tuple[str, str], within: int, mean: int, *, is_split: bool) -> ContextualEffect:
    size = len(fit.joint.mean)
    picks = np.zeros((3, size))
    picks[0, within] = 1.0
    picks[1, mean] = 1.0
    picks[1, within] = 0.0 if is_split else 1.0
    picks[2] = picks[1] - picks[0]
    summary = fit.joint.combine(csr_array(picks), fit.interval)
    inner, between, contextual = (_one(summary, row) for row in range(3))
    differs = bool(contextual.lower[0] > 0 or contextual.upper[0] < 0)
    changes = bool(inner.estimate[0] * between.estimate[0] < 0 and differs)
    pooled = _pooled_slope(complete if complete is not None else fit, within, mean, is_split=is_split) if complete is not None else None
    return ContextualEffect(*names, inner, between, contextual, pooled, differs, changes)


def _pooled_slope(complete: Fit, within: int, mean: int, *, is_split: bool) -> float | None:
    """One slope for x without regard to groups: the mean of the two slopes of complete pooling, weighted by their sums of squares."""
    design = complete.design
    if max(within, mean) >= len(design.population):
        return None
    inner, outer = (_sum_of_squares(design, design.population[place]) for place in (within, mean))
    slope = complete.joint.mean
    if not is_split:
        # x = (x - mean) + mean: the slope of the mean adds to that of x across groups only.
        inner, between = max(inner - outer, 0.0), slope[within] + slope[mean]
    else:
        between = slope[mean]
    return float((inner * slope[within] + outer * between) / (inner + outer)) if inner + outer > 0 else None


def _sum_of_squares(design: Design, column: DesignColumn) -> float:
    cells = design.cells
    values: Floats = column.multiplier
    within = 0.0
    if column.feature:
        at = column.feature - 1
        within = float(np.sum(column.multiplier**2 * cells.cross[:, at, at]))
        values = values * cells.mean[:, at]
    centre = np.average(values, weights=cells.weight)
    return within + float(np.sum(cells.weight * (values - centre) ** 2))


def _arguments(label: str, function: str) -> tuple[str, str] | None:
    if not (label.startswith(f"{function}(") and label.endswith(")")) or "," not in label:
        return None
    predictor, factor = label[len(function) + 1 : -1].rsplit(",", 1)
    return predictor.strip(), factor.strip()


def _find(labels: list[str], predictor: str, factor: str) -> int | None:
    for place, label in enumerate(labels):
        if _arguments(label, "within") == (predictor, factor) or label == predictor:
            return place
    return None


def _one(summary: Summary, row: int) -> Summary:
    return summary.at(np.array([row]))
