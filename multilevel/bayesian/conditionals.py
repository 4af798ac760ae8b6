"""The normal distributions of (beta, b) at points of theta, and what every level's moments at those points are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.bayesian.collapsed import Collapsed
from multilevel.bayesian.importance_points import Tell, nobody
from multilevel.bayesian.parameters import Layout
from multilevel.fit.theta_points import in_order
from multilevel.fit.variance_surface import MOST_MISS, VarianceSurface
from multilevel.linear.dense_part import dense_bytes, dense_part, whole
from multilevel.linear.factorise import BlockedFactor, BlockedSystem
from multilevel.linear.joint_normal import FEW_DIGITS, NormalJoint
from multilevel.linear.small_blocks import diagonal_blocks, diagonals

COLUMNS_AT_ONCE = 50_000
"""Coefficients and effects whose moments at all points are worked on together."""

KEPT_BYTES = 1_500_000_000
"""Of the dense parts of factorisations, or of a generalised model's whole ones, up to which those of all points are kept; beyond, each is
made again where it is asked for."""

KEPT_WHOLE = 300_000_000
"""The same for factorisations with their levels, which take several times as much once they have answered, and milliseconds to make again
from the dense part."""

DENSE_COPIES = 3
"""Square matrices of the rest's size that a factorisation keeps once it has answered."""


