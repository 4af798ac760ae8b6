"""One factor's terms free in every level: the algebra of levels whose data do not determine all of their terms.

Each level has a Gram matrix G = sum w z z' of its own columns. Directions that G does not see (a predictor constant within the level), or
whose information has run to zero (separation), are left out of the level's solution; they touch neither other levels nor the common
coefficients, which come from the columns' variation within levels (Frisch and Waugh 1933).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from multilevel.arrays import Floats
from multilevel.design.model import DesignColumn, GroupBlock
from multilevel.design.predictor_kinds import rounding_of
from multilevel.design.reduction import ReducedBlock, ReducedRows
from multilevel.errors import FitError
from multilevel.linear.elimination import schur_complement
from multilevel.linear.factorise import BlockedFactor, BlockedSystem

type Flags = NDArray[np.bool_]

NO_VARIATION = 1e-10
"""Part of the steepest direction of a level's Gram matrix (columns scaled over all levels) below which a direction is not there at all."""

NO_INFORMATION = 1e-9
"""Average working weight along a direction, relative to a typical row's, below which its coefficient has run to infinity."""

ESTIMABLE = 1e-6
"""Distance of a term from the span of a level's directions (columns scaled to mean square one) within which it is estimable."""

OWN_DIRECTION = 1e-7
"""Part of a common column's norm that must vary beside the levels' terms and earlier columns for the column to be kept."""


@dataclass(frozen=True)
class LevelSolution:
    """kernels (L, k, k): generalised inverses of the levels' Gram matrices over the directions that are determined; rank (L,) how many
    those are; missing (L, k, k): what the projection onto them lacks, in columns of mean square one; size (k,): their root mean squares."""

    kernels: Floats
    rank: NDArray[np.int64]
    missing: Floats
    size: Floats

    def estimable_terms(self, maps: Floats) -> Flags:
        """(L, k) terms that the level's own data determine by themselves: rows of ``maps`` (k, k) times the columns' coefficients."""
        wanted = maps / self.size
        wanted = wanted / np.abs(wanted).max(axis=1, keepdims=True)
        return np.asarray(np.abs(wanted @ self.missing).max(axis=2) < ESTIMABLE)


@dataclass(frozen=True)
class LevelBasis:
    """Coordinates in which every level's Gram matrix ``base`` is the identity over the directions that are there.

    roots : (L, k, k), columns zero where a direction is missing; duals : (L, k, k) with roots' duals = identity over those directions;
    size (k,) root mean squares of the columns.
    """

    roots: Floats
    duals: Floats
    size: Floats

    def solve(self, own: Floats) -> LevelSolution:
        """Generalised inverses of ``own`` (L, k, k), the Gram matrices with the working weights of the moment."""
        turned = np.swapaxes(self.roots, 1, 2) @ own @ self.roots
        share, axes = np.linalg.eigh(turned)
        # directions that are missing come out as zeros too
        kept = share > NO_INFORMATION
        back = self.roots @ axes
        inverse = np.where(kept, 1.0 / np.where(kept, share, 1.0), 0.0)
        kernels = (back * inverse[:, None, :]) @ np.swapaxes(back, 1, 2)
        projection = (back * kept[:, None, :]) @ np.swapaxes(self.duals @ axes, 1, 2)
        unitless = projection * self.size[:, None] / self.size
        return LevelSolution(kernels, kept.sum(axis=1), unitless - np.eye(len(self.size)), self.size)


def level_basis(base: Floats) -> LevelBasis:
    """From Gram matrices (L, k, k) whose weights cannot vanish: one for least squares, the rows' sizes times a typical weight else."""
    total = base.sum(axis=0)
    size = np.sqrt(np.maximum(np.diag(total) / len(base), np.finfo(float).tiny))
    try:
        root = cholesky(total / np.outer(size, size) / len(base), lower=False)
    except np.linalg.LinAlgError:
        # two of the columns are the same throughout: levels sort that out one by one
        root = np.eye(len(size))
    scale = solve_triangular(root, np.eye(len(size))) / size[:, None]
    values, directions = np.linalg.eigh(scale.T @ base @ scale)
    there = values > NO_VARIATION * np.maximum(values[:, -1:], np.finfo(float).tiny)
    length = np.sqrt(np.where(there, values, 1.0))
    roots = scale @ (directions * np.where(there, 1.0 / length, 0.0)[:, None, :])
    duals = np.linalg.inv(scale).T @ (directions * np.where(there, length, 0.0)[:, None, :])
    return LevelBasis(roots, duals, size)


