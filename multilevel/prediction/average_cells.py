"""The cells of every published average: whose labels tell them apart, what they weigh, and the fitted outcome in each.

Fitted values are on the scale of the outcome, at the estimates, and scaled by level (under the identity link shifted, by rounding alone) so
that sum of w h is the published estimate: under a curved link that is a mean over draws, or over bins, which differs a little.

Bounds: a factor keeps at most ``MOST_PAIRS`` fitted values, or where distances between mix cells are the same for all own cells
``MOST_CELLS`` cells a side. Beyond, columns are left out one by one, numbers first and then the one with most labels, and cells that
differ in no other column are one, fitted at their average line item: sums stay exact, the split gets coarser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from multilevel.arrays import Codes, Floats, Integers, distinct
from multilevel.cells.statistics import Labels
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting, is_constant_within
from multilevel.estimands.binning import level_bins
from multilevel.estimands.bins import distinct_rows
from multilevel.estimands.expected_outcome import ExpectedOutcome, PartRows
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.mix_parts import Sides, averaging, bin_means, pair_values
from multilevel.estimands.population import population, units_of
from multilevel.estimands.standardise import Standardisation, standardise, variance_parts
from multilevel.prediction.saved_averages import published_estimates
from multilevel.prediction.saved_cells import CellSide, Key, Level, SavedCells

MOST_PAIRS = 500_000
"""Fitted values of one factor: 4 MB."""

MOST_CELLS = 100_000
"""Cells of one side of one factor."""


@dataclass(frozen=True)
class _Column:
    """What tells cells apart: ``codes`` (C,) into ``labels``."""

    name: str
    codes: Codes | Integers
    labels: Sequence[str]
    is_number: bool = False


def average_cells(
    outcome: ExpectedOutcome, tree: Nesting, variance: LevelVariance | None, table: pa.Table, sampled: Sequence[str] = ()
) -> tuple[SavedCells, ...]:
    """Of every factor, the headline's first where it has two; none of a factor of more than ``MOST_CELLS`` levels.

    Parameters
    ----------
    outcome, tree, variance, sampled : those that ``table``, the published ``group_estimates``, was made of.
    """
    found = []
    for name, factor in tree.factors.items():
        if factor.n_levels > MOST_CELLS:
            continue
        units = units_of(tree, name, sampled)
        if units is not None:
            standard = population(outcome, tree, name, variance, sampled, units)
            found.append(_of_factor(name, standard, tree, variance, table, "population"))
        found.append(_of_factor(name, standardise(outcome, tree, name, variance), tree, variance, table, "members"))
    return tuple(found)


def _of_factor(
    name: str,
    standard: Standardisation,
    tree: Nesting,
    variance: LevelVariance | None,
    table: pa.Table,
    of: Literal["members", "population"],
) -> SavedCells:
    factor, design = tree.factors[name], standard.outcome.design
    levels: list[Level] = [
        (None if factor.parents is None else str(factor.parents[at]), str(label)) for at, label in enumerate(factor.levels)
    ]
    published = published_estimates(table, name, of)
    target = np.array([published[level][0] for level in levels], dtype=np.float64)
    integrated = frozenset(design.blocks[block].factor.name for block in standard.integrated)
    is_additive = standard.outcome.is_linear and _is_additive(standard.sides)
    own_columns = _own_columns(design, tree, name, integrated, standard.sides if of == "population" else None)
    mix_columns = _mix_columns(design, tree, name)
    own, mix = _bounded(factor.codes, own_columns, mix_columns, is_additive)
    detailed = _detailed(standard, tree, name, variance, integrated, own[1], mix[1])
    found = (_additive if is_additive else _joint)(detailed)
    own_weight = detailed.own.weight
    common = design.cells.common_weight
    kept = SavedCells(
        name,
        of,
        tuple(levels),
        detailed.own.level,
        _side(own, own_columns, own_weight),
        _side(mix, mix_columns, np.bincount(mix[1], common, detailed.common.n_bins) / common.sum()),
        *found,
    )
    return _scaled(kept, target, standard.outcome.is_linear)


def _side(cells: tuple[list[_Column], Integers], known: Sequence[_Column], weight: Floats) -> CellSide:
    columns, codes = cells
    first = np.zeros(len(weight), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    texts = [[column.labels[code] for code in column.codes[first]] for column in columns]
    keys: tuple[Key, ...] = tuple(zip(*texts, strict=True)) if texts else ((),) * len(weight)
    names = tuple(column.name for column in columns)
    numbers = tuple(column.name for column in columns if column.is_number)
    return CellSide(names, keys, weight, numbers, tuple(column.name for column in known if column.name not in names))


def _own_columns(design: Design, tree: Nesting, name: str, integrated: frozenset[str], sides: Sides | None) -> list[_Column]:
    """Grouping columns below the level, and for new members (``sides``) predictors of members; effects of ``integrated`` are nobody's."""
    lineage = {name, *tree.ancestors[name]}
    inside = sorted(tree.own_tree(name) - lineage - integrated)
    known = {column for factor in lineage for column in tree.factors[factor].columns}
    columns = dict.fromkeys(column for factor in inside for column in tree.factors[factor].columns if column not in known)
    found = [_labelled(column, design.cells.groups[column]) for column in columns]
    if sides is not None:
        for column, split in zip(design.population, sides.population, strict=True):
            if np.ptp(split[0]) > 0 and column.label not in columns:
                found.append(_numbered(column.label, split[0]))
    return found


