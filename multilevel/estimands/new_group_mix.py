"""What a group never seen is averaged over, and what is unknown of it, the same for one part and for two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.design.nesting import Nesting
from multilevel.estimands.mix_parts import averaging, pair_rows
from multilevel.estimands.new_levels import NewLevels
from multilevel.estimands.standardise import Standardisation
from multilevel.fit.container import Fit
from multilevel.fit.joint_draws import DrawsJoint
from multilevel.linear.joint_normal import square_root


@dataclass(frozen=True)
class NewMixes:
    """M new groups, each over the mix of its parent and the B common bins.

    parents : (M, C) the mix of each new group. common : (B, C). own, below : the blocks of the group's own effects and of those inside it.
    rows : (M B, p + q) coefficients without those blocks, group by group. weights : (M, B) of the bins' responses.
    """

    parents: csr_array
    common: csr_array
    own: tuple[int, ...]
    below: tuple[int, ...]
    rows: csr_array
    weights: Floats


def new_mixes(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels) -> NewMixes:
    """The mixes of the new levels of factor ``name``."""
    design = standard.fit.design
    parents = _parent_averages(standard, nesting, name, new)
    common = averaging(standard.common.codes, standard.common.n_bins, design.cells.common_weight)
    below = tuple(index for index, block in enumerate(design.blocks) if name in nesting.ancestors[block.factor.name])
    own = tuple(index for index, block in enumerate(design.blocks) if block.factor.name == name)
    rows = pair_rows(standard.sides, [parents, common], frozenset(below + own))
    own_variance = np.asarray(parents @ standard.own_variance[standard.own.codes])
    weights = standard.common.weight * standard.common.ratio * np.exp(np.outer(own_variance, standard.common_variance) / 2.0)
    return NewMixes(parents, common, own, below, rows, weights)


def new_effects(fit: Fit, block: int, size: int, rng: np.random.Generator) -> Floats:
    """(S, k) draws of b ~ N(0, Sigma), with each draw's own Sigma where the engine keeps them."""
    plain = fit if fit.unit_free is None else fit.unit_free
    covariance, back = plain.covariances[block], np.eye(len(fit.covariances[block]))
    if fit.unit_free is not None:
        back = fit.unit_free.form.maps.blocks[block]
    noise = rng.standard_normal((size, len(covariance)))
    noise = noise - noise.mean(axis=0)
    if plain.covariance_draws is None:
        return np.asarray(noise @ square_root(covariance).T @ back.T)
    covariances = plain.covariance_draws[block]
    if isinstance(fit.joint, DrawsJoint):
        covariances = covariances[fit.joint.kept(size)]
    return np.asarray(np.einsum("sij,sj->si", square_root(covariances), noise) @ back.T)


def shifts_of_groups(fit: Fit, rows: csr_array, share: Floats, size: int, rng: np.random.Generator) -> Floats:
    """(M, S) draws of how far all bins of each new group move together: by the standard error of their average linear predictor.

    ``rows`` (M B, p + q) and ``share`` (M, B), how much each bin counts. The normal approximation moves them so: what is unknown of the
    coefficients is small beside the new effect, and joint draws of a million effects would not fit into memory.
    """
    n_groups, n_bins = share.shape
    group = np.repeat(np.arange(n_groups), n_bins)
    part = share.ravel() / np.bincount(group, share.ravel())[group]
    averages = csr_array((part, (group, np.arange(len(group)))), shape=(n_groups, len(group)))
    error = fit.joint.combine(csr_array(averages @ rows), fit.interval).std_error
    return error[:, None] * rng.standard_normal(size)


def _parent_averages(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels) -> csr_array:
    """(M, C) the mix of each new level: its parent's, or everyone's."""
    cells = standard.fit.design.cells
    n = cells.n.astype(float)
    factor = nesting.factors[name]
    if factor.parents is None:
        everyone = csr_array((n / n.sum()).reshape(1, -1))
        return csr_array(everyone[np.zeros(len(new), dtype=np.int64)])
    _, group = np.unique(factor.parents.astype(str), return_inverse=True)
    average = averaging(group[factor.codes], int(group.max()) + 1, n)
    return csr_array(average[group[new.sibling]])
