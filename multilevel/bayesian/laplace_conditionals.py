"""The normal distributions of (beta, b) of a generalised model at points of theta."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from multilevel.arrays import Floats
from multilevel.bayesian.conditionals import KEPT_BYTES, KeptConditionals, factor_bytes, without_gradients
from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed
from multilevel.bayesian.level_correction import normals_about
from multilevel.bayesian.level_integrals import LevelFactor, exact_moments, score_gains, weight_scales
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.variational_normal import VariationalNormal, pull, variational_normal
from multilevel.fit.theta_points import in_order
from multilevel.generalised.reweighting import Coordinates, solve
from multilevel.linear.factorise import BlockedSystem
from multilevel.linear.joint_normal import NormalJoint
from multilevel.linear.small_blocks import column_slices
from multilevel.machine import memory_bytes

KEPT_SHARE = 0.15
"""Of the machine's memory, that factorisations may take together where it is more than ``KEPT_BYTES``."""


@dataclass(frozen=True)
class LaplaceConditionals(KeptConditionals):
    """``density`` at the points ``thetas`` (K, d): means (K, p + q), and the rows' information ``weights`` (K, R) in single precision."""

    density: LaplaceCollapsed
    thetas: Floats
    means: Floats
    weights: NDArray[np.float32]

    @property
    def layout(self) -> Layout:
        """See ``PointConditionals``."""
        return self.density.layout

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """See ``PointConditionals``."""
        return self.density.coordinates.template.sizes

    def factorised(self, point: int) -> NormalJoint:
        """See ``KeptConditionals``."""
        density = self.density
        system = density.coordinates.system(self.weights[point].astype(np.float64))
        factor = system.factorise(density.lambdas(self.thetas[point]), density.prior.precision, density.prior.location)
        return NormalJoint(without_gradients(factor), 1.0, location=self.means[point])

    @property
    def are_kept(self) -> bool:
        """See ``KeptConditionals``."""
        return len(self.thetas) * reweighted_bytes(self.density.coordinates.template) <= kept_bytes()


def kept_bytes() -> int:
    """Most bytes that the factorisations of all points may take together and still be kept.

    More than for a gaussian model: here the cross-products differ from point to point, so a factorisation costs more to repeat.
    """
    return max(KEPT_BYTES, int(KEPT_SHARE * memory_bytes()))


def reweighted_bytes(system: BlockedSystem) -> int:
    """Bytes of one factorisation, of the cross-products that it belongs to, and of what it builds to answer questions."""
    crossed = system.cross.values.size + sum(stage.cross.values.size for stage in system.chain)
    return factor_bytes(system) + 8 * system.gram.size + 20 * crossed


def with_exact_leaves(
    density: LaplaceCollapsed, leaves: LevelFactor, theta: Floats, found: VariationalNormal
) -> tuple[Coordinates, Floats]:
    """The normal distribution ``found``, where levels of ``leaves`` have their exact means and variances given everything else.

    Everything else then gets the scores that it has on average over the exact distributions, in one Newton step: a level's normal
    distribution misses a little of them on the same side as its neighbours', which adds up where there are very many. Returns means of
    (b, gamma) and the row weights (R,).
    """
    rows, lambdas, log_dispersion = density.coordinates, density.lambdas(theta), density.log_dispersion(theta)
    normals = normals_about(density, leaves, theta, found.effects, found.weights, found.eta)
    moments = exact_moments(normals, density.likelihood, log_dispersion)
    weights = found.weights * weight_scales(normals, moments)[leaves.codes]
    root = block_diag(*(lambdas[at] for at in leaves.blocks))
    moved = np.einsum("lij,lj->li", normals.roots, moments.means) @ root.T
    parts = rows.by_block(rows.zero())
    for at, here in column_slices(rows.template.sizes, leaves.blocks):
        parts[at] = moved[:, here]
    shift = rows.from_blocks(parts, np.zeros(rows.basis.shape[1]))
    gained = rows.transposed(score_gains(normals, moments, density.likelihood, log_dispersion))
    right = gained - pull(density, lambdas, shift).with_basis(np.zeros(rows.basis.shape[1]))
    factor = rows.system(weights).factorise(lambdas, density.prior.precision, density.prior.location)
    step, _ = solve(factor, right, with_basis=True)
    return found.effects + shift + step, weights


def laplace_conditionals(density: LaplaceCollapsed, leaves: LevelFactor, thetas: Floats, threads: int) -> LaplaceConditionals:
    """At the points ``thetas`` (K, d), with exact means and variances of the levels of ``leaves``.

    Raises LevelsNotNormalError where one has no normal distribution nearby.
    """
    rows = density.coordinates
    size = rows.template.n_population + rows.template.n_effects
    means, weights = np.empty((len(thetas), size)), np.empty((len(thetas), len(rows.offset)), np.float32)

    def at_point(point: int) -> tuple[Floats, Floats]:
        found = variational_normal(density, thetas[point], density.mode(thetas[point]))
        effects, weights = with_exact_leaves(density, leaves, thetas[point], found)
        parts = [own.ravel() for own in rows.by_block(effects)]
        return np.concatenate([rows.beta(effects), *parts]), weights

    for point, (mean, weight) in enumerate(in_order(at_point, len(thetas), threads)):
        means[point], weights[point] = mean, weight
    return LaplaceConditionals(density, thetas, means, weights)
