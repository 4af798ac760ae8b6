"""The mix common to all groups, from a table of weights that the study names (poststratification; Gelman and Hill 2006, section 14.1).

The table names some columns of the cell key and a weight for each combination of their values. What it does not name stays as in the data:
within each combination the weight is spread over its cells in proportion to their rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.arrays import Floats, Integers
from multilevel.cells.statistics import CellStatistics
from multilevel.errors import StudyError

MOST_NAMED = 5
"""Values that a message lists."""


_BOOLEANS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class MixTable:
    """Weights of S combinations.

    columns : name -> (S,) the values as text, numbers as DuckDB writes them. weight : (S,) finite, none negative, their sum above zero.
    name : what messages call the table.
    """

    columns: Mapping[str, Sequence[str]]
    weight: Floats
    name: str = "standardise_to"


def key_columns(cells: CellStatistics) -> tuple[str, ...]:
    """What a table of weights may name: grouping columns, categorical predictors and numeric predictors of the cell key."""
    return tuple(dict.fromkeys([*cells.groups, *cells.labels, *cells.numbers]))


def with_mix(cells: CellStatistics, table: MixTable) -> CellStatistics:
    """The cells with the table's weights as their common mix.

    Raises
    ------
    StudyError
        A column that is not in the cell key, a value that no cell has, or a combination with weight but without line items; each is named.
    """
    _check_columns(cells, table)
    of_cells, of_table = [], []
    for name, values in table.columns.items():
        places, codes = _matched(cells, name, values, table.name)
        of_cells.append(codes)
        of_table.append(places)
    cell, row = _combined(of_cells, of_table)
    n_combinations = int(max(cell.max(), row.max())) + 1
    wanted = np.bincount(row, table.weight, n_combinations)
    rows = np.bincount(cell, cells.n, n_combinations)
    unseen = np.flatnonzero((wanted > 0) & (rows == 0))
    if len(unseen):
        first = int(np.flatnonzero(row == unseen[0])[0])
        named = ", ".join(f"{name} {values[first]}" for name, values in table.columns.items())
        raise StudyError(
            f"{table.name}: no line item has {named} ({len(unseen)} such combinations of {len(np.unique(row))}), so nothing is known "
            "of what goes with it. Give the combination weight 0 or leave it out, or name fewer columns."
        )
    items = cells.line_items
    within = np.bincount(cell, items, n_combinations)
    mix = wanted[cell] * items / np.where(within > 0, within, 1.0)[cell]
    return replace(cells, mix=mix * cells.n.sum() / mix.sum())


def _check_columns(cells: CellStatistics, table: MixTable) -> None:
    known = key_columns(cells)
    if not table.columns:
        raise StudyError(f"{table.name}: the table has no column besides weight; name one or more of {', '.join(known)}.")
    for name in table.columns:
        if name in cells.features:
            raise StudyError(
                f"{table.name}: {name} is continuous: the cells keep its means, not its values, so it has no mix. Leave it out, or write "
                f"bin({name}, width) in the formula."
            )
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise StudyError(f"{table.name}: the model has no {name}; {hint}the columns may be {', '.join(known)}, and weight.")


def _matched(cells: CellStatistics, name: str, values: Sequence[str], table: str) -> tuple[Integers, Integers]:
    """(S,) place of each of the table's values among the known ones, and (C,) that of each cell's."""
    labels = cells.groups.get(name) or cells.labels.get(name)
    if labels is not None:
        known: NDArray[np.generic] = np.asarray(labels.values.astype(str))
        codes = labels.codes.astype(np.int64)
        given: NDArray[np.generic] = np.asarray(values, dtype=str)
    else:
        known, places = np.unique(cells.numbers[name], return_inverse=True)
        codes = places.astype(np.int64)
        given = _numbers(values, name, table)
    order = np.argsort(known)
    at = np.minimum(np.searchsorted(known[order], given), len(known) - 1)
    found = order[at]
    strangers = list(dict.fromkeys(str(value) for value, ok in zip(given, known[found] == given, strict=True) if not ok))
    if strangers:
        more = f" and {len(strangers) - MOST_NAMED} more" if len(strangers) > MOST_NAMED else ""
        has = ", ".join(str(value) for value in known[:MOST_NAMED]) + (", ..." if len(known) > MOST_NAMED else "")
        raise StudyError(
            f"{table}: {name} {', '.join(strangers[:MOST_NAMED])}{more}: no line item of the fit has it; it has {has}. "
            "Leave such rows out of the table, or correct how the value is written."
        )
    return found.astype(np.int64), codes


def _numbers(values: Sequence[str], name: str, table: str) -> Floats:
    found = np.empty(len(values))
    for place, value in enumerate(values):
        try:
            found[place] = _BOOLEANS[value] if value in _BOOLEANS else float(value)
        except ValueError as error:
            raise StudyError(f"{table}: {name} {value}: this predictor is a number; write numbers.") from error
    return found


def _combined(of_cells: Sequence[Integers], of_table: Sequence[Integers]) -> tuple[Integers, Integers]:
    """Codes of combinations, the same for cells and table."""
    n_cells = len(of_cells[0])
    codes = np.zeros(n_cells + len(of_table[0]), dtype=np.int64)
    for cell, row in zip(of_cells, of_table, strict=True):
        value = np.concatenate([cell, row])
        _, codes = np.unique(codes * (int(value.max()) + 1) + value, return_inverse=True)
    return codes[:n_cells].astype(np.int64), codes[n_cells:].astype(np.int64)
