"""Formula and cells to ``Design``: the columns of X and Z over cells, the grouping factors, and how each column is to be read."""

from __future__ import annotations

import numpy as np

from multilevel.cells.statistics import CellStatistics
from multilevel.design.aliasing import independent_columns
from multilevel.design.coding import code_terms
from multilevel.design.factors import build_factors
from multilevel.design.limits import refuse_extreme_sizes, refuse_too_many_columns
from multilevel.design.model import Design, GroupBlock, with_shared_columns
from multilevel.design.predictor_kinds import interpret, reader_of
from multilevel.errors import FitError
from multilevel.formula.tree import Formula


def build_design(formula: Formula, cells: CellStatistics) -> Design:
    """The model matrix over cells.

    Parameters
    ----------
    formula : from ``parse_formula``.
    cells : statistics made for the same formula.

    Returns
    -------
    Design
        Population columns without those that earlier ones determine (named in ``aliased``), and one block per group term.

    Raises
    ------
    FitError
        If there are no rows, far too many columns, or the cells were made for another formula.
    DataError
        Numbers too large or too small to calculate with.
    """
    if cells.n_cells == 0 or cells.n_rows == 0:
        raise FitError("There are no rows to fit: the window, `where` or the quarantine left none.")
    refuse_too_many_columns(formula, cells)
    refuse_extreme_sizes(cells)
    factors = build_factors(formula.groups, cells)
    reader = reader_of(cells, factors, formula.population)
    ones = np.ones(cells.n_cells)
    coded = code_terms(formula.population, cells, ones)
    kept = independent_columns(coded, cells)
    blocks = tuple(
        GroupBlock(factors[group.columns], tuple(interpret(column, reader) for column in code_terms(group.terms, cells, ones)))
        for group in formula.groups
    )
    found = Design(
        cells=cells,
        population=tuple(interpret(column, reader) for column, keep in zip(coded, kept, strict=True) if keep),
        blocks=blocks,
        aliased=tuple(column.label for column, keep in zip(coded, kept, strict=True) if not keep),
    )
    return with_shared_columns(found)
