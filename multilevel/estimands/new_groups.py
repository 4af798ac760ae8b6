"""Expected outcomes of groups never seen: which mix a new group is averaged over; what is expected of it, its outcome says."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from multilevel.design.nesting import Nesting
from multilevel.estimands.mix_parts import averaging, pair_rows
from multilevel.estimands.new_group_mix import NewMixes
from multilevel.estimands.new_levels import NewLevels
from multilevel.estimands.standardise import Standardisation
from multilevel.fit.container import Summary


def new_group_estimates(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels, seed: int) -> Summary:
    """(M,) expected outcomes of the new levels of factor ``name``."""
    return standard.outcome.new_levels(new_mixes(standard, nesting, name, new), seed)


def new_mixes(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels) -> NewMixes:
    """The mixes of the new levels of factor ``name``."""
    design = standard.outcome.design
    parents = _parent_averages(standard, nesting, name, new)
    common = averaging(standard.common.codes, standard.common.n_bins, design.cells.common_weight)
    below = tuple(index for index, block in enumerate(design.blocks) if name in nesting.ancestors[block.factor.name])
    own = tuple(index for index, block in enumerate(design.blocks) if block.factor.name == name)
    rows = pair_rows(standard.sides, [parents, common], frozenset(below + own))
    own_variance = np.asarray(parents @ standard.own_variance[standard.own.codes])
    weights = standard.common.weight * standard.common.ratio * np.exp(np.outer(own_variance, standard.common_variance) / 2.0)
    return NewMixes(standard.sides, parents, common, own, below, rows, weights, standard.common.spread)


def _parent_averages(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels) -> csr_array:
    """(M, C) the mix of each new level: its parent's, or everyone's."""
    cells = standard.outcome.design.cells
    n = cells.line_items
    factor = nesting.factors[name]
    if factor.parents is None:
        everyone = csr_array((n / n.sum()).reshape(1, -1))
        return csr_array(everyone[np.zeros(len(new), dtype=np.int64)])
    _, group = np.unique(factor.parents.astype(str), return_inverse=True)
    average = averaging(group[factor.codes], int(group.max()) + 1, n)
    return csr_array(average[group[new.sibling]])
