"""The two extremes beside partial pooling: complete pooling (no group terms at all) and no pooling (one factor's terms free in each level).

No pooling of factor f: f's terms as coefficients of their own in every level, without a distribution over them; its parents and the
predictors constant within its levels dropped (the levels take them up), other factors' group terms dropped, the remaining coefficients
common to all levels. Estimated by (iteratively reweighted) least squares, levels eliminated one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from multilevel.bayesian.families import Outcome, log_likelihood, outcome_of, working
from multilevel.cells import Floats
from multilevel.design import Design, DesignColumn, GroupBlock
from multilevel.errors import FitError
from multilevel.fit import Fit
from multilevel.joint import NormalJoint
from multilevel.linear.assemble import linear_system
from multilevel.linear.factorise import BlockedFactor, unpenalised
from multilevel.reduction import ReducedBlock, ReducedRows, reduce_design

type Flags = NDArray[np.bool_]

ITERATIONS = 60
CONVERGED = 1e-9
SEPARATED = 12.0
"""A level whose linear predictor runs this far from the others on the log or logit scale has no finite estimate."""


@dataclass(frozen=True)
class NoPoolingFit:
    """No pooling of one factor.

    fit : its ``design`` has the common columns and one block, the factor's terms; ``fit.joint`` is over (common, level by level terms).
    estimate, std_error : (L, k) of the level's terms, NaN where not estimable or separated. estimable : (L, k).
    """

    fit: Fit
    estimate: Floats
    std_error: Floats
    estimable: Flags

    @property
    def columns(self) -> tuple[DesignColumn, ...]:
        """The k terms that are free in each level."""
        return self.fit.design.blocks[0].columns


def fit_complete(design: Design, family: str, interval: float = 0.95) -> Fit:
    """Least squares or a GLM on the population columns alone; raises FitError where they do not determine finite coefficients."""
    bare = replace(design, blocks=())
    rows = reduce_design(bare)
    factor, dispersion, eta = _solve(bare, rows, family)
    if family != "gaussian" and _is_separated(eta, rows, family).any() and np.abs(factor.beta).max() > SEPARATED:
        message = "Complete pooling: a predictor separates the outcome perfectly, so its coefficient has no finite estimate."
        raise FitError(message)
    return _as_fit(bare, family, interval, factor, dispersion)


def fit_no_pooling(design: Design, family: str, block_index: int, interval: float = 0.95) -> NoPoolingFit:
    """No pooling of the factor of ``design.blocks[block_index]``; blocks on the same factor go together."""
    chosen = design.blocks[block_index].factor
    same = [block for block in design.blocks if np.array_equal(block.factor.codes, chosen.codes)]
    columns = tuple({column.label: column for block in same for column in block.columns}.values())
    free = GroupBlock(chosen, columns)
    common = tuple(column for column in design.population if not _taken_up(column, free))
    unpooled = replace(design, population=common, blocks=(free,))
    rows = reduce_design(unpooled)
    kept = _independent_common(rows)
    unpooled = replace(unpooled, population=tuple(column for column, is_kept in zip(common, kept, strict=True) if is_kept))
    rows = replace(rows, X=rows.X[:, kept])
    separated = _constant_levels(rows, family)
    factor, dispersion, eta = _solve(unpooled, _without_levels(rows, separated), family)
    if family != "gaussian":
        far = _is_separated(eta, rows, family)
        separated = separated | (np.bincount(rows.blocks[0].codes, far, chosen.n_levels) > 0)
    fit = _as_fit(unpooled, family, interval, factor, dispersion)
    estimable = _estimable(rows.blocks[0]) & ~separated[:, None]
    return _no_pooling(fit, factor, estimable, chosen.n_levels, len(columns))


def _no_pooling(fit: Fit, factor: BlockedFactor, estimable: Flags, n_levels: int, k: int) -> NoPoolingFit:
    from scipy.sparse import csr_array

    p = len(fit.design.population)
    places = p + np.flatnonzero(estimable.ravel())
    picks = csr_array((np.ones(len(places)), (np.arange(len(places)), places)), shape=(len(places), p + n_levels * k))
    summary = fit.joint.combine(picks, fit.interval)
    estimate, std_error = np.full(n_levels * k, np.nan), np.full(n_levels * k, np.nan)
    estimate[estimable.ravel()], std_error[estimable.ravel()] = summary.estimate, summary.std_error
    return NoPoolingFit(fit, estimate.reshape(n_levels, k), std_error.reshape(n_levels, k), estimable)


def _taken_up(column: DesignColumn, free: GroupBlock) -> bool:
    """Whether the level's own terms determine a population column: one of them, or constant within every level."""
    if column.label in {own.label for own in free.columns}:
        return True
    has_intercept = any(own.label == "Intercept" for own in free.columns)
    return has_intercept and column.feature == 0 and _constant_within(column.multiplier, free.factor.codes, free.factor.n_levels)


