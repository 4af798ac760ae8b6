"""Row-level predictors that the formula does not split: do their slopes within and between groups point the same way?

Gaussian studies: from the moments that the cells keep, one predictor at a time and unadjusted for the others: a warning to look, not an
estimate. The within slope is the fixed-effects slope; the between slope that of the groups' means (each group once), as in Robinson (1950)
and Mundlak (1978). Other families keep no such moments: there complete pooling is held against no pooling, all predictors in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats, distinct
from multilevel.design.model import Design, DesignColumn, Factor
from multilevel.design.nesting import Nesting
from multilevel.fit.coefficients import coefficients_of
from multilevel.fit.container import Check, Fit

FEWEST_LEVELS = 10
"""Below so many levels a slope of means is too uncertain to warn by."""

CERTAIN = 3.0
"""Both slopes must lie this many standard errors from zero, on opposite sides."""


@dataclass(frozen=True)
class Slopes:
    """Simple regression slopes of the outcome on one predictor, with standard errors."""

    within: float
    within_error: float
    between: float
    between_error: float
    pooled: float

    @property
    def are_opposite(self) -> bool:
        """Whether both are certain and have opposite signs."""
        signs = np.sign(self.within) * np.sign(self.between)
        return bool(signs < 0 and abs(self.within) > CERTAIN * self.within_error and abs(self.between) > CERTAIN * self.between_error)


def unsplit_warnings(design: Design, nesting: Nesting) -> list[Check]:
    """One failed row per predictor and factor whose two slopes point in opposite directions; gaussian studies only."""
    if not design.cells.has_moments:
        return []
    found = []
    for column in _unsplit(design):
        for name, factor in nesting.factors.items():
            slopes = slopes_of(design, column, factor) if factor.n_levels >= FEWEST_LEVELS else None
            if slopes is not None and slopes.are_opposite:
                found.append(_warning(column.label, name, factor.columns[-1], slopes))
    return found


def reversal_warnings(design: Design, complete: Fit | None, separate: Mapping[str, Fit]) -> list[Check]:
    """One failed row per predictor and factor whose slope has one sign with the factor ignored and another within its levels.

    ``separate``: by factor the fit with its terms free in each level. Not gaussian: see ``unsplit_warnings``.
    """
    if design.cells.has_moments or complete is None:
        return []
    ignored = _slopes(complete)
    found = []
    for name, fit in separate.items():
        within = _slopes(fit)
        for column in _unsplit(design):
            if column.label not in ignored or column.label not in within:
                continue
            (pooled, pooled_error), (own, own_error) = ignored[column.label], within[column.label]
            if own * pooled < 0 and abs(pooled) > CERTAIN * pooled_error and abs(own - pooled) > CERTAIN * own_error:
                message = (
                    f"{column.label}: over all line items, groups ignored, its coefficient is {pooled:.4g}, within levels of {name} "
                    f"{own:.4g} (standard error {own_error:.2g}; link scale): the direction over all line items is one between groups "
                    "(Simpson's paradox)"
                )
                found.append(Check(f"opposite_slopes[{column.label}, {name}]", pooled - own, 0.0, passed=False, message=message))
    return found


def _slopes(fit: Fit) -> dict[str, tuple[float, float]]:
    """Estimate and standard error of each population coefficient."""
    found = coefficients_of(fit, "")
    return {
        column.label: (float(estimate), float(error))
        for column, estimate, error in zip(found.columns, found.summary.estimate, found.summary.std_error, strict=True)
    }


def _unsplit(design: Design) -> list[DesignColumn]:
    """Row-level predictors that the formula does not split into within and between."""
    split = " ".join(column.label for column in design.population if column.kind in ("within", "between", "contextual"))
    return [
        column
        for column in design.population
        if column.kind == "individual" and column.label != "Intercept" and f"({column.label}," not in split
    ]


def _warning(label: str, name: str, group: str, slopes: Slopes) -> Check:
    message = (
        f"{label}: within {name} the slope is {slopes.within:.4g}, between its levels {slopes.between:.4g}, over all line items "
        f"{slopes.pooled:.4g} (each unadjusted): the directions are opposite (Simpson's paradox); "
        f"write within({label}, {group}) + between({label}, {group})"
    )
    return Check(f"opposite_slopes[{label}, {name}]", slopes.between - slopes.within, 0.0, passed=False, message=message)


def slopes_of(design: Design, column: DesignColumn, factor: Factor) -> Slopes | None:
    """The two slopes; None where the predictor does not vary within or does not vary between the factor's levels."""
    cells, at = design.cells, column.feature - 1
    weight = cells.weight
    x = column.multiplier * (cells.mean[:, at] if column.feature else 1.0)
    y = cells.mean[:, -1]
    xx = column.multiplier**2 * cells.cross[:, at, at] if column.feature else np.zeros(len(x))
    xy = column.multiplier * cells.cross[:, at, -1] if column.feature else np.zeros(len(x))
    # of a two-part outcome some levels have no amounts
    _, codes = distinct(factor.codes)
    total = np.bincount(codes, weight)
    mean_x, mean_y = (np.bincount(codes, weight * v) / total for v in (x, y))
    dx, dy = x - mean_x[codes], y - mean_y[codes]
    inner = np.array([np.sum(xx + weight * dx**2), np.sum(xy + weight * dx * dy), np.sum(cells.cross[:, -1, -1] + weight * dy**2)])
    outer = _moments(mean_x, mean_y, np.ones(len(total)))
    everything = _moments(mean_x, mean_y, total) + inner
    tiny = 1e-10 * everything[0]
    if inner[0] <= tiny or outer[0] <= tiny / total.mean():
        return None
    freedom = float(cells.n.sum()) - len(total) - 1
    within, between = inner[1] / inner[0], outer[1] / outer[0]
    return Slopes(
        float(within),
        _error(inner, freedom),
        float(between),
        _error(outer, len(total) - 2),
        float(everything[1] / everything[0]),
    )


def _moments(x: Floats, y: Floats, weight: Floats) -> Floats:
    dx, dy = x - np.average(x, weights=weight), y - np.average(y, weights=weight)
    return np.array([np.sum(weight * dx**2), np.sum(weight * dx * dy), np.sum(weight * dy**2)])


def _error(moments: Floats, freedom: float) -> float:
    """Standard error of a simple regression slope."""
    residual = max(moments[2] - moments[1] ** 2 / moments[0], 0.0)
    return float(np.sqrt(residual / max(freedom, 1.0) / moments[0]))
