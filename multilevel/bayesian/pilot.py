"""A pilot fit: variance parameters near the posterior's centre, and the mode and weights of the likelihood there.

The pilot only decides in which coordinates NUTS moves; the posterior is the same whatever it says. At fixed covariances the mode comes
from penalised iteratively reweighted least squares (Bates et al. 2015, section 5); the covariances from a few EM steps with the
normal approximation of the effects (Stiratelli, Laird and Ware 1984), which cannot end on a variance of zero or a correlation of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array, hstack

from multilevel.arrays import Floats, Integers
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.design.reduction import ReducedBlock, ReducedRows
from multilevel.errors import FitError
from multilevel.families.outcome import Outcome

EM_STEPS = 30

MOST_JOINT = 32
"""Coefficients that are taken together at every step of the sampler: their cube costs less than a pass over a thousand cells, and what the
levels of a larger factor have in common is known well enough."""


@dataclass(frozen=True)
class Order:
    """How coefficients are ordered: beta, the blocks from few to many levels, and last the finest block, treated level by level.

    coarse : indices of the blocks before the finest. finest : its index, or None where all coefficients together are few.
    starts : where each coarse block begins among the m coarse coefficients (beta first).
    """

    coarse: tuple[int, ...]
    finest: int | None
    starts: tuple[int, ...]
    n_coarse: int


@dataclass(frozen=True)
class Pilot:
    """The quadratic approximation of the likelihood at the pilot's mode.

    coarse (m,) mode of beta and the coarse blocks; effects: per block (L, k) mode; covariances: per block (k, k); dispersion: sigma, phi
    or shape; weights (R,) W; weighted_response (R,) W times the working response, offset taken off; schur (m, m): posterior precision of
    the coarse coefficients, the finest block integrated out.
    """

    order: Order
    coarse: Floats
    effects: tuple[Floats, ...]
    covariances: tuple[Floats, ...]
    dispersion: float
    weights: Floats
    weighted_response: Floats
    schur: Floats


MOST_HALVINGS = 30


def coefficient_order(rows: ReducedRows) -> Order:
    """The order for these rows: the block with the most effects is the finest, unless all coefficients together are few."""
    blocks, p = rows.blocks, rows.X.shape[1]
    effects = [block.n_levels * block.values.shape[1] for block in blocks]
    by_size = sorted(range(len(blocks)), key=lambda f: (effects[f], f))
    finest = by_size.pop() if by_size and p + sum(effects) > MOST_JOINT else None
    coarse = tuple(sorted(by_size, key=lambda f: (blocks[f].n_levels, f)))
    starts = np.cumsum([p, *(effects[f] for f in coarse)])
    return Order(coarse, finest, tuple(int(at) for at in starts[:-1]), int(starts[-1]))


def fit_pilot(
    rows: ReducedRows, outcome: Outcome, priors: ResolvedPriors, start: Sequence[Floats], dispersion: float, *, em_steps: int = EM_STEPS
) -> Pilot:
    """Fit the pilot, from starting covariances (one positive definite (k, k) per block) and dispersion; without EM it keeps them.

    Raises
    ------
    FitError
        The weighted least-squares system cannot be solved, as when an offset or an outcome is not finite.
    """
    work = _Workspace(rows, outcome, priors)
    pilot = work.mode(tuple(np.asarray(s, dtype=np.float64) for s in start), dispersion, None, steps=25)
    for _ in range(em_steps):
        covariances = work.expected_covariances(pilot)
        dispersion = _dispersion(outcome, work.predictor(pilot), pilot.dispersion)
        change = max(
            (float(np.abs(np.log(np.diag(a) / np.diag(b))).max()) for a, b in zip(covariances, pilot.covariances, strict=True)), default=0.0
        )
        pilot = work.mode(covariances, dispersion, pilot, steps=3)
        if change < 0.01:
            break
    return work.mode(pilot.covariances, pilot.dispersion, pilot, steps=10)


def block_values(block: ReducedBlock) -> csr_array:
    """(R, L k) sparse Z of a block, level-major."""
    n_rows, k = block.values.shape
    columns = (block.codes.astype(np.int64)[:, None] * k + np.arange(k)).ravel()
    return csr_array((block.values.ravel(), columns, np.arange(0, n_rows * k + 1, k)), shape=(n_rows, block.n_levels * k))


def level_information(block: ReducedBlock, weights: Floats) -> Floats:
    """(L, k, k) Z_j' W Z_j of each level."""
    k = block.values.shape[1]
    information = np.empty((block.n_levels, k, k))
    for i in range(k):
        for j in range(i + 1):
            product = weights * block.values[:, i] * block.values[:, j]
            information[:, i, j] = information[:, j, i] = np.bincount(block.codes, product, minlength=block.n_levels)
    return information