def _constant_within(values: Floats, codes: NDArray[np.int32], n_levels: int) -> bool:
    low, high = np.full(n_levels, np.inf), np.full(n_levels, -np.inf)
    np.minimum.at(low, codes, values)
    np.maximum.at(high, codes, values)
    return bool(np.all(high - low <= 1e-12 * (1.0 + np.abs(high))))


def _independent_common(rows: ReducedRows) -> Flags:
    """Columns of X that keep a direction of their own once every level's terms are taken out; earlier columns win."""
    p = rows.X.shape[1]
    if not p:
        return np.zeros(0, dtype=bool)
    residual = _within_levels(rows.X, rows.blocks[0])
    size = np.sqrt(np.sum(rows.X**2, axis=0))
    kept = np.zeros(p, dtype=bool)
    basis = np.zeros((len(residual), 0))
    for index in range(p):
        left = residual[:, index] - basis @ (basis.T @ residual[:, index])
        norm = float(np.linalg.norm(left))
        if norm > 1e-8 * max(size[index], 1e-300):
            kept[index] = True
            basis = np.column_stack([basis, left / norm])
    return kept


def _within_levels(values: Floats, block: ReducedBlock) -> Floats:
    """``values`` (R, m) less their least-squares fit on the block's columns, level by level."""
    k, n_levels = block.values.shape[1], block.n_levels
    own = np.zeros((n_levels, k, k))
    cross = np.zeros((n_levels, k, values.shape[1]))
    for i in range(k):
        for j in range(k):
            own[:, i, j] = np.bincount(block.codes, block.values[:, i] * block.values[:, j], n_levels)
        for j in range(values.shape[1]):
            cross[:, i, j] = np.bincount(block.codes, block.values[:, i] * values[:, j], n_levels)
    coefficients = np.linalg.pinv(own, rcond=1e-10, hermitian=True) @ cross
    return values - np.einsum("rk,rkm->rm", block.values, coefficients[block.codes])


def _estimable(block: ReducedBlock) -> Flags:
    """(L, k) whether a level's data determine each of its terms by itself."""
    k, n_levels = block.values.shape[1], block.n_levels
    if k == 1:
        return (np.bincount(block.codes, block.values[:, 0] ** 2, n_levels) > 0)[:, None]
    own = np.zeros((n_levels, k, k))
    for i in range(k):
        for j in range(k):
            own[:, i, j] = np.bincount(block.codes, block.values[:, i] * block.values[:, j], n_levels)
    size = np.sqrt(np.einsum("lii->li", own))
    scaled = own / np.maximum(size[:, :, None] * size[:, None, :], 1e-300)
    projection = np.linalg.pinv(scaled, rcond=1e-9, hermitian=True) @ scaled
    unit = np.eye(k)
    return np.asarray((np.abs(projection - unit).max(axis=1) < 1e-6) & (size > 0))


def _constant_levels(rows: ReducedRows, family: str) -> Flags:
    """Levels whose outcome is all zero (or, for binomial, all one): their intercept has no finite estimate."""
    block = rows.blocks[0]
    total = np.bincount(block.codes, rows.outcome, block.n_levels)
    if family == "binomial":
        size = np.bincount(block.codes, rows.size, block.n_levels)
        return np.asarray((total <= 0) | (total >= size))
    if family in ("poisson", "negative_binomial"):
        return np.asarray(total <= 0)
    return np.zeros(block.n_levels, dtype=bool)


def _without_levels(rows: ReducedRows, dropped: Flags) -> ReducedRows:
    """Rows of some levels with no weight: in the limit they say nothing about the common coefficients."""
    if not dropped.any():
        return rows
    out = dropped[rows.blocks[0].codes]
    return replace(rows, outcome=np.where(out, 0.0, rows.outcome), size=np.where(out, 0.0, rows.size), n=np.where(out, 0.0, rows.n))


def _is_separated(eta: Floats, rows: ReducedRows, family: str) -> Flags:
    """Rows whose fitted mean has run to the edge of its range."""
    if family == "gaussian":
        return np.zeros(len(eta), dtype=bool)
    used = rows.n > 0
    centre = float(np.average(np.clip(eta[used], -50, 50), weights=rows.n[used]))
    return np.asarray(used & (np.abs(eta - centre) > SEPARATED))


