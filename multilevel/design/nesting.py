"""Which grouping factor's levels lie inside which other's: a fact of the cells, whatever the formula wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Codes, Floats, Integers, distinct
from multilevel.design.model import Design, Factor
from multilevel.design.predictor_kinds import rounding_of


@dataclass(frozen=True)
class Nesting:
    """The factors of a design and their ancestors.

    factors : by name, in the order of the blocks.
    ancestors : factor -> ancestor -> (L,) the ancestor's level of each of the factor's levels; coarsest ancestor first.
    """

    factors: Mapping[str, Factor]
    ancestors: Mapping[str, Mapping[str, Integers]]

    def lineage(self, name: str) -> dict[str, Integers]:
        """Ancestors, then the factor itself: for each the (L,) level that each level of ``name`` belongs to."""
        own = {name: np.arange(self.factors[name].n_levels, dtype=np.int64)}
        return {**self.ancestors[name], **own}

    def own_tree(self, name: str) -> frozenset[str]:
        """The factor, its ancestors, and every factor inside one of them: what the standardisation leaves at a level's own mix.

        An interaction with a factor outside is not inside: its levels go with those of the common mix.
        """
        tree = {name, *self.ancestors[name]}
        for other in sorted(self.factors, key=lambda factor: self.factors[factor].n_levels):
            above = set(self.ancestors[other])
            if above & tree and (above <= tree or not self.is_interaction(other, tree)):
                tree.add(other)
        return frozenset(tree)

    def is_interaction(self, name: str, tree: set[str]) -> bool:
        """Whether a factor has one level for each combination of its ancestors, some of them outside ``tree``."""
        above = self.ancestors[name]
        if set(above) <= tree:
            return False
        combination = np.zeros(self.factors[name].n_levels, dtype=np.int64)
        for levels in above.values():
            found, combination = distinct(combination * (int(levels.max()) + 1) + levels)
        return len(found) == len(combination)

    def parent(self, name: str) -> str | None:
        """The factor that ``parent_level`` speaks of: the design's own choice where it is fitted, else the finest ancestor."""
        written = self.factors[name].parent_name
        if written in self.ancestors[name]:
            return written
        return list(self.ancestors[name])[-1] if self.ancestors[name] else None


def nesting(design: Design) -> Nesting:
    """Read the nesting off the cells' codes."""
    factors: dict[str, Factor] = {}
    for block in design.blocks:
        factors.setdefault(block.factor.name, block.factor)
    coarse_first = sorted(factors.values(), key=lambda factor: factor.n_levels)
    ancestors = {
        name: {
            other.name: levels
            for other in coarse_first
            if other.n_levels < factor.n_levels and (levels := _levels_above(factor, other)) is not None
        }
        for name, factor in factors.items()
    }
    return Nesting(factors, ancestors)


def first_cell(codes: Codes | Integers, n_levels: int) -> Integers:
    """(L,) the first cell of each level; every level has one."""
    first = np.zeros(n_levels, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1, dtype=np.int64)
    return first


def is_constant_within(values: Floats, codes: Codes | Integers, n_levels: int) -> bool:
    """Whether ``values`` (C,) does not differ between cells of one level, up to rounding."""
    centre = values[first_cell(codes, n_levels)][codes]
    return bool(np.all(np.abs(values - centre) <= rounding_of(values)))


def _levels_above(factor: Factor, other: Factor) -> Integers | None:
    levels = other.codes[first_cell(factor.codes, factor.n_levels)].astype(np.int64)
    return levels if np.array_equal(levels[factor.codes], other.codes) else None
