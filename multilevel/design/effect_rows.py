"""Sparse rows that pick coefficients out of (beta, b): one row per level of a factor, for one term."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import coo_array, csr_array

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Design


def terms_of(design: Design, factor: str) -> dict[str, tuple[int, int]]:
    """Term -> (block, column) of every term that varies by ``factor``."""
    return {
        column.label: (index, place)
        for index, block in enumerate(design.blocks)
        if block.factor.name == factor
        for place, column in enumerate(block.columns)
    }


def population_index(design: Design, label: str) -> int | None:
    """Where the coefficient of that label stands in beta, or None."""
    return next((place for place, column in enumerate(design.population) if column.label == label), None)


def effect_places(design: Design, block: int, column: int, levels: Integers) -> Integers:
    """Columns of (beta, b) where the effects of one column of one block stand, for the given levels."""
    width = len(design.blocks[block].columns)
    return len(design.population) + design.starts[block] + levels * width + column


def deviation_rows(design: Design, lineage: Mapping[str, Integers], term: str) -> csr_array:
    """Sum of the deviations of ``term`` over the factors of ``lineage``: (L, p + q), one row per level."""
    n_levels = len(next(iter(lineage.values())))
    here = np.arange(n_levels)
    places = [
        effect_places(design, *terms_of(design, name)[term], levels) for name, levels in lineage.items() if term in terms_of(design, name)
    ]
    rows = np.tile(here, len(places))
    columns = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
    return _ones(rows, columns, n_levels, design)


def add_population(design: Design, rows: csr_array, values: Mapping[int, Floats]) -> csr_array:
    """``rows`` plus ``values[place]`` (m,) times each population coefficient named by its place."""
    if not values:
        return rows
    n_rows = rows.shape[0]
    data = np.concatenate([np.broadcast_to(value, n_rows) for value in values.values()])
    columns = np.concatenate([np.full(n_rows, place, dtype=np.int64) for place in values])
    extra = coo_array((data, (np.tile(np.arange(n_rows), len(values)), columns)), shape=rows.shape)
    return csr_array(rows + extra.tocsr())


def coefficient_rows(design: Design, lineage: Mapping[str, Integers], term: str) -> csr_array:
    """(L, p + q): the population coefficient of ``term`` and its deviations over the factors of ``lineage``."""
    deviations, place = deviation_rows(design, lineage, term), population_index(design, term)
    return deviations if place is None else add_population(design, deviations, {place: np.ones(1)})


def _ones(rows: Integers, columns: Integers, n_rows: int, design: Design) -> csr_array:
    shape = (n_rows, len(design.population) + design.n_effects)
    return csr_array(coo_array((np.ones(len(rows)), (rows, columns)), shape=shape))