class _Workspace:
    """Products that every step needs."""

    def __init__(self, rows: ReducedRows, outcome: Outcome, priors: ResolvedPriors) -> None:
        self.rows, self.outcome, self.priors = rows, outcome, priors
        self.order = coefficient_order(rows)
        self.coarse: csr_array = hstack([csr_array(rows.X), *(block_values(rows.blocks[f]) for f in self.order.coarse)], format="csr")
        self.finest = None if self.order.finest is None else rows.blocks[self.order.finest]
        self.fine: csr_array | None = None if self.finest is None else block_values(self.finest)

    def mode(self, covariances: tuple[Floats, ...], dispersion: float, at: Pilot | None, steps: int) -> Pilot:
        """PIRLS at fixed covariances, with step halving on the penalised log-likelihood."""
        pilot = at
        eta = self.outcome.family.saturated(self.outcome) if at is None else self.predictor(at)
        best = -np.inf
        for _ in range(steps):
            proposed = self._solve(covariances, dispersion, eta)
            new_eta = self.predictor(proposed)
            value = self._penalised(proposed, new_eta)
            halvings = 0
            while pilot is not None and not value >= best - 1e-8 * abs(best) and halvings < MOST_HALVINGS:
                proposed = _between(pilot, proposed)
                new_eta = self.predictor(proposed)
                value, halvings = self._penalised(proposed, new_eta), halvings + 1
            if halvings == MOST_HALVINGS:  # no step goes up any more: this is the mode within rounding
                break
            converged = abs(value - best) < 1e-8 * (1.0 + abs(value))
            pilot, eta, best = proposed, new_eta, value
            if converged:
                break
        if pilot is None or not np.isfinite(best):
            raise FitError("The pilot fit broke down: the outcome, an offset or a predictor is not finite or far out of scale.")
        weights, score = self.outcome.working(eta, dispersion)
        return replace(
            pilot, weights=weights, weighted_response=weights * (eta - self.rows.offset) + score, schur=self._schur(covariances, weights)[0]
        )

    def predictor(self, pilot: Pilot) -> Floats:
        """(R,) linear predictor, offset included."""
        eta = self.rows.offset + self.coarse @ pilot.coarse
        return eta if self.fine is None or self.order.finest is None else eta + self.fine @ pilot.effects[self.order.finest].ravel()

    def expected_covariances(self, pilot: Pilot) -> tuple[Floats, ...]:
        """One EM step: mean over levels of b b' + Var(b | y), slightly pulled towards the present value."""
        covariance = np.linalg.inv(pilot.schur)
        found = list(pilot.covariances)
        for f, start in zip(self.order.coarse, self.order.starts, strict=True):
            levels, k = pilot.effects[f].shape
            own = slice(start, start + levels * k)
            blocks = covariance[own, own].reshape(levels, k, levels, k)[np.arange(levels), :, np.arange(levels)]
            found[f] = _pull(pilot.effects[f], blocks, pilot.covariances[f])
        if self.finest is not None and self.fine is not None and self.order.finest is not None:
            f = self.order.finest
            variance, coupling = self._fine_variance(pilot.covariances[f], pilot.weights)
            levels, k = pilot.effects[f].shape
            if levels * k * self.order.n_coarse <= 20_000_000:
                shift = np.einsum("lij,ljm->lim", variance, coupling.toarray().reshape(levels, k, -1))
                variance = variance + np.einsum("lim,mn,ljn->lij", shift, covariance, shift, optimize=True)
            found[f] = _pull(pilot.effects[f], variance, pilot.covariances[f])
        return tuple(found)

    def _fine_variance(self, covariance: Floats, weights: Floats) -> tuple[Floats, csr_array]:
        """Var(b_j | rest) of the finest levels (L, k, k), and Z_f' W A of the coarse columns."""
        assert self.finest is not None and self.fine is not None
        information = level_information(self.finest, weights)
        variance = np.linalg.inv(information + np.linalg.inv(covariance))
        return variance, csr_array(self.fine.T @ self.coarse.multiply(weights[:, None]).tocsr())

    def _schur(self, covariances: tuple[Floats, ...], weights: Floats) -> tuple[Floats, Floats | None, csr_array | None]:
        precision = (self.coarse.T @ self.coarse.multiply(weights[:, None]).tocsr()).toarray()
        p = self.rows.X.shape[1]
        precision[:p, :p] += self.priors.beta_precision
        for f, start in zip(self.order.coarse, self.order.starts, strict=True):
            levels = self.rows.blocks[f].n_levels
            own = slice(start, start + levels * len(covariances[f]))
            precision[own, own] += np.kron(np.eye(levels), np.linalg.inv(covariances[f]))
        if self.order.finest is None:
            return precision, None, None
        variance, coupling = self._fine_variance(covariances[self.order.finest], weights)
        return precision - (coupling.T @ _apply(variance, coupling)).toarray(), variance, coupling

    def _solve(self, covariances: tuple[Floats, ...], dispersion: float, eta: Floats) -> Pilot:
        weights, score = self.outcome.working(eta, dispersion)
        response = weights * (eta - self.rows.offset) + score
        schur, variance, coupling = self._schur(covariances, weights)
        right = self.coarse.T @ response
        right[: self.rows.X.shape[1]] += self.priors.beta_precision @ self.priors.beta_location
        effects = [np.zeros((block.n_levels, block.values.shape[1])) for block in self.rows.blocks]
        if variance is not None and coupling is not None and self.fine is not None and self.order.finest is not None:
            fine_right = self.fine.T @ response
            right = right - coupling.T @ _batch(variance, fine_right)
        try:
            coarse = cho_solve(cho_factor(schur, lower=True), right)
        except (np.linalg.LinAlgError, ValueError):
            raise FitError("The pilot fit broke down: the outcome, an offset or a predictor is not finite or far out of scale.") from None
        for f, start in zip(self.order.coarse, self.order.starts, strict=True):
            effects[f] = coarse[start : start + effects[f].size].reshape(effects[f].shape)
        if variance is not None and coupling is not None and self.order.finest is not None:
            effects[self.order.finest] = _batch(variance, fine_right - coupling @ coarse).reshape(effects[self.order.finest].shape)
        return Pilot(self.order, coarse, tuple(effects), covariances, dispersion, weights, response, schur)

    def _penalised(self, pilot: Pilot, eta: Floats) -> float:
        off = pilot.coarse[: self.rows.X.shape[1]] - self.priors.beta_location
        penalty = off @ self.priors.beta_precision @ off
        for effect, covariance in zip(pilot.effects, pilot.covariances, strict=True):
            penalty += (solve_triangular(cholesky(covariance, lower=True), effect.T, lower=True) ** 2).sum()
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.outcome.log_likelihood(eta, pilot.dispersion) - 0.5 * penalty)


