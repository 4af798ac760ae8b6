"""Predictors that are constant within a factor's levels, and cross-level terms: what ``fitted_value`` adds to a coefficient."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.model import Design, DesignColumn, Factor
from multilevel.design.nesting import first_cell, is_constant_within

_OUTSIDE_BRACKETS = re.compile(r":(?![^\[(]*[\])])")

GROUP_KINDS = frozenset({"group_level", "between", "contextual", "cross_level"})


def parts(label: str) -> list[str]:
    """The factors of a term: ``x:size[L]`` gives ``x`` and ``size[L]``; ``Intercept`` gives none."""
    return [] if label == "Intercept" else _OUTSIDE_BRACKETS.split(label)


def column_values(design: Design, column: DesignColumn) -> Floats:
    """(C,) the column's value in each cell: of a continuous feature, its mean there."""
    if column.feature == 0:
        return column.multiplier
    return np.asarray(column.multiplier * design.cells.mean[:, column.feature - 1])


def part_values(design: Design, part: str) -> Floats | None:
    """(C,) the values of one factor of a term, wherever the design or the cells keep it; None where they do not."""
    cells = design.cells
    columns = [*design.population, *(column for block in design.blocks for column in block.columns)]
    for column in columns:
        if column.label == part:
            return column_values(design, column)
    if part in cells.numbers:
        return np.asarray(cells.numbers[part], float)
    if part in cells.features:
        return np.asarray(cells.mean[:, cells.features.index(part)])
    name, bracket, level = part.partition("[")
    if bracket and name in cells.labels:
        labels = cells.labels[name]
        return np.asarray(labels.values[labels.codes] == level.removesuffix("]"), float)
    return None


def predictors_of(design: Design, factor: Factor, term: str) -> dict[int, Floats]:
    """Group-level predictors of a coefficient: place in beta -> (L,) what multiplies it at each level.

    For ``Intercept`` these are the columns constant within the factor; for ``x`` the cross-level terms ``x:u`` with u constant there.
    """
    found: dict[int, Floats] = {}
    first = first_cell(factor.codes, factor.n_levels)
    for place, column in enumerate(design.population):
        values = _level_multiplier(design, factor, column, term)
        if values is not None:
            found[place] = values[first]
    return found


def _level_multiplier(design: Design, factor: Factor, column: DesignColumn, term: str) -> Floats | None:
    """(C,) what multiplies the term's coefficient in this column, where it is constant within the factor; else None."""
    if column.kind not in GROUP_KINDS:
        return None
    own, rest = parts(term), parts(column.label)
    for part in own:
        if part not in rest:
            return None
        rest.remove(part)
    if not rest:
        return None
    if not own:
        values: Floats | None = column_values(design, column)
    else:
        pieces = [part_values(design, part) for part in rest]
        values = None if any(piece is None for piece in pieces) else np.prod([p for p in pieces if p is not None], axis=0)
    if values is None or not is_constant_within(values, factor.codes, factor.n_levels):
        return None
    return values


def has_group_predictors(design: Design) -> bool:
    """Whether any population column is a group-level predictor, a group mean, or a cross-level term."""
    return any(column.kind in GROUP_KINDS for column in design.population)


def without_group_predictors(design: Design) -> Design:
    """The same design less its group-level predictors and their cross-level terms."""
    return replace(design, population=tuple(column for column in design.population if column.kind not in GROUP_KINDS))