def _solve(design: Design, rows: ReducedRows, family: str) -> tuple[BlockedFactor, float, Floats]:
    """The factor at the solution, the dispersion (sigma, phi, shape; 1 without one), and the linear predictor (R,)."""
    if family == "gaussian":
        factor = unpenalised(linear_system(rows))
        if design.cells.known_sigma:
            return factor, 1.0, rows.outcome
        rank = _rank(factor, rows)
        if rows.n_rows <= rank:
            message = f"No residual degrees of freedom: {rows.n_rows} rows for {rank} coefficients."
            raise FitError(message)
        return factor, math.sqrt(max(factor.penalised_rss, 0.0) / (rows.n_rows - rank)), rows.outcome
    outcome = outcome_of(design, rows, family)
    dispersion = 1.0
    for _ in range(20 if family in ("negative_binomial", "gamma") else 1):
        factor, eta = _reweighted(outcome, rows, dispersion)
        best = _best_dispersion(outcome, eta, family)
        if abs(math.log(best / dispersion)) < 1e-6:
            break
        dispersion = best
    return factor, dispersion, eta


def _rank(factor: BlockedFactor, rows: ReducedRows) -> int:
    own = int(np.sum(np.linalg.matrix_rank(factor.system.own, hermitian=True))) if len(factor.system.own) else 0
    return rows.X.shape[1] + own


def _reweighted(outcome: Outcome, rows: ReducedRows, dispersion: float) -> tuple[BlockedFactor, Floats]:
    """Fisher scoring (McCullagh and Nelder 1989, section 2.5), halving steps that lower the likelihood."""
    eta = rows.offset + _start(outcome, rows)
    value = float(log_likelihood(outcome, eta, dispersion))
    for _ in range(ITERATIONS):
        weights, score = working(outcome, eta, dispersion)
        safe = np.maximum(weights, 1e-10)
        response = np.where(weights > 1e-10, eta - rows.offset + score / safe, 0.0)
        factor = unpenalised(linear_system(rows, weights=np.where(weights > 1e-10, weights, 0.0), outcome=response))
        proposed = rows.offset + predictor(factor, rows)
        new_value = float(log_likelihood(outcome, proposed, dispersion))
        for _ in range(10):
            if np.isfinite(new_value) and new_value >= value - 1e-9 * (1.0 + abs(value)):
                break
            proposed = (proposed + eta) / 2.0
            new_value = float(log_likelihood(outcome, proposed, dispersion))
        change, eta = abs(new_value - value), proposed
        value = new_value
        if change < CONVERGED * (1.0 + abs(value)):
            break
    return factor, eta


def predictor(factor: BlockedFactor, rows: ReducedRows) -> Floats:
    """(R,) X beta + Z b at a factor's solution, offset not included."""
    eta = rows.X @ factor.beta
    start = 0
    for block in rows.blocks:
        k = block.values.shape[1]
        effects = factor.effects[start : start + block.n_levels * k].reshape(block.n_levels, k)
        eta = eta + np.einsum("rk,rk->r", block.values, effects[block.codes])
        start += block.n_levels * k
    return np.asarray(eta)


def _start(outcome: Outcome, rows: ReducedRows) -> Floats:
    """A linear predictor near the data, as R's glm starts."""
    if outcome.family == "binomial":
        size = np.maximum(rows.size, 1e-10)
        share = (rows.outcome + 0.5) / (size + 1.0)
        return np.log(share / (1.0 - share)) - rows.offset
    exposure = np.maximum(rows.size if outcome.family == "poisson" else rows.n, 1e-10)
    overall = max(float(rows.outcome.sum()) / float(exposure.sum()), 1e-10)
    return np.log((rows.outcome + 0.1 * overall * exposure) / (1.1 * exposure)) - rows.offset


def _best_dispersion(outcome: Outcome, eta: Floats, family: str) -> float:
    if family not in ("negative_binomial", "gamma"):
        return 1.0

    def loss(log_value: float) -> float:
        return -float(log_likelihood(outcome, eta, math.exp(log_value)))

    found = minimize_scalar(loss, bounds=(-12.0, 16.0), method="bounded")
    return float(math.exp(found.x))


def _as_fit(design: Design, family: str, interval: float, factor: BlockedFactor, dispersion: float) -> Fit:
    is_gaussian = family == "gaussian"
    k = sum(len(block.columns) for block in design.blocks)
    n_levels = design.blocks[0].factor.n_levels if design.blocks else 0
    nothing = tuple(np.zeros((n_levels, k)) for _ in design.blocks)
    return Fit(
        design=design,
        family=family,
        engine="likelihood",
        method="least_squares" if is_gaussian else "maximum_likelihood",
        interval=interval,
        joint=NormalJoint(factor, dispersion if is_gaussian else 1.0),
        components=(),
        covariances=tuple(np.zeros((k, k)) for _ in design.blocks),
        conditional_variance=nothing,
        shrinkage=nothing,
        sigma=dispersion if is_gaussian else None,
        dispersion=dispersion if family in ("negative_binomial", "gamma") else None,
        n_parameters=len(design.population),
    )
