"""The derivative of log-determinants and penalised residual sum of squares with respect to each Lambda.

Write M for the penalised cross-products in (u, gamma) with A in (b, gamma), so M = D'AD + I on u. Then
d log|M| = 2 sum_l tr[(I - (M^-1)_ll) Lambda^-1 dLambda] over the levels l of a block, and d r^2 = -2 sum_l s_l' dLambda u_l with the score
s_l = z_l'(y - X beta - Z b). Where Lambda is near-singular the first is written without its inverse, as P_ll Lambda with
P = A - A D M^-1 D' A. Eliminated factors follow from their own Schur complements, whose derivatives are -sum_j H_j' K_j' H_j.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.linear.chain import SelectedCovariance, StageFactor, scores_above, spreads_above
from multilevel.linear.elimination import add_products, scores, spreads
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.products import CrossProducts
from multilevel.linear.small_blocks import column_slices, diagonal_blocks
from multilevel.linear.touched_covariances import TouchedCovariances
from multilevel.threads import at_once

WELL_CONDITIONED = 1e-2
"""Smallest information-scaled singular value of a Lambda for which I - M^-1 keeps enough digits to be divided by it."""

MANY_LEVELS = 100_000
"""Levels of the eliminated factor that two threads share."""


def criterion_gradient(factor: BlockedFactor, sigma2: float | None, *, reml: bool) -> tuple[Floats, ...]:
    """Per block (k, k) derivative with respect to Lambda's lower triangle of log_det_effects (+ log_det_population if ``reml``)
    + penalised_rss / sigma2 (or + df * log(penalised_rss) when ``sigma2`` is None, the profiled criterion)."""
    system = factor.system
    pull = (system.n_rows - (system.n_population if reml else 0)) / factor.rss if sigma2 is None else 1.0 / sigma2
    q = system.rest_starts[-1]
    unit = factor.unit_inverse(q + system.n_population if reml else q)
    coefficients = factor.rest_effects(factor.rest_solution[None, :])[0]
    result: list[Floats] = [np.zeros((k, k)) for _, k in system.sizes]
    blocks = list(zip(system.rest, system.rest_starts, strict=False))
    diagonals = [diagonal_blocks(unit, start, system.sizes[index]) for index, start in blocks]
    covariance = factor.to_effects(unit)
    score_rest = factor.schur[:q, -1] - factor.schur[:q, :-1] @ coefficients
    for (index, start), diagonal in zip(blocks, diagonals, strict=True):
        levels, k = system.sizes[index]
        score = score_rest[start : start + levels * k].reshape(levels, k)
        by_volume = _volume(factor, index, start, diagonal, covariance)
        result[index] = np.tril(2.0 * (by_volume - pull * (score.T @ score) @ factor.lambdas[index]))
    if system.merged:
        residual = np.append(-coefficients, 1.0)
        above = factor.selected(covariance)
        found = [(system.merged, _own_gradient(factor, above, covariance, residual, pull))]
        found += [
            (one.stage.blocks, _stage_gradient(one, own.spread, factor.chain_effects[at + 1 :], residual, pull))
            for at, (one, own) in enumerate(zip(factor.chain, above, strict=True))
        ]
        for owned, whole in found:
            for index, here in column_slices(system.sizes, owned):
                result[index] = np.tril(whole[here, here])
    return tuple(result)


def volume_gradient(factor: BlockedFactor, given: TouchedCovariances) -> tuple[Floats, ...]:
    """Per block (k, k) derivative of log_det_effects with respect to Lambda's lower triangle, from the covariances ``given`` beta; with
    beta's own, of log_det_effects + log_det_population."""
    system = factor.system
    result: list[Floats] = [np.zeros((k, k)) for _, k in system.sizes]
    for index, start, diagonal in zip(system.rest, system.rest_starts, given.diagonals, strict=False):
        result[index] = np.tril(2.0 * _volume(factor, index, start, diagonal, given.rest))
    for one, selected in zip(factor.stages, given.stages, strict=True):
        nothing = np.zeros(one.stage.own.shape[:2])
        whole = _eliminated_gradient(one.stage.own, one.kernels, one.own_lambda, selected.spread, nothing, 0.0)
        for index, here in column_slices(system.sizes, one.stage.blocks):
            result[index] = np.tril(whole[here, here])
    return tuple(result)


def _volume(factor: BlockedFactor, index: int, start: int, diagonal: Floats, covariance: Floats) -> Floats:
    """(k, k) half the derivative of the log-determinants; ``diagonal`` (L, k, k) are the blocks of M^-1."""
    lam = factor.lambdas[index]
    levels, k = factor.system.sizes[index]
    kept = np.eye(k) - diagonal
    singular = np.linalg.svd(lam, compute_uv=False)
    # I - M^-1 carries rounding of about 1e-16; it must stay well above that in the direction that is divided by the smallest value
    if singular[-1] > WELL_CONDITIONED * singular[0] and np.linalg.eigvalsh(kept.mean(axis=0))[0] > WELL_CONDITIONED**2:
        return np.asarray(np.linalg.solve(lam.T, kept.sum(axis=0).T))
    here = slice(start, start + levels * k)
    width = len(covariance)
    wide = factor.schur[here, :width]
    inner = np.einsum("lalb->lab", wide[:, here].reshape(levels, k, levels, k)).sum(axis=0)
    moved = (wide @ covariance).reshape(levels, k, width)
    return np.asarray((inner - np.einsum("lam,lbm->ab", moved, wide.reshape(levels, k, width))) @ lam)