def _pull(effects: Floats, variances: Floats, present: Floats) -> Floats:
    expected = (np.einsum("li,lj->ij", effects, effects) + variances.sum(axis=0)) / len(effects)
    share = 1.0 / (1.0 + len(effects))
    return (1 - share) * expected + share * np.diag(np.diag(present))


def _between(old: Pilot, new: Pilot) -> Pilot:
    effects = tuple(0.5 * (a + b) for a, b in zip(old.effects, new.effects, strict=True))
    return replace(new, coarse=0.5 * (old.coarse + new.coarse), effects=effects)


def _batch(matrices: Floats, stacked: Floats) -> Floats:
    levels, k, _ = matrices.shape
    return np.einsum("lij,lj->li", matrices, stacked.reshape(levels, k)).ravel()


def _apply(matrices: Floats, sparse: csr_array) -> csr_array:
    """Block-diagonal times sparse."""
    levels, k, _ = matrices.shape
    columns: Integers = (np.arange(levels)[:, None, None] * k + np.zeros((1, k, 1), dtype=np.int64) + np.arange(k)).ravel()
    return csr_array((matrices.ravel(), columns, np.arange(0, levels * k * k + 1, k)), shape=(levels * k, levels * k)) @ sparse


def _dispersion(outcome: Outcome, eta: Floats, present: float) -> float:
    if outcome.family.scale is None:
        return present
    result = minimize_scalar(lambda log_d: -outcome.log_likelihood(eta, np.exp(log_d)), bounds=(-7.0, 12.0), method="bounded")
    return float(np.exp(result.x))
