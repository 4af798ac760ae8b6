"""What a group never seen is averaged over, and what is unknown of it, the same for one response and for a product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.estimands.mix_parts import Sides, scales
from multilevel.fit.container import Fit
from multilevel.fit.interval_estimates import moments
from multilevel.fit.joint_draws import posterior_of
from multilevel.fit.theta_spread import turns
from multilevel.linear.joint_normal import square_root


@dataclass(frozen=True)
class NewMixes:
    """M new groups, each over the mix of its parent and the B common bins.

    sides : what each column belongs to. parents : (M, C) the mix of each new group. common : (B, C).
    own, below : the blocks of the group's own effects and of those inside it.
    rows : (M B, p + q) coefficients without those blocks, group by group. weights : (M, B) of the bins' responses.
    spread : (B,) variance of the linear predictor within the common bins, under a logit link.
    """

    sides: Sides
    parents: csr_array
    common: csr_array
    own: tuple[int, ...]
    below: tuple[int, ...]
    rows: csr_array
    weights: Floats
    spread: Floats

    @property
    def n_groups(self) -> int:
        """M."""
        return self.parents.shape[0]

    @property
    def n_bins(self) -> int:
        """B."""
        return self.common.shape[0]

    def bins_of(self, group: int) -> slice:
        """The rows of one new group."""
        return slice(group * self.n_bins, (group + 1) * self.n_bins)

    def scales(self, block: int) -> Floats:
        """(M B, k) what multiplies a block's effects in every row: its z."""
        return scales(self.sides, [self.parents, self.common], block)

    def scales_of(self, group: int, block: int) -> Floats:
        """(B, k) the same in the rows of one new group."""
        return scales(self.sides, [csr_array(self.parents[[group]]), self.common], block)


def new_effects(fit: Fit, block: int, size: int, rng: np.random.Generator) -> Floats:
    """(S, k) draws of b ~ N(0, Sigma), with each draw's own Sigma where the engine keeps them, or Sigma at the points of theta by turns."""
    plain = fit if fit.unit_free is None else fit.unit_free
    covariance, back = plain.covariances[block], np.eye(len(fit.covariances[block]))
    if fit.unit_free is not None:
        back = fit.unit_free.form.maps.blocks[block]
    noise = rng.standard_normal((size, len(covariance)))
    noise = noise - noise.mean(axis=0)
    if plain.covariance_draws is None:
        if fit.theta is None:
            return np.asarray(noise @ square_root(covariance).T @ back.T)
        roots = square_root(fit.theta.covariances[block])
        return np.asarray(np.einsum("sij,sj->si", roots[turns(size, fit.theta.weights)], noise) @ back.T)
    covariances = plain.covariance_draws[block]
    posterior = posterior_of(fit)
    if posterior is not None:
        covariances = covariances[posterior.kept(size)]
    return np.asarray(np.einsum("sij,sj->si", square_root(covariances), noise) @ back.T)


def shifts_of_groups(fit: Fit, rows: csr_array, share: Floats, size: int, rng: np.random.Generator) -> Floats:
    """(M, S) draws of how far all bins of each new group move together: by the error of their average linear predictor, the points of
    theta by turns.

    ``rows`` (M B, p + q) and ``share`` (M, B), how much each bin counts. The normal approximation moves them so: what is unknown of the
    coefficients is small beside the new effect, and joint draws of a million effects would not fit into memory.
    """
    n_groups, n_bins = share.shape
    group = np.repeat(np.arange(n_groups), n_bins)
    part = share.ravel() / np.bincount(group, share.ravel())[group]
    averages = csr_array((part, (group, np.arange(len(group)))), shape=(n_groups, len(group)))
    middle = csr_array(averages @ rows)
    found = moments(fit, middle)
    at = turns(size, found.weights)
    away = found.mean[:, at] - np.asarray(middle @ fit.joint.mean)[:, None]
    return away + np.sqrt(found.variance[:, at]) * rng.standard_normal(size)
