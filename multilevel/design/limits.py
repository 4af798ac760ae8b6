"""What is refused by counts and sizes alone, before anything is built or fitted: the fit would take long and then fail."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from multilevel.cells.statistics import CellStatistics
from multilevel.errors import DataError, FitError
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula, Term

MOST_COLUMNS = 1_000
"""Population-level coefficients; finding out which of them are determined costs their number to the power of three."""

MOST_VARYING = 60
"""Effects that vary together by one factor: their covariance has half the square of it as parameters."""

LARGEST, SMALLEST = 1e75, 1e-75
"""Sizes whose squares and cross-products still have all their digits."""

ALIKE = 1e-12
"""Log of the mean less mean of the logs, below which outcomes above zero are all the same."""

SHARE_OF_ONE = 0.99
"""Part of all counts that a single line item may have."""


def refuse_too_many_columns(formula: Formula, cells: CellStatistics) -> None:
    """Raise FitError where the categorical predictors have so many levels that the model would not be worth its time.

    Counted from the levels, before a column is made; names the largest term and what to write instead.
    """
    _refuse_columns(formula.population, cells, MOST_COLUMNS, "population-level coefficients")
    for group in formula.groups:
        _refuse_columns(group.terms, cells, MOST_VARYING, f"effects that vary together by {group.name}")


def _refuse_columns(terms: Sequence[Term], cells: CellStatistics, most: int, what: str) -> None:
    counts = {term: prod(_levels(term, cells)) for term in terms}
    if sum(counts.values()) <= most:
        return
    largest = max(counts, key=lambda term: counts[term])
    names = [name for name in map(expression_label, largest.factors) if name in cells.labels]
    advice = f"Write (1 | {_column(names[0])}) for {names[0]}, merge its levels, or use it as a number" if names else "Leave some out"
    raise FitError(
        f"The formula asks for {sum(counts.values()):,} {what}, more than {most:,}; {largest.label} has {counts[largest]:,}. {advice}."
    )


def _levels(term: Term, cells: CellStatistics) -> list[int]:
    return [len(cells.labels[name].values) for name in map(expression_label, term.factors) if name in cells.labels]


def _column(label: str) -> str:
    return label.removeprefix("C(").removesuffix(")")


def refuse_extreme_sizes(cells: CellStatistics) -> None:
    """Raise DataError where gaussian statistics hold numbers so large or small that their products are infinite or zero."""
    if not cells.has_moments:
        return
    per_row = cells.weight / cells.n
    _refuse_size("The weight of a line item", per_row.max(), per_row.min(), "only their ratios matter, so divide all by their mean")
    for index, label in enumerate((*cells.features, "The outcome")):
        sizes = np.maximum(np.abs(cells.mean[:, index]), np.sqrt(np.maximum(cells.cross[:, index, index], 0.0) / cells.weight))
        _refuse_size(label, sizes.max(), sizes.max(), "use another unit, or leave such rows out with `where`")


def _refuse_size(what: str, largest: float, smallest: float, advice: str) -> None:
    if largest > LARGEST:
        raise DataError(f"{what} is as large as {largest:.3g}, too large to calculate with: {advice}.")
    if 0 < smallest < SMALLEST:
        raise DataError(f"{what} is as small as {smallest:.3g}, too small to calculate with: {advice}.")


def refuse_outcomes_alike(cells: CellStatistics) -> None:
    """Raise FitError where all outcomes of a gamma model are the same, so that there is no dispersion to estimate."""
    if cells.log_total is None or np.ptp(cells.offset) > 0:
        return
    rows, total, logs = float(cells.size.sum()), float(cells.total.sum()), float(cells.log_total.sum())
    if total > 0 and np.log(total / rows) - logs / rows <= ALIKE:
        raise FitError(
            f"Every outcome is {total / rows:.6g} in all {rows:,.0f} line items: gamma has no dispersion to estimate. "
            "Widen the window or `where`, or look whether this is the right column."
        )


def refuse_single_outcome(cells: CellStatistics) -> None:
    """Raise DataError where one line item has nearly all that a negative binomial model counts."""
    if cells.histogram is None or cells.n_rows < 1.0 / (1.0 - SHARE_OF_ONE):
        return
    largest = cells.histogram[np.argmax(cells.histogram[:, 0])]
    total = float(cells.histogram[:, 0] @ cells.histogram[:, 1])
    if largest[1] == 1 and largest[0] > SHARE_OF_ONE * total:
        raise DataError(
            f"One line item of {cells.n_rows:,} counts {largest[0]:,.0f}, {100 * largest[0] / total:.4g} % of all: no distribution of the "
            "others can be estimated beside it. Look for a mistake, or leave it out with `where`."
        )
