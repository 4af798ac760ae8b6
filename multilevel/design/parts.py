"""A two-part (hurdle) outcome: whether anything is spent, and how much where something is (Cragg 1971; Mullahy 1986).

The likelihood factorises: with d = 1{y > 0},

    prod p^d (1 - p)^(1 - d)  *  prod over y > 0 of f(y),

so that the model is two models of the same rows, a binomial one of d on all of them and one of y on those above zero, without a parameter
in common. Each is fitted as any other model of its family; what is published of both together is E[y] = p E[y | y > 0].

The cells of a hurdle family carry both: ``n`` the rows, ``weight`` those above zero, ``total`` the sum of y, and under
``hurdle_lognormal`` the mean and the centred sum of squares of log y over the rows above zero (0 where there are none).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from multilevel.cells.statistics import CellStatistics, restrict_cells
from multilevel.cells.unit_sums import UnitSums
from multilevel.design.aliasing import independent_columns
from multilevel.design.coding import code_terms
from multilevel.design.model import Design, DesignColumn, Factor, GroupBlock
from multilevel.errors import DataError, FitError, StudyError
from multilevel.families.registry import two_part_named
from multilevel.families.two_part import TwoPart
from multilevel.formula.tree import Formula

type Part = Literal["occurrence", "amount"]

PARTS: tuple[Part, Part] = ("occurrence", "amount")
"""The two parts, as the tables name them."""


@dataclass(frozen=True)
class TwoParts:
    """The statistics of each part, on the same cells."""

    occurrence: CellStatistics
    amount: CellStatistics


def split_cells(cells: CellStatistics, outcome: str) -> TwoParts:
    """Both parts' statistics on the same C cells; in ``amount`` the cells without a positive row have n = 0.

    Raises
    ------
    DataError
        An outcome below zero, none at zero, or none above it; ``outcome`` is what the message calls it.
    """
    _check_outcomes(cells, outcome)
    n_cells = cells.n_cells
    positive = np.rint(cells.weight).astype(np.int64)
    own = _two_part(cells)
    logarithms = cells.once["sum_log_outcome"]
    occurrence = replace(
        cells,
        family=own.occurrence.name,
        total=cells.weight,
        weight=cells.n.astype(np.float64),
        size=cells.n.astype(np.float64),
        mean=np.zeros((n_cells, 0)),
        cross=np.zeros((n_cells, 0, 0)),
        once={"log_binomial": 0.0},
        log_total=None,
    )
    amount = replace(
        cells,
        family=own.amount.name,
        log_outcome=own.log_amount,
        n=positive,
        size=cells.weight,
        once={"log_jacobian": -logarithms} if own.log_amount else {"sum_log_outcome": logarithms},
    )
    return TwoParts(occurrence, amount)


def units_of_part(units: UnitSums, part: Part) -> UnitSums:
    """Sums of one part: occurrence counts the rows above zero among all, amounts are of the rows above zero alone."""
    if part == "occurrence":
        return replace(units, total=units.weight, weight=units.n, size=units.n, mean=np.zeros((len(units.n), 0)))
    return replace(units, n=units.weight, size=units.weight).at(units.weight > 0)


def _two_part(cells: CellStatistics) -> TwoPart:
    found = two_part_named(cells.family)
    if found is None:
        raise StudyError(f"family: {cells.family} has one part.")
    return found


def _check_outcomes(cells: CellStatistics, outcome: str) -> None:
    n_rows, n_positive, n_negative = cells.n_rows, round(float(cells.weight.sum())), int(cells.once["n_negative"])
    if n_negative:
        raise DataError(
            f"{cells.family}: {outcome} is below zero in {n_negative:,} of {n_rows:,} line items; it must be zero or more. Leave "
            f"returns and corrections out with `where: {outcome} >= 0`, or add them up with what they correct."
        )
    if n_positive == n_rows:
        instead = _two_part(cells).instead.replace("{y}", outcome)
        raise DataError(f"{cells.family}: {outcome} is above zero in all {n_rows:,} line items, so there is no hurdle; write {instead}.")
    if n_positive == 0:
        raise DataError(
            f"{cells.family}: {outcome} is zero in all {n_rows:,} line items: there are no amounts to learn from. "
            "Widen the window or `where`."
        )


def amount_design(design: Design, cells: CellStatistics, formula: Formula) -> Design:
    """The amounts' design over the cells that have any: the columns and levels of ``design``, empty levels included.

    Raises
    ------
    FitError
        If the rows above zero do not determine a coefficient that all rows do; names it.
    """
    keep = np.flatnonzero(cells.n > 0)
    _check_columns(formula, restrict_cells(cells, keep), design)

    def column(whole: DesignColumn) -> DesignColumn:
        return replace(whole, multiplier=whole.multiplier[keep])

    def factor(whole: Factor) -> Factor:
        return replace(whole, codes=whole.codes[keep])

    return replace(
        design,
        cells=restrict_cells(cells, keep),
        population=tuple(column(whole) for whole in design.population),
        blocks=tuple(GroupBlock(factor(block.factor), tuple(column(whole) for whole in block.columns)) for block in design.blocks),
    )


def _check_columns(formula: Formula, cells: CellStatistics, design: Design) -> None:
    coded = code_terms(formula.population, cells, np.ones(cells.n_cells))
    kept = independent_columns(coded, cells)
    wanted = {column.label for column in design.population}
    lost = [column.label for column, keep in zip(coded, kept, strict=True) if not keep and column.label in wanted]
    if lost:
        raise FitError(
            f"Among the line items with an outcome above zero, {', '.join(lost)} cannot be told from the terms before it, although it can "
            "among all line items: the amounts' part of the model has no estimate for it. Leave it out, merge its categories, or make it a "
            "group term: (1 | x)."
        )