def _own_gradient(factor: BlockedFactor, above: Sequence[SelectedCovariance], covariance: Floats, residual: Floats, pull: float) -> Floats:
    """(k, k) for the eliminated factor; ``residual`` (m,) are the coefficients that give the outcome less the rest."""
    system = factor.system
    if system.own.shape[1] == 1 and not factor.chain:
        return _scalar_gradient(factor, covariance, residual, pull)
    found: list[Floats] = []

    def add(levels: slice) -> None:
        cross, up = system.cross.part(levels), system.up.part(levels, system.cross.starts)
        spread = spreads_above(cross, up, above, covariance)
        score = scores_above(cross, up, factor.chain_effects, residual)
        found.append(_eliminated_gradient(system.own[levels], factor.kernels[levels], factor.own_lambda, spread, score, pull))

    at_once([partial(add, levels) for levels in _halves(len(system.own))])
    return np.asarray(sum(found))


def _halves(count: int) -> list[slice]:
    """Two runs of levels where there are many, whatever the machine has; the order of two numbers does not change their sum."""
    return [slice(0, count // 2), slice(count // 2, count)] if count >= MANY_LEVELS else [slice(0, count)]


def _stage_gradient(one: StageFactor, spread: Floats, effects: Sequence[Floats], residual: Floats, pull: float) -> Floats:
    """(k, k) for a factor of the chain; ``spread`` (L, k, k) and ``effects`` are of those eliminated after it."""
    stage = one.stage
    score = scores_above(stage.cross, stage.up, effects, residual)
    return _eliminated_gradient(stage.own, one.kernels, one.own_lambda, spread, score, pull)


def _eliminated_gradient(own: Floats, kernels: Floats, own_lambda: Floats, spread: Floats, score: Floats, pull: float) -> Floats:
    """(k, k) from the levels' cross-products ``own`` (L, k, k), the ``spread`` (L, k, k) of all that is eliminated later and the ``score``
    (L, k) of the outcome less that."""
    if own.shape[1] == 1:
        size, theta = own[:, 0, 0], own_lambda[0, 0]
        kept = 1.0 / (1.0 + theta**2 * size)
        return np.array([[2.0 * theta * float(size @ kept - kept**2 @ (spread[:, 0, 0] + pull * score[:, 0] ** 2))]])
    shrink = np.eye(len(own_lambda)) - own @ kernels
    left = (shrink @ score[:, :, None])[:, :, 0]
    inner = shrink @ own - shrink @ spread @ np.swapaxes(shrink, 1, 2)
    return np.asarray(2.0 * (inner.sum(axis=0) - pull * (left.T @ left)) @ own_lambda)


def _scalar_gradient(factor: BlockedFactor, covariance: Floats, residual: Floats, pull: float) -> Floats:
    """One theta for the eliminated factor: summed levels through their triangles, the others one by one."""
    system, summed, theta = factor.system, factor.system.presummed, factor.own_lambda[0, 0]
    own, count = system.distinct_own
    volume = float(count @ (2.0 * theta * own / (1.0 + theta**2 * own)))
    slopes = 1.0 / (1.0 + theta**2 * system.own[:, 0, 0]) ** 2
    single = slopes[summed.singles]
    score = scores(system.cross, residual, summed.singles)[:, 0]
    by_volume = _weighted_spread(system.cross, covariance, summed.singles, slopes)
    total = volume - 2.0 * theta * (by_volume + pull * float(single @ score**2))
    if len(summed.own):
        moved = summed.total(2.0 * theta / (1.0 + theta**2 * summed.own) ** 2, len(residual))
        width = len(covariance)
        total -= _inner(covariance, moved[:width, :width]) + pull * _quadratic(moved, residual)
    return np.array([[total]])


def _weighted_spread(cross: CrossProducts, covariance: Floats, levels: Integers, weights: Floats) -> float:
    """Sum over ``levels`` of w_j H_j C H_j', ``weights`` w (L,) of all levels: summed first where levels touch few of the columns."""
    if cross.is_full or not len(levels):
        return float(weights[levels] @ spreads(cross, covariance, levels)[:, 0, 0])
    width = len(covariance)
    moved = np.zeros((int(cross.columns.max()) + 1,) * 2)
    add_products(moved, cross, weights[:, None, None], levels)
    return _inner(covariance, np.tril(moved[:width, :width]))


def _inner(symmetric: Floats, lower: Floats) -> float:
    """Sum of products of two symmetric matrices, the second given by its lower triangle (zeros above)."""
    return float(2.0 * np.vdot(symmetric, lower) - np.diagonal(symmetric) @ np.diagonal(lower))


def _quadratic(lower: Floats, vector: Floats) -> float:
    """v'Sv for S given by its lower triangle (zeros above)."""
    return float(2.0 * vector @ (lower @ vector) - np.diagonal(lower) @ vector**2)
