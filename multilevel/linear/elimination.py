"""Level-by-level elimination of the largest factor: by matrix products where few levels touch most columns, by compiled loops else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.linear.products import CrossProducts, mirror
from multilevel.threads import at_once

FEW_LEVELS = 5_000
"""Up to so many levels arrays of small matrices are as quick as compiled loops, which take over a second to load."""

MUCH_WORK = 5e6
"""Products of a level's columns above which two threads share the levels: some milliseconds."""


PANEL = 512
"""Columns of a symmetric product at a time: what is above the diagonal is not made."""


def conditional_blocks(own: Floats, factor: Floats) -> tuple[Floats, float]:
    """K_j = Lambda (Lambda' G_j Lambda + I)^-1 Lambda' for every level (L, k, k), and the sum of log |Lambda' G_j Lambda + I|."""
    if not len(own):
        return own, 0.0
    if own.shape[1] == 1:
        scale = factor[0, 0] ** 2
        denominator = 1.0 + scale * own
        return scale / denominator, float(np.sum(np.log(denominator)))
    roots, log_det = _roots(own, factor)
    return roots @ roots.transpose(0, 2, 1), log_det


def conditional_roots(own: Floats, factor: Floats) -> Floats:
    """(L, k, k) A_j with A_j A_j' = K_j of ``conditional_blocks``; singular where Lambda is."""
    if own.shape[1] == 1:
        return np.sqrt(conditional_blocks(own, factor)[0])
    return _roots(own, factor)[0]


def _roots(own: Floats, factor: Floats) -> tuple[Floats, float]:
    """(L, k, k) Lambda L^-T of every level and the sum of log-determinants, with L L' = Lambda' G Lambda + I; NaN where there is none."""
    if len(own) > FEW_LEVELS:
        from multilevel.linear.level_loops import conditional_roots as compiled

        roots, log_det = compiled(own, np.ascontiguousarray(factor))
        return np.asarray(roots), float(log_det)
    try:
        lower = np.linalg.cholesky(factor.T @ own @ factor + np.eye(len(factor)))
    except np.linalg.LinAlgError:
        return np.full(own.shape, np.nan), np.nan
    log_det = 2.0 * float(np.sum(np.log(np.diagonal(lower, axis1=1, axis2=2))))
    return np.linalg.solve(lower, np.broadcast_to(factor.T, own.shape)).transpose(0, 2, 1), log_det


def add_products(total: Floats, cross: CrossProducts, kernels: Floats, levels: Integers) -> None:
    """Add sum_j H_j' K_j H_j over ``levels`` to the lower triangle of ``total`` (m, m), in place; the upper one is left with anything."""
    if not len(levels):
        return
    if cross.is_full:
        own = _chosen(cross, levels)
        kernel = kernels if len(levels) == len(kernels) else kernels[levels]
        moved = (kernel * own if own.shape[1] == 1 else kernel @ own).reshape(-1, own.shape[2])
        beside = own.reshape(-1, own.shape[2])
        for start in range(0, len(total), PANEL):
            here = slice(start, start + PANEL)
            total[start:, here] += moved[:, start:].T @ beside[:, here]
        return
    from multilevel.linear.level_loops import add

    def loops(own: Floats, some: Integers) -> Callable[[], object]:
        return partial(add, own, cross.starts, cross.columns, cross.values, kernels, some)

    shares = _shares(cross, levels)
    if len(shares) == 1:
        loops(total, levels)()
        return
    other = np.zeros_like(total)
    place = cross.heavy.place[levels] if cross.values.shape[1] == 1 else np.zeros(0, np.int64)
    if np.any(place >= 0):
        heavy = levels[place >= 0]
        rows = cross.heavy.rows if len(heavy) == len(cross.heavy.rows) else cross.heavy.rows[place[place >= 0]]
        at_once([partial(_add_rows, total, rows, kernels[heavy, 0]), loops(other, levels[place < 0])])
    else:
        at_once([loops(own, share) for own, share in zip((total, other), shares, strict=True)])
    total += other


def _add_rows(total: Floats, rows: Floats, kernels: Floats) -> None:
    """Add sum_j K_j h_j h_j' of ``rows`` (H, m); ``kernels`` (H, 1) are not negative."""
    scaled = rows * np.sqrt(kernels)
    total += scaled.T @ scaled


def spreads(cross: CrossProducts, covariance: Floats, levels: Integers) -> Floats:
    """(len(levels), k, k) H_j C H_j' for symmetric ``covariance`` C (w, w) of the first w columns of the cross-products."""
    k = cross.values.shape[1]
    result = np.zeros((len(levels), k, k))
    if not len(levels) or not len(covariance):
        return result
    if cross.is_full:
        whole = _chosen(cross, levels)
        rows = whole.reshape(-1, whole.shape[2])[:, : len(covariance)]
        moved = rows @ covariance
        if k == 1:
            return np.sum(moved * rows, axis=1)[:, None, None]
        own = whole[:, :, : len(covariance)]
        return np.asarray(moved.reshape(own.shape) @ own.transpose(0, 2, 1))
    from multilevel.linear.level_loops import spread, spread_scalar

    shares = _shares(cross, levels)
    owns = np.split(result, np.cumsum([len(share) for share in shares])[:-1])
    compiled = partial(spread_scalar if k == 1 else spread, cross.starts, cross.columns, cross.values, covariance)
    at_once([partial(compiled, share, own) for share, own in zip(shares, owns, strict=True)])
    return result


def scores(cross: CrossProducts, coefficients: Floats, levels: Integers) -> Floats:
    """(len(levels), k) H_j c for ``coefficients`` c (m,)."""
    result = np.zeros((len(levels), cross.values.shape[1]))
    if not len(levels):
        return result
    if cross.is_full:
        own = _chosen(cross, levels)
        return np.asarray(own.reshape(-1, own.shape[2]) @ coefficients).reshape(result.shape)
    from multilevel.linear.level_loops import scores as compiled

    compiled(cross.starts, cross.columns, cross.values, coefficients, levels, result)
    return result


def schur_complement(gram: Floats, cross: CrossProducts, kernels: Floats) -> Floats:
    """gram - sum_j H_j' K_j H_j over every level, symmetric (m, m)."""
    result = -gram
    add_products(result, cross, kernels, np.arange(len(kernels)))
    np.negative(result, out=result)
    mirror(result)
    return result


def schur_in_one_pass(gram: Floats, cross: CrossProducts, kernels: Floats, inside: Floats, between: Floats) -> Floats:
    """As ``schur_complement``, of scalar levels; the block of the last d columns from what is ``inside`` levels (d, d) and, weighted with
    ``between`` (L, 1, 1), between them."""
    schur, d = schur_complement(gram, cross, kernels), len(inside)
    last = cross.values[cross.starts[1:, None] - d + np.arange(d), 0]
    schur[-d:, -d:] = inside + last.T @ (between[:, 0] * last)
    return schur


def _shares(cross: CrossProducts, levels: Integers) -> list[Integers]:
    """``levels`` in two runs of about the same work, whatever the machine has: the order of sums decides their last digits; in one where
    that is too little for threads to save time."""
    touched = np.diff(cross.starts)[levels].astype(np.float64)
    work = np.cumsum(touched * touched)
    return [levels] if work[-1] < MUCH_WORK else np.split(levels, [int(np.searchsorted(work, work[-1] / 2.0))])


def _chosen(cross: CrossProducts, levels: Integers) -> Floats:
    """(len(levels), k, m) H_j of some levels of cross-products that touch every column."""
    return cross.full if len(levels) == len(cross.full) else cross.full[levels]