def with_kernels(system: BlockedSystem, kernels: Floats) -> BlockedFactor:
    """The normal equations solved with each level's coefficients free, no penalty: least squares.

    Raises FitError where the common columns have no information left.
    """
    schur = schur_complement(system.gram, system.cross, kernels)
    p = system.n_population
    try:
        root = cholesky(schur[:p, :p], lower=False) if p else np.zeros((0, 0))
    except np.linalg.LinAlgError as error:
        message = "A common coefficient has no finite estimate beside the levels' own: its predictor separates the outcome within levels."
        raise FitError(message) from error
    right = solve_triangular(root, schur[:p, -1], trans="T") if p else np.zeros(0)
    rss = float(schur[-1, -1] - right @ right + system.residual_ss)
    return BlockedFactor(system, (), np.eye(kernels.shape[1]), kernels, 0.0, schur, root, right, rss)


def common_columns(columns: tuple[DesignColumn, ...], free: GroupBlock) -> tuple[DesignColumn, ...]:
    """The population columns that are not terms of the level, nor constant in every level where the level has its own intercept."""
    labels = {own.label for own in free.columns}
    has_intercept = "Intercept" in labels

    def is_kept(column: DesignColumn) -> bool:
        if column.label in labels:
            return False
        return not (has_intercept and column.feature == 0 and _is_constant(column.multiplier, free))

    return tuple(column for column in columns if is_kept(column))


def _is_constant(values: Floats, free: GroupBlock) -> bool:
    codes, n_levels = free.factor.codes, free.factor.n_levels
    low, high = np.full(n_levels, np.inf), np.full(n_levels, -np.inf)
    np.minimum.at(low, codes, values)
    np.maximum.at(high, codes, values)
    return bool(np.all(high - low <= rounding_of(values)))


def independent_common(rows: ReducedRows) -> Flags:
    """(p,) columns of X with a direction of their own beside every level's terms; earlier columns win."""
    p = rows.X.shape[1]
    kept = np.zeros(p, dtype=bool)
    if not p:
        return kept
    residual = within_levels(rows.X, rows.blocks[0])
    size = np.linalg.norm(rows.X, axis=0)
    basis = np.zeros((len(residual), 0))
    for index in range(p):
        left = residual[:, index] - basis @ (basis.T @ residual[:, index])
        norm = float(np.linalg.norm(left))
        if norm > OWN_DIRECTION * max(float(size[index]), 1e-300):
            kept[index] = True
            basis = np.column_stack([basis, left / norm])
    return kept


def level_gram(block: ReducedBlock, weights: Floats) -> Floats:
    """(L, k, k) sum of w z z' by level."""
    k = block.values.shape[1]
    gram = np.empty((block.n_levels, k, k))
    for i in range(k):
        for j in range(i + 1):
            gram[:, i, j] = gram[:, j, i] = np.bincount(block.codes, weights * block.values[:, i] * block.values[:, j], block.n_levels)
    return gram


def level_coefficients(values: Floats, block: ReducedBlock) -> Floats:
    """(L, k, m) least-squares coefficients of ``values`` (R, m) on the block's columns, level by level."""
    gram = level_gram(block, np.ones(len(block.codes)))
    kernels = level_basis(gram).solve(gram).kernels
    m = values.shape[1]
    cross = np.empty((block.n_levels, block.values.shape[1], m))
    for i in range(block.values.shape[1]):
        for j in range(m):
            cross[:, i, j] = np.bincount(block.codes, block.values[:, i] * values[:, j], block.n_levels)
    return np.asarray(kernels @ cross)


def within_levels(values: Floats, block: ReducedBlock) -> Floats:
    """``values`` (R, m) less their least-squares fit on the block's columns, level by level."""
    return np.asarray(values - np.einsum("rk,rkm->rm", block.values, level_coefficients(values, block)[block.codes]))
