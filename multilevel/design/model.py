"""The design of a model over cells: which columns multiply which coefficients, and which level each cell belongs to.

Every design column is ``multiplier[cell] * feature[row]``: the multiplier is what the cell key fixes (dummies, discrete predictors,
group-level predictors), the feature is a continuous row-level predictor kept through its moments (gaussian) or the constant 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from multilevel.arrays import Codes, Floats
from multilevel.cells.statistics import CellStatistics

type PredictorKind = Literal["individual", "group_level", "within", "between", "contextual", "cross_level"]


@dataclass(frozen=True)
class DesignColumn:
    """One column of X or Z.

    label : as the tables write it: ``Intercept``, ``x``, ``size[L]``, ``x:size[L]``.
    multiplier : (C,) what the cell fixes.
    feature : 0 for the constant 1, else 1 + the index into ``CellStatistics.features``.
    kind, constant_within : how to read it: the coarsest factor within whose levels it is constant, or None.
    numbers, indicators : what it is the product of: labels of numeric expressions (in ``CellStatistics.numbers`` or ``features``), and
        (categorical predictor, place of the level).
    shift : taken off the feature (see ``multilevel.design.unit_free``).
    """

    label: str
    multiplier: Floats
    feature: int = 0
    kind: PredictorKind = "individual"
    constant_within: str | None = None
    numbers: tuple[str, ...] = ()
    indicators: tuple[tuple[str, int], ...] = ()
    shift: float = 0.0


@dataclass(frozen=True)
class Factor:
    """A grouping factor over cells: ``levels[codes[c]]`` is the level of cell c.

    ``name``: ``department:category``; ``columns``: its columns, outermost first; ``levels``: (L,) str, the innermost column's label;
    ``parents``: (L,) str, the labels of the outer columns joined by colons, or None for a single column; ``parent_name``: the factor
    they are levels of, or None. Levels are sorted by (parent, level). Nesting found in the data (every level of a single-column factor
    inside one level of another factor) sets ``parent_name`` and ``parents`` too, the name staying as written.
    """

    name: str
    columns: tuple[str, ...]
    codes: Codes
    levels: NDArray[np.object_]
    parents: NDArray[np.object_] | None = None
    parent_name: str | None = None

    @property
    def n_levels(self) -> int:
        """How many levels were seen."""
        return len(self.levels)


@dataclass(frozen=True)
class GroupBlock:
    """Group-level effects that share one covariance matrix: k columns for each of the factor's L levels.

    In the stacked effects b a block occupies L * k places, level by level (level-major): place ``start + level * k + column``.
    """

    factor: Factor
    columns: tuple[DesignColumn, ...]

    @property
    def n_effects(self) -> int:
        """L * k."""
        return self.factor.n_levels * len(self.columns)

    @cached_property
    def n_seen_levels(self) -> int:
        """Levels that have rows: of a hurdle's amounts some may have none."""
        return int(np.count_nonzero(np.bincount(self.factor.codes)))


@dataclass(frozen=True)
class Design:
    """The whole model matrix over cells: p population columns and the blocks of group-level effects, q places in all.

    ``aliased``: population columns left out because the others determine them (named as lme4 does).
    """

    cells: CellStatistics
    population: tuple[DesignColumn, ...]
    blocks: tuple[GroupBlock, ...]
    aliased: tuple[str, ...] = ()

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each block begins in the stacked effects b."""
        sizes = [block.n_effects for block in self.blocks]
        return tuple(int(s) for s in np.concatenate([[0], np.cumsum(sizes)])[:-1]) if sizes else ()

    @property
    def n_effects(self) -> int:
        """q, the length of b."""
        return sum(block.n_effects for block in self.blocks)


SAMPLE = 1_000
"""Cells that are compared before all are."""


def with_shared_columns(design: Design) -> Design:
    """The same with columns of equal multipliers, or equal to a numeric predictor of the cells, kept in one array."""
    kept = list(design.cells.numbers.values())

    def shared(column: DesignColumn) -> DesignColumn:
        own = column.multiplier
        for other in kept:
            if own is other:
                return column
            if np.array_equal(own[:SAMPLE], other[:SAMPLE]) and np.array_equal(own, other):
                return replace(column, multiplier=other)
        kept.append(own)
        return column

    population = tuple(map(shared, design.population))
    blocks = tuple(replace(block, columns=tuple(map(shared, block.columns))) for block in design.blocks)
    return replace(design, population=population, blocks=blocks)