class PointConditionals(Protocol):
    """A normal distribution of (beta, b) at every one of K points of theta."""

    @property
    def thetas(self) -> Floats:
        """(K, d)."""

    @property
    def layout(self) -> Layout:
        """Of theta."""

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Per block (L, k)."""

    def __call__(self, point: int) -> NormalJoint:
        """The distribution at one point."""


class KeptConditionals(ABC):
    """Distributions that are factorised where they are asked for, and kept if those of all points fit into memory."""

    @cached_property
    def _kept(self) -> dict[int, NormalJoint]:
        return {}

    def __call__(self, point: int) -> NormalJoint:
        """The distribution at one point."""
        found = self._kept.get(point)
        if found is None:
            found = self.factorised(point)
            if self.are_kept:
                self._kept[point] = found
        return found

    @abstractmethod
    def factorised(self, point: int) -> NormalJoint:
        """The same, made anew."""

    @property
    @abstractmethod
    def are_kept(self) -> bool:
        """Whether those of all points fit into memory."""


@dataclass(frozen=True)
class Conditionals(KeptConditionals):
    """``density`` at the points ``thetas`` (K, d), of a gaussian model."""

    density: Collapsed
    thetas: Floats

    @property
    def layout(self) -> Layout:
        """See ``PointConditionals``."""
        return self.density.layout

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """See ``PointConditionals``."""
        return self._system.sizes

    def factorised(self, point: int) -> NormalJoint:
        """See ``KeptConditionals``; from the dense part of an earlier time, where those of all points fit into memory."""
        system, theta = self._system, self.thetas[point]
        dense = self._dense_parts.get(point)
        if dense is not None:
            factor = whole(dense)
        else:
            made = self.density.factorise(theta)
            assert isinstance(made, BlockedFactor)
            factor = without_gradients(made)
            if len(self.thetas) * dense_bytes(system) <= KEPT_BYTES:
                self._dense_parts[point] = dense_part(factor)
        return NormalJoint(factor, float(self.density.layout.scale(theta)))

    @property
    def are_kept(self) -> bool:
        """See ``KeptConditionals``."""
        return len(self.thetas) * factor_bytes(self._system) <= KEPT_WHOLE

    @cached_property
    def _dense_parts(self) -> dict[int, BlockedFactor]:
        return {}

    @property
    def _system(self) -> BlockedSystem:
        assert isinstance(self.density.system, BlockedSystem)
        return self.density.system


def without_gradients(factor: BlockedFactor) -> BlockedFactor:
    """The factor without what is left of the cross-products, which only gradients ask for."""
    return replace(factor, schur=np.zeros((0, 0)))


def factor_bytes(system: BlockedSystem) -> int:
    """Of one factorisation with what it makes to answer."""
    dense = DENSE_COPIES * len(system.gram) ** 2
    levels = system.own.size + sum(stage.own.size for stage in system.chain)
    chained = sum(stage.cross.values.size for stage in system.chain)
    return 8 * (dense + 4 * levels + 3 * chained)


@dataclass(frozen=True)
class LevelMoments:
    """At K points: means and sds (K, p + q) of every coefficient and effect, column by column. Averaged over the points: the ``variance``
    (p + q,) of each; per block (L, k) ``conditional`` Var(A b | y, theta, beta) and ``shrinkage``, its share of tau^2, for A the ``maps``
    asked for; ``plain_shrinkage`` for the identity."""

    means: Floats
    sds: Floats
    variance: Floats
    conditional: tuple[Floats, ...]
    shrinkage: tuple[Floats, ...]
    plain_shrinkage: tuple[Floats, ...]


def given_beta(joint: NormalJoint, blocks: Sequence[Floats]) -> tuple[Floats, ...]:
    """Per block (L, k, k) Var(b | y, theta, beta) / sigma^2 from ``blocks``, Var(b | y, theta) / sigma^2: less what beta's variance brings.

    Where that leaves few digits they are found by themselves.
    """
    system = joint.factor.system
    values, vectors = np.linalg.eigh(joint.factor.population_covariance)
    moved = joint.sensitivity[system.n_population :] @ (vectors * np.sqrt(np.maximum(values, 0.0)))
    found, start = [], 0
    for (levels, k), block in zip(system.sizes, blocks, strict=True):
        own = moved[start : start + levels * k].reshape(levels, k, -1)
        found.append(block - own @ own.transpose(0, 2, 1))
        start += levels * k
        if np.any(_diagonal(found[-1]) < FEW_DIGITS * _diagonal(block)):
            return joint.factor.conditional_blocks()
    return tuple(found)


def _diagonal(blocks: Floats) -> Floats:
    return np.diagonal(blocks, axis1=1, axis2=2)


def level_moments(
    conditionals: PointConditionals,
    weights: Floats,
    maps: Sequence[Floats],
    *,
    is_identity: bool,
    threads: int,
    tell: Tell = nobody,
    surface: VarianceSurface | None = None,
) -> LevelMoments:
    """One factorisation a point, ``threads`` at a time; ``maps`` A (k, k) of each block, ``is_identity`` if all are the identity.

    ``surface`` : over the points, where variances are to be made at some of them and read off at the others; averages given theta and beta
    are then over those points, which stand for all, but for factors that are not eliminated: the few levels of such a factor may leave its
    variance so uncertain that some points do not.
    """
    layout = conditionals.layout
    within = weights if surface is None else np.bincount(surface.places, minlength=len(weights)) / len(surface.places)
    eyes = [np.eye(k) for k in layout.widths]
    asked = [maps] if is_identity else [maps, eyes]

    def at_point(point: int) -> tuple[Floats, Floats | None, list[tuple[int, float, Floats]]]:
        joint = conditionals(point)
        factor, system, sigma2 = joint.factor, joint.factor.system, joint.sigma**2
        if within[point] == 0.0:
            rest, starts = factor.rest_given_beta.effects, zip(system.rest, system.rest_starts, strict=False)
            of_rest = [(block, diagonal_blocks(rest, start, system.sizes[block])) for block, start in starts]
            return joint.mean, None, [(block, weights[point], sigma2 * own) for block, own in of_rest]
        of_beta, of_effects = np.diagonal(factor.population_covariance), factor.effect_blocks(factor.rest_covariance)
        sds = joint.sigma * np.sqrt(np.concatenate([of_beta, *(own.ravel() for own in diagonals(of_effects, eyes))]))
        given = enumerate(given_beta(joint, of_effects))
        return joint.mean, sds, [(block, (weights if block in system.rest else within)[point], sigma2 * own) for block, own in given]

    shapes = conditionals.sizes
    means, sds = np.zeros((0, 0)), np.zeros((0, 0))
    conditional = [np.zeros(shape) for shape in shapes]
    shares = [[np.zeros(shape) for shape in shapes] for _ in asked]
    for point, (mean, sd, given) in enumerate(in_order(at_point, len(weights), threads)):
        tell(f"levels at {point + 1} of {len(weights)} points", (point + 1) / len(weights))
        if point == 0:
            means, sds = (np.empty((len(weights), len(mean)), order="F") for _ in range(2))
        means[point] = mean
        if sd is not None:
            sds[point] = sd
        for block, weight, covariances in given:
            root = layout.factor(conditionals.thetas[point], block)
            for place, (each, share) in enumerate(zip(asked, shares, strict=True)):
                [own] = diagonals([covariances], [each[block]])
                share[block] += weight * own / np.sum((each[block] @ root) ** 2, axis=1)
                if place == 0:
                    conditional[block] += weight * own
    if surface is not None:
        _read_off(sds, surface, conditionals)
    variance = np.concatenate([weights @ sds[:, here] ** 2 for here in _some(sds.shape[1])])
    clipped = [tuple(np.clip(own, 0.0, 1.0) for own in share) for share in shares]
    return LevelMoments(means, sds, variance, tuple(conditional), clipped[0], clipped[-1])


def _read_off(sds: Floats, surface: VarianceSurface, conditionals: PointConditionals) -> None:
    """Fill in ``sds`` (K, m) at the points that were not asked, in place; those of which the surface tells too little are made there."""
    rough = []
    for here in _some(sds.shape[1]):
        own = sds.T[here]
        variances = own[:, surface.places] ** 2
        own[:] = np.sqrt(surface.everywhere(variances))
        rough.append(here.start + np.flatnonzero(surface.misses(variances) > MOST_MISS))
    left = np.concatenate(rough)
    if len(left):
        rows = csr_array((np.ones(len(left)), left, np.arange(len(left) + 1)), shape=(len(left), sds.shape[1]))
        for point in surface.others:
            sds[point, left] = np.sqrt(conditionals(int(point)).variance(rows))


def _some(width: int) -> Iterator[slice]:
    """All columns, some at a time."""
    return (slice(at, min(at + COLUMNS_AT_ONCE, width)) for at in range(0, width, COLUMNS_AT_ONCE))
