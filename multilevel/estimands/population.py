"""The group of which its members are a sample: the expected value for a new member of every level.

The definition is in docs/multilevel-models.md, section 3. A factor is sampled where one of its columns is named by the study's ``sampled``.
For the levels of a factor above it, effects of sampled factors are those of a new member: mean zero, their covariance integrated. Members
in between that are not sampled keep theirs, and predictors of members keep their values, each member counted once; the common mix stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, diags_array

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting
from multilevel.estimands.bins import distinct_rows
from multilevel.estimands.crossings import crossings
from multilevel.estimands.expected_outcome import ExpectedOutcome, PartFit
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.mix_parts import split_sides
from multilevel.estimands.standardise import Standardisation, averages_of_levels, variance_parts
from multilevel.linear.mapped_joint import MappedJoint


def own_factor(nesting: Nesting, column: str) -> str | None:
    """The factor whose levels are the values of ``column``, one for each; None where there is none.

    ``customer:category`` and ``category:customer`` have a level for each pair, so neither is the factor of the customers.
    """
    for factor in nesting.factors.values():
        if factor.columns[-1] == column and len(set(factor.levels)) == factor.n_levels:
            return factor.name
    return None


def units_of(nesting: Nesting, name: str, sampled: Sequence[str]) -> str | None:
    """The factor of the first sampled column that is nested strictly below ``name``: its levels are the members; None without one."""
    for column in sampled:
        units = own_factor(nesting, column)
        if units is not None and name in nesting.ancestors[units]:
            return units
    return None


def n_sampled(nesting: Nesting, name: str, units: str) -> Integers:
    """(L,) how many members stand behind each level."""
    return np.bincount(nesting.ancestors[units][name], minlength=nesting.factors[name].n_levels)


def population(
    outcome: ExpectedOutcome, nesting: Nesting, name: str, variance: LevelVariance | None, sampled: Sequence[str], units: str
) -> Standardisation:
    """What averages the expected outcome of a new member over every level of ``name``; ``units`` from ``units_of``."""
    design = outcome.design
    # a customer is a member of an income group; of a region that customers cross, in `customer:region`, a customer is none
    members = {column for column in sampled if units_of(nesting, name, [column]) is not None}
    blocks = frozenset(
        index
        for index, block in enumerate(design.blocks)
        if members & set(block.factor.columns) and name in nesting.ancestors[block.factor.name]
    )
    inside = {design.blocks[index].factor.name for index in blocks}
    owned = nesting.own_tree(name)
    sides = split_sides(design, [owned], crossings(design, nesting, [owned]))
    silent = outcome.of([_silenced(part, _kept(part, design, blocks)) for part in outcome.parts], design)
    n, member = design.cells.line_items, nesting.factors[units].codes.astype(np.int64)
    weight = n / np.bincount(member, n)[member]
    level = nesting.factors[name].codes.astype(np.int64)
    between = [nesting.factors[other].codes.astype(np.int64) for other in sorted(owned - {name} - inside)]
    own_predictors = [split[0] for split in sides.population if np.ptp(split[0]) > 0]
    inner = [*between, *([distinct_rows(own_predictors, len(n))] if own_predictors else [])]
    parts = variance_parts(variance, nesting, owned, design.cells.n_cells, without=frozenset(inside))
    # bins are cut where a new member's predictor lies; their rows leave its effects out
    return replace(averages_of_levels(silent, sides, level, inner, parts, weight=weight, integrated=blocks), outcome=outcome)


def _kept(part: PartFit, design: Design, blocks: frozenset[int]) -> Floats:
    """(p + q,) of the part: 0 for the effects of ``blocks`` of the layout, else 1."""
    layout = np.ones(len(design.population) + design.n_effects)
    for index in blocks:
        start = len(design.population) + design.starts[index]
        layout[start : start + design.blocks[index].n_effects] = 0.0
    return layout if part.places is None else layout[part.places]


def _silenced(part: PartFit, kept: Floats) -> PartFit:
    """The part with the coefficients at zero that are not ``kept`` (p + q,)."""
    chosen = csr_array(diags_array(kept))
    theta = None if part.fit.theta is None else part.fit.theta.mapped(chosen)
    return PartFit(replace(part.fit, joint=MappedJoint(part.fit.joint, chosen), theta=theta), part.places)
