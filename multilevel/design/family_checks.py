"""What a family asks of the cells before either engine fits them: values in range, and no predictor that separates the outcome.

A predictor separates a binomial or count outcome where some combination of columns can run to infinity without ever lowering the
likelihood: its coefficient has no finite estimate, with or without group terms (Albert and Anderson 1984). Groups that are all zero or all
one are no such case: their effects are pulled in by their distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from multilevel.arrays import Floats
from multilevel.cells.statistics import CellStatistics
from multilevel.design.limits import refuse_outcomes_alike, refuse_single_outcome
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, reduce_design
from multilevel.design.unit_free import unit_free
from multilevel.errors import DataError, FitError
from multilevel.families.family import Family, refuse
from multilevel.families.link import Link
from multilevel.families.registry import family_named

SCORING_STEPS = 25

WELL_INSIDE = 12.0
"""A Fisher scoring fit whose linear predictors stay within this distance of each other is not separated."""

SMALLEST = 1e-7
"""Entries of the separating direction below this, in units of each column's size, are rounding."""


def check_family(design: Design, family: str) -> None:
    """Refuse what the family cannot have; nothing where the model is a linear one.

    Raises
    ------
    DataError
        Outcomes outside the family's range, or an offset or exposure that is not finite and positive; names the value.
    FitError
        A predictor that separates the outcome perfectly; names it.
    """
    if design.cells.has_moments:
        return
    own = family_named(family)
    _check_ranges(design.cells, own)
    _check_variation(design.cells, own)
    refuse_outcomes_alike(design.cells)
    refuse_single_outcome(design.cells)
    rows = reduce_design(unit_free(design).design)
    names = separating_columns(rows, own, [column.label for column in design.population])
    if names:
        raise FitError(_separation_message(names, own))


def _check_ranges(cells: CellStatistics, family: Family) -> None:
    refuse(~np.isfinite(cells.offset), cells.offset, "offset", "a finite number: look for zeros under log() or missing values")
    family.refuse_sums(cells.total, cells.size, cells.once)
    if not np.isfinite(cells.total).all():
        raise DataError(f"{family.name}: the summed outcome of {int((~np.isfinite(cells.total)).sum())} cells is not finite.")


def _check_variation(cells: CellStatistics, family: Family) -> None:
    """Outcomes all alike leave nothing to estimate, whatever the predictors."""
    total, size = cells.total.sum(keepdims=True), cells.size.sum(keepdims=True)
    if total[0] <= 0 or family.is_full(total, size)[0]:
        value = "0" if total[0] <= 0 else "1 (all trials succeeded)"
        raise FitError(
            f"Every outcome is {value} in all {cells.n_rows:,} line items: nothing can be estimated. Widen the window or `where`."
        )


def _separation_message(names: list[str], family: Family) -> str:
    listed = ", ".join(names)
    one = len(names) == 1
    what = "predicts" if one else "together predict"
    outcome = "which outcomes are all 0 or all 1" if family.statistics.size == "trials" else "which outcomes are all 0"
    return (
        f"Perfect separation: {listed} {what} {outcome}, so {'its coefficient has' if one else 'their coefficients have'} no finite "
        f"estimate. Drop {'it' if one else 'one of them'}, merge its categories, or make it a group term: (1 | {_group_named(names)})."
    )


def _group_named(names: list[str]) -> str:
    """The column that could group instead: of ``sep[true]`` it is sep."""
    label = next((name for name in names if "[" in name), names[0])
    return label.split("[")[0]


@dataclass(frozen=True)
class _Patterns:
    """Distinct rows of X (n, p) with the sum of outcomes, whether all are zero, and whether all are full (binomial)."""

    X: Floats
    empty: np.ndarray
    full: np.ndarray


def separating_columns(rows: ReducedRows, family: Family, labels: list[str]) -> list[str]:
    """Labels of the columns of X (R, p) that separate the outcome, none where every coefficient has a finite estimate."""
    if not rows.X.shape[1] or not ((rows.outcome <= 0) | family.is_full(rows.outcome, rows.size)).any():
        return []
    if _scores_stay_inside(rows, family.link):
        return []
    direction = _separating_direction(_patterns(rows, family))
    if direction is None:
        return []
    found = [label for label, size in zip(labels, np.abs(direction), strict=True) if size > SMALLEST]
    return [label for label in found if label != "Intercept"] or found


def _patterns(rows: ReducedRows, family: Family) -> _Patterns:
    used = rows.size > 0
    X, codes = np.unique(rows.X[used], axis=0, return_inverse=True)
    total = np.bincount(codes.ravel(), rows.outcome[used], len(X))
    size = np.bincount(codes.ravel(), rows.size[used], len(X))
    return _Patterns(X, total <= 0, family.is_full(total, size))


def _separating_direction(patterns: _Patterns) -> Floats | None:
    """A direction d with X d <= 0 where all is zero, >= 0 where all is full, = 0 elsewhere and not all zero; None if there is none.

    Source: the linear programme of Konis (2007), chapter 4, on distinct rows of X.
    """
    X, p = patterns.X, patterns.X.shape[1]
    scale = np.abs(X).max(axis=0)
    scaled = X / np.where(scale > 0, scale, 1.0)
    signed = np.concatenate([scaled[patterns.empty], -scaled[patterns.full]])
    mixed = scaled[~patterns.empty & ~patterns.full]
    if len(mixed) > p:
        mixed = np.linalg.qr(mixed, mode="r")
    if not len(signed):
        return None
    found = linprog(
        signed.sum(axis=0),
        A_ub=signed,
        b_ub=np.zeros(len(signed)),
        A_eq=mixed if len(mixed) else None,
        b_eq=np.zeros(len(mixed)) if len(mixed) else None,
        bounds=[(-1.0, 1.0)] * p,
        method="highs",
    )
    if found.status != 0 or found.fun is None or found.fun >= -SMALLEST:
        return None
    return np.asarray(found.x)


def _scores_stay_inside(rows: ReducedRows, link: Link) -> bool:
    """Whether plain Fisher scoring on X alone converges well inside the range of the linear predictor: then nothing separates.

    The link is taken as canonical, whose weights are the slope of the mean: where finite estimates exist does not depend on the variance.
    """
    eta = np.zeros(len(rows.outcome))
    if link.is_multiplicative:
        eta += np.log((rows.outcome.sum() + 0.5) / (rows.size * np.exp(rows.offset)).sum())
    for _ in range(SCORING_STEPS):
        predictor = eta + rows.offset
        weight, score = rows.size * link.slope(predictor), rows.outcome - rows.size * link.mean(predictor)
        gram = rows.X.T @ (weight[:, None] * rows.X)
        try:
            beta = np.linalg.solve(gram, rows.X.T @ (weight * eta + score))
        except np.linalg.LinAlgError:
            return False
        moved = rows.X @ beta
        step = float(np.max(np.abs(moved - eta)))
        eta = moved
        if not np.isfinite(step) or float(np.ptp(eta)) > WELL_INSIDE:
            return False
        if step < 1e-6:
            return True
    return False
