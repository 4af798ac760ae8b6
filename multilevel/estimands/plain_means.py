"""Plain means of groups, as a GROUP BY gives them, with the error that dependent line items leave them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.arrays import Floats
from multilevel.cells.observed import observed_errors_by_unit, observed_means
from multilevel.cells.unit_sums import UnitSums, cell_places
from multilevel.design.model import Design, Factor


def plain_means(
    design: Design, factor: Factor, sampled: Sequence[str] = (), units: Sequence[UnitSums] = ()
) -> tuple[Floats, Floats] | None:
    """(L,) plain means of the levels' line items and their standard errors; None where the cells do not have them.

    Parameters
    ----------
    design : of all line items. sampled : columns whose values are a sample: errors are over the units of the first, NaN for levels with
        one unit, and for all levels where its sums were not kept. Without any they are over line items. units : sums by cell and unit of
        the columns that the formula leaves out.
    """
    cells, level = design.cells, factor.codes.astype(np.int64)
    if cells.observed is None:
        return None
    mean, error = observed_means(cells.observed, level, cells.n, factor.n_levels)
    if not sampled:
        return mean, error
    n = cells.n.astype(np.float64)
    size = n * cells.observed.size
    total = np.bincount(level, size, factor.n_levels)
    if sampled[0] in cells.groups:
        unit = cells.groups[sampled[0]].codes.astype(np.int64)
        return mean, observed_errors_by_unit(level, unit, n * cells.observed.mean, size, mean, total)
    for sums in units:
        if sums.column == sampled[0]:
            own, of_unit = level[cell_places(sums, cells.key)], sums.unit.astype(np.int64)
            return mean, observed_errors_by_unit(own, of_unit, sums.n * sums.outcome, sums.n * sums.outcome_size, mean, total)
    return mean, np.full(factor.n_levels, np.nan)