def _mix_columns(design: Design, tree: Nesting, name: str) -> list[_Column]:
    """Grouping columns of other trees, and predictors that vary within the members of this one."""
    cells, owned = design.cells, tree.own_tree(name)
    own_columns = {column for factor in owned for column in tree.factors[factor].columns}
    others = {column for factor in tree.factors.keys() - owned for column in tree.factors[factor].columns}
    whole = {tree.factors[factor].columns[0] for factor in tree.factors.keys() - owned if len(tree.factors[factor].columns) == 1}
    found = [_labelled(column, cells.groups[column]) for column in sorted((others - own_columns) | (whole & others))]
    found += [_labelled(label, labels) for label, labels in cells.labels.items() if not _is_own(labels.codes.astype(float), tree, owned)]
    numbers = dict(cells.numbers) | {label: cells.mean[:, at] for at, label in enumerate(cells.features) if ":" not in label}
    return found + [_numbered(label, values) for label, values in numbers.items() if not _is_own(values, tree, owned)]


def _is_own(values: Floats, tree: Nesting, owned: frozenset[str]) -> bool:
    return any(is_constant_within(values, tree.factors[name].codes, tree.factors[name].n_levels) for name in owned)


def _labelled(name: str, labels: Labels) -> _Column:
    return _Column(name, labels.codes, [str(value) for value in labels.values])


def _numbered(name: str, values: Floats) -> _Column:
    """A number's labels: it to one significant digit, so that two versions have the same."""
    found, places = distinct(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = 10.0 ** np.floor(np.log10(np.abs(found)))
        rounded = np.where(found == 0.0, 0.0, np.round(found / unit) * unit)
    texts = [f"{value:.1g}" for value in np.nan_to_num(rounded).tolist()]
    labels, codes = np.unique(np.array(texts, dtype=object), return_inverse=True)
    return _Column(name, codes.astype(np.int64)[places], [str(label) for label in labels], is_number=True)


def _bounded(
    level: Codes, own: list[_Column], mix: list[_Column], is_additive: bool
) -> tuple[tuple[list[_Column], Integers], tuple[list[_Column], Integers]]:
    """Columns of both sides with the cells (C,) that they tell apart, within the bounds."""
    own, own_codes = _at_most(MOST_CELLS, [level], own, len(level))
    most = MOST_CELLS if is_additive else min(MOST_CELLS, max(1, MOST_PAIRS // _count(own_codes)))
    return (own, own_codes), _at_most(most, [], mix, len(level))


def _at_most(most: int, first: Sequence[Codes | Integers], columns: list[_Column], n_cells: int) -> tuple[list[_Column], Integers]:
    """The columns, less the widest ones, that tell at most so many cells apart, with the cells (C,)."""
    while True:
        # each label occurs in a cell, so there are at least as many cells as labels
        if not columns or max(len(column.labels) for column in columns) <= most:
            codes = _cells(first, columns, n_cells)
            if not columns or _count(codes) <= most:
                return columns, codes
        columns = _without_widest(columns)


def _cells(first: Sequence[Codes | Integers], columns: list[_Column], n_cells: int | None = None) -> Integers:
    return distinct_rows([*first, *(column.codes for column in columns)], len(first[0]) if n_cells is None else n_cells)


def _count(codes: Integers) -> int:
    return int(codes.max()) + 1


def _without_widest(columns: list[_Column]) -> list[_Column]:
    widest = max(columns, key=lambda column: (column.is_number, len(column.labels)))
    return [column for column in columns if column is not widest]


def _is_additive(sides: Sides) -> bool:
    """Whether, on the link scale, what a mix cell adds is the same for all own cells."""
    if sides.crossings or -1 in sides.home:
        return False
    if any(np.ptp(split[0]) > 0 and np.ptp(split[-1]) > 0 for split in sides.population):
        return False
    columns = [(home, split) for home, block in zip(sides.home, sides.effects, strict=True) for split in block]
    return not any(np.ptp(split[0] if home == sides.n_sides else split[-1]) > 0 for home, split in columns)


def _detailed(
    standard: Standardisation,
    tree: Nesting,
    name: str,
    variance: LevelVariance | None,
    integrated: frozenset[str],
    own_codes: Integers,
    mix_codes: Integers,
) -> Standardisation:
    """The same averages over these cells in place of bins."""
    design = standard.outcome.design
    level = tree.factors[name].codes.astype(np.int64)
    n_own, n_mix = _count(own_codes), _count(mix_codes)
    own_part, common_part = variance_parts(variance, tree, tree.own_tree(name), design.cells.n_cells, without=integrated)
    own = level_bins(own_codes, level, standard.own_weight, (np.ones(n_own), np.zeros(n_own)))
    common = standard.outcome.bins_of(standard.sides, mix_codes, own_part=own_part, common_part=common_part)
    own_variance = bin_means(own_codes, n_own, standard.own_weight, own_part)
    common_variance = bin_means(mix_codes, n_mix, design.cells.common_weight, common_part)
    return replace(standard, own=own, common=common, own_variance=own_variance, common_variance=common_variance)


def _fitted(standard: Standardisation) -> Floats:
    """(I, J) what is expected in every pair of cells."""
    ones = np.ones(standard.own.n_bins), np.ones(standard.common.n_bins)
    single = replace(standard, own=replace(standard.own, weight=ones[0]), common=replace(standard.common, weight=ones[1]))
    pieces = [_at_estimates(single.outcome, rows) * np.asarray(weights.sum(axis=0)).ravel() for rows, weights in single.chunks()]
    return np.concatenate(pieces).reshape(standard.own.n_bins, standard.common.n_bins)


def _at_estimates(outcome: ExpectedOutcome, rows: PartRows) -> Floats:
    """(m,) what is expected at ``rows``."""
    return outcome.expected([np.asarray(own @ part.fit.joint.mean) for own, part in zip(rows, outcome.parts, strict=True)])


def _joint(standard: Standardisation) -> tuple[Floats, Floats, Floats]:
    joint = _fitted(standard)
    return joint @ standard.common.weight, np.zeros(standard.common.n_bins), joint


def _additive(standard: Standardisation) -> tuple[Floats, Floats, None]:
    nowhere, common_weight = np.zeros(len(standard.own.codes), dtype=np.int64), standard.outcome.design.cells.common_weight
    own = csr_array(averaging(standard.own.codes, standard.own.n_bins, standard.own_weight))
    mix = csr_array(averaging(standard.common.codes, standard.common.n_bins, common_weight))
    one_own = csr_array(averaging(nowhere, 1, standard.own_weight))
    one_mix = csr_array(averaging(nowhere, 1, common_weight))
    [mean] = [part.fit.joint.mean for part in standard.outcome.parts]
    fitted = pair_values(standard.sides, (own, one_mix), mean, standard.integrated)
    of_mix = pair_values(standard.sides, (one_own, mix), mean, standard.integrated)
    return fitted, of_mix - of_mix @ standard.common.weight, None


def _scaled(cells: SavedCells, target: Floats, is_linear: bool) -> SavedCells:
    """The cells with averages ``target`` (L,)."""
    averages = cells.averages()
    if is_linear:
        shift = (target - averages)[cells.level]
        joint = None if cells.joint is None else cells.joint + shift[:, None]
        return replace(cells, fitted=cells.fitted + shift, joint=joint)
    scale = (target / averages)[cells.level]
    joint = None if cells.joint is None else cells.joint * scale[:, None]
    return replace(cells, fitted=cells.fitted * scale, joint=joint)
