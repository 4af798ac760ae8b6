"""The joint distribution of (beta, b) of the likelihood engine: normal, with the covariance that lme4 does not give.

Given theta, Var(beta, b) = sigma^2 T [L'Z'ZL + I, L'Z'X; X'ZL, X'X]^-1 T' (Henderson 1975; Bates et al. 2015, eqs. 17 and 56-58). It is
kept as the blocked factor, never as a (p + q) x (p + q) matrix: a row that touches one level of the eliminated factor costs that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_array, hstack
from scipy.special import ndtri

from multilevel.arrays import Floats, Integers
from multilevel.families.link import Link
from multilevel.fit.container import Summary
from multilevel.fit.row_products import bilinear_forms, inner_products, product, times
from multilevel.fit.shared_rows import Rows, SharedRows, as_csr, averaged, stacked
from multilevel.linear.arrow_matrices import EliminatedMatrices, block_diagonal, level_links, level_rows, picker
from multilevel.linear.elimination import spreads
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.products import CrossProducts
from multilevel.linear.row_variances import SPARSE_ROWS, goes_row_by_row, row_by_row
from multilevel.linear.shared_solves import LARGEST_CHUNK, is_worth_sharing, shared_covariance, shared_variance
from multilevel.linear.triangular import inverse_root, solve_upper
from multilevel.threads import piece_by_piece

DENSE_ENTRIES = 20_000_000
"""Most entries (0.16 GB) of a dense piece of rows times the root of the covariance."""

LEAVES_AND_PARENTS = 2

FEW_DIGITS = 1e-5
"""Share of a variance below which a difference of variances is not relied on: ten digits are left."""


@dataclass(frozen=True)
class NormalJoint:
    """Normal distribution of (beta, b) about the estimates, from a factorised system.

    factor : the system at the estimated theta. sigma : residual sd (1 for families without one). extra : (p, p) covariance to add to
    beta's, with its effect carried to b through the conditional means, or None (GLMMs, whose beta has a Hessian of its own).
    location : (p + q,) where to centre instead of the factor's own solution, or None.
    """

    factor: BlockedFactor
    sigma: float
    extra: Floats | None = None
    location: Floats | None = None

    @cached_property
    def mean(self) -> Floats:
        """(p + q,) estimates and conditional modes."""
        if self.location is not None:
            return self.location
        return np.concatenate([self.factor.beta, self.factor.effects])

    @cached_property
    def _rest_root(self) -> Floats:
        """(q_r + p, q_r + p) A with A A' = Var of the coefficients of [Z_r Q], over sigma^2."""
        return self.factor.rest_effects(inverse_root(self.factor.root).T).T

    @cached_property
    def eliminated(self) -> tuple[EliminatedMatrices, ...]:
        """The eliminated factors, from the leaves up."""
        factor = self.factor
        if not factor.system.merged:
            return ()
        parts = [(factor.system.merged, factor.kernels, factor.system.cross, factor.system.up)]
        parts += [(one.stage.blocks, one.kernels, one.stage.cross, one.stage.up) for one in factor.chain]
        found: list[EliminatedMatrices] = []
        for at, (blocks, kernels, cross, up) in enumerate(parts):
            sizes = [above[1].shape[0] * above[1].shape[1] for above in parts[at + 1 :]]
            places = picker(self.places(blocks), self._total)
            on_rest = level_rows(cross, len(factor.system.gram)) if found else factor.system.leaf_rows
            found.append(EliminatedMatrices(places, block_diagonal(kernels), on_rest, level_links(up, sizes), len(factor.root)))
        return tuple(found)

    @property
    def _total(self) -> int:
        """p + q."""
        return self.factor.system.n_population + self.factor.system.n_effects

    def places(self, blocks: Sequence[int]) -> Integers:
        """(L * k,) where the effects of blocks side by side are in (beta, b), level-major."""
        system = self.factor.system
        offsets = system.n_population + np.concatenate([[0], np.cumsum([levels * k for levels, k in system.sizes])])
        own = [offsets[i] + np.arange(system.sizes[i][0] * system.sizes[i][1]).reshape(system.sizes[i]) for i in blocks]
        return np.hstack(own).ravel()

    @cached_property
    def _rest_picker(self) -> csr_array:
        """(q_r, p + q) sparse map from (beta, b) to the rest's effects, in [Z_r Q] order."""
        pieces = [self.places([index]) for index in self.factor.system.rest]
        return picker(np.concatenate(pieces) if pieces else np.zeros(0, np.int64), self._total)

    def _split(self, rows: csr_array, most: int | None = None) -> tuple[csr_array, tuple[csr_array, ...]]:
        """Coefficients of ``rows`` on the rest (eliminated effects replaced by their conditional means) and on every eliminated factor's
        noise; of ``most`` factors, if given: those above are kept as they are."""
        p = self.factor.system.n_population
        on_beta = csr_array(rows[:, :p] @ self.factor.system.inverse_triangle)
        on_rest = csr_array(hstack([rows @ self._rest_picker.T, on_beta], format="csr"))
        on_own = [csr_array(rows @ one.places.T) for one in self.eliminated]
        for at, one in enumerate(self.eliminated[:most]):
            moved = csr_array(on_own[at] @ one.kernels)
            for above, link in enumerate(one.links):
                on_own[at + 1 + above] = csr_array(on_own[at + 1 + above] - times(moved, link))
            on_rest = csr_array(on_rest - one.on_rest(moved))
        return on_rest, tuple(on_own)

    def _noise(self, on_own: Sequence[csr_array]) -> list[csr_array]:
        """Coefficients on the eliminated factors' noise times its variance."""
        return [csr_array(own @ one.kernels) for own, one in zip(on_own, self.eliminated, strict=True)]

    def variance(self, rows: Rows) -> Floats:
        """(m,) variances of ``rows @ (beta, b)``."""
        if isinstance(rows, SharedRows) and self._is_worth_sharing(rows):
            return shared_variance(self, rows)
        pieces = list(piece_by_piece(self._variance, self._chunks(rows)))
        return np.concatenate(pieces) if pieces else np.zeros(0)

    def _is_worth_sharing(self, rows: SharedRows) -> bool:
        return is_worth_sharing(rows, len(self.factor.root), self._total)

    def covariance_times(self, rows: csr_array) -> Floats:
        """(p + q, r) Cov(beta, b) times ``rows`` (r, p + q), transposed: r solves through the arrow structure."""
        on_rest, on_own = self._split(rows)
        system = self.factor.system
        p, q = system.n_population, system.rest_starts[-1]
        solved = self._rest_root @ (self._rest_root.T @ np.asarray(on_rest.todense()).T)
        result = np.asarray(self._rest_picker.T @ solved[:q])
        result[:p] = solve_triangular(system.triangle, solved[q:]) if p else 0.0
        found: list[Floats] = []
        for one, own in zip(reversed(self.eliminated), reversed(on_own), strict=True):
            gap = np.asarray(own.todense()).T - one.from_rest(solved)
            for link, above in zip(one.links, found, strict=True):
                gap -= link @ above
            found.insert(0, np.asarray(one.kernels @ gap))
            result += one.places.T @ found[0]
        result *= self.sigma**2
        if self.extra is not None:
            result += self.sensitivity @ (self.extra @ np.asarray(rows @ self.sensitivity).T)
        return result

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m) covariance of ``(rows - centre) @ (beta, b)``, ``centre`` (1, p + q); dense in the rows, in the effects only for what
        rows share."""
        if isinstance(rows, SharedRows) and self._is_worth_sharing(rows):
            return shared_covariance(self, rows.less(centre))
        about, centre_own = self._split(centre)
        root = np.asarray(about @ self._rest_root)
        chunks = [self._split(chunk) for chunk in self._chunks(rows)]
        differences = np.concatenate([product(on_rest, self._rest_root) - root for on_rest, _ in chunks])
        total = differences @ differences.T
        for at, (noise, own) in enumerate(zip(self._noise(centre_own), centre_own, strict=True)):
            beside = stacked([on_own[at] for _, on_own in chunks])
            with_centre = np.asarray((beside @ noise.T).todense()).ravel()
            total += inner_products(csr_array(beside @ self.eliminated[at].kernels), beside)
            total += float(noise.multiply(own).sum()) - with_centre[:, None] - with_centre[None, :]
        total *= self.sigma**2
        if self.extra is not None:
            moved = rows @ self.sensitivity - np.asarray(centre @ self.sensitivity)
            total += moved @ self.extra @ moved.T
        return np.asarray(total)

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,) sds of ``(rows - centre) @ (beta, b)``, ``centre`` (1, p + q), which is never subtracted entry by entry."""
        if isinstance(rows, SharedRows) and self._is_worth_sharing(rows):
            return np.sqrt(shared_variance(self, rows.less(centre)))
        if not isinstance(rows, SharedRows) and rows.shape[0] > len(self.factor.root):
            return self._spread_by_parts(csr_array(rows), centre)
        return self._spread_of_differences(rows, centre)

    def _spread_by_parts(self, rows: csr_array, centre: csr_array) -> Floats:
        """As ``spread_about``: Var(x) - 2 Cov(x, c) + Var(c), and row by row again where that leaves few digits."""
        moved = self.covariance_times(centre)
        variance = self.variance(rows)
        square = variance - 2.0 * np.asarray(rows @ moved)[:, 0] + float(np.asarray(centre @ moved)[0, 0])
        found = np.sqrt(np.maximum(square, 0.0))
        lost = np.flatnonzero(square < FEW_DIGITS * variance)
        if len(lost):
            found[lost] = self._spread_of_differences(rows[lost], centre)
        return np.asarray(found)

    def _spread_of_differences(self, rows: Rows, centre: csr_array) -> Floats:
        """As ``spread_about``, of the differences themselves."""
        about, centre_own = self._split(centre)
        root, centre_noise = np.asarray(about @ self._rest_root), self._noise(centre_own)
        alone = sum(float(noise.multiply(own).sum()) for noise, own in zip(centre_noise, centre_own, strict=True))
        on_beta = None if self.extra is None else np.asarray(centre @ self.sensitivity)

        def of_chunk(chunk: csr_array) -> Floats:
            on_rest, on_own = self._split(chunk)
            total = np.sum((product(on_rest, self._rest_root) - root) ** 2, axis=1) + alone
            for own, noise, of_centre in zip(on_own, self._noise(on_own), centre_noise, strict=True):
                total += np.asarray(noise.multiply(own).sum(axis=1)).ravel() - 2.0 * np.asarray((own @ of_centre.T).todense()).ravel()
            total = self.sigma**2 * total
            if self.extra is not None and on_beta is not None:
                difference = np.asarray(chunk @ self.sensitivity) - on_beta
                total = total + np.einsum("ij,jk,ik->i", difference, self.extra, difference)
            return np.sqrt(np.maximum(total, 0.0))

        pieces = list(piece_by_piece(of_chunk, self._chunks(rows)))
        return np.concatenate(pieces) if pieces else np.zeros(0)

    def _chunks(self, rows: Rows) -> Iterator[csr_array]:
        """Consecutive rows, few enough for dense products with the rest's root."""
        size = max(1, min(LARGEST_CHUNK, DENSE_ENTRIES // max(len(self.factor.root), 1)))
        return (csr_array(as_csr(rows[at : at + size])) for at in range(0, rows.shape[0], size))

    def _variance(self, rows: csr_array) -> Floats:
        total = self.sigma**2 * (self._by_parents(rows) if self._has_parents(rows) else self._through_rest(rows))
        if self.extra is not None:
            on_beta = np.asarray(rows @ self.sensitivity)
            total = total + np.einsum("ij,jk,ik->i", on_beta, self.extra, on_beta)
        return np.maximum(total, 0.0)

    def _has_parents(self, rows: csr_array) -> bool:
        """Whether the covariances of the one factor above the leaves with the rest are worth being held, for so many rows."""
        if len(self.eliminated) != LEAVES_AND_PARENTS or rows.shape[0] <= len(self.factor.root):
            return False
        return self.eliminated[1].places.shape[0] * len(self.factor.root) <= DENSE_ENTRIES

    @cached_property
    def _parents(self) -> tuple[Floats, csr_array]:
        """Covariances over sigma^2 of the factor above the leaves: (L k, q_r + p) with the rest, and (L k, L k) its block diagonal."""
        found = self.factor.selected(self.factor.rest_covariance)[0]
        stage = self.factor.chain[0].stage
        levels, k = stage.own.shape[:2]
        if stage.cross.is_full:
            # the pattern on which covariances are selected has every column, and one of the outcome
            with_rest = found.cross.reshape(levels, -1, k)[:, :-1].transpose(0, 2, 1).reshape(levels * k, -1)
        else:
            # a parent's row of the cross-products touches what any of its leaves does: mostly all of the columns
            parents = self.eliminated[1]
            with_rest = -np.asarray(parents.kernels @ parents.from_rest(self.factor.rest_covariance))
        return with_rest, block_diagonal(found.own)

    def _by_parents(self, rows: csr_array) -> Floats:
        """As ``_through_rest``. A leaf's row touches one parent, and through it as much of the rest as all of that one's leaves: what they
        have in common is not gone through again for each."""
        on_rest, (on_leaves, on_parents) = self._split(rows, 1)
        on_parents.eliminate_zeros()
        with_rest, own = self._parents
        width = self.factor.chain[0].kernels.shape[1]
        spans = np.diff(on_parents.indptr)
        level = on_parents.indices // width
        row = np.repeat(np.arange(rows.shape[0]), spans)
        first = level[np.minimum(on_parents.indptr[:-1], max(len(level) - 1, 0))] if len(level) else level
        several = np.zeros(rows.shape[0], dtype=np.bool_)
        several[row[level != first[row]]] = True
        total = quadratic_forms(on_rest, self.factor.rest_covariance)
        total += 2.0 * bilinear_forms(on_rest, on_parents, with_rest)
        total += np.asarray(csr_array(on_parents @ own).multiply(on_parents).sum(axis=1)).ravel()
        total += np.asarray(csr_array(on_leaves @ self.eliminated[0].kernels).multiply(on_leaves).sum(axis=1)).ravel()
        if several.any():
            total[several] = self._through_rest(csr_array(rows[np.flatnonzero(several)]))
        return total

    def _through_rest(self, rows: csr_array) -> Floats:
        """(m,) variances over sigma^2 without ``extra``."""
        if goes_row_by_row(self.factor, rows):
            return row_by_row(self.factor, rows)
        on_rest, on_own = self._split(rows)
        if rows.shape[0] > len(self.factor.root) and on_rest.nnz * SPARSE_ROWS < rows.shape[0] * len(self.factor.root):
            total = quadratic_forms(on_rest, self.factor.rest_covariance)
        else:
            total = np.sum(product(on_rest, self._rest_root) ** 2, axis=1)
        for own, noise in zip(on_own, self._noise(on_own), strict=True):
            total = total + np.asarray(noise.multiply(own).sum(axis=1)).ravel()
        return np.asarray(total)

    @cached_property
    def sensitivity(self) -> Floats:
        """(p + q, p) d(beta, b-hat) / d beta: the conditional modes follow beta."""
        system, factor = self.factor.system, self.factor
        p, q = system.n_population, system.rest_starts[-1]
        root = factor.root
        to_rest = -solve_triangular(root[:q, :q], root[:q, q:]) if q else np.zeros((0, p))
        coordinates = np.vstack([to_rest, np.eye(p)]) @ system.triangle
        return factor.linear(coordinates.T).T

    def covariance_root(self) -> Floats:
        """(m, p + q) A with A'A = Var(beta, b)."""
        p = self.factor.system.n_population
        root = self.sigma * root_rows(self.factor)
        if self.extra is None:
            return root
        # beta gets its own covariance, and takes along what it moves in b
        own = root[:, :p]
        beta = square_root(own.T @ own + self.extra)
        return np.vstack([root - own @ self.sensitivity.T, beta.T @ self.sensitivity.T])

    def combine(self, rows: Rows, interval: float) -> Summary:
        """Linear combinations ``rows @ (beta, b)`` with Wald intervals."""
        return wald(np.asarray(rows @ self.mean), np.sqrt(self.variance(rows)), interval)

    def respond(
        self,
        rows: Rows,
        weights: csr_array,
        response: Callable[[Floats], Floats],
        slope: Callable[[Floats], Floats],
        interval: float,
    ) -> Summary:
        """Averages ``weights @ response(rows @ (beta, b))`` with standard errors by the delta method."""
        predictor = np.asarray(rows @ self.mean)
        estimate = np.asarray(weights @ response(predictor))
        gradient = averaged(csr_array(weights @ _diagonal(slope(predictor))), rows)
        return wald(estimate, np.sqrt(self.variance(gradient)), interval)

    def on_response_scale(self, summary: Summary, link: Link, interval: float) -> Summary:
        """Limits taken on the link scale by the delta method, so that they stay inside the outcome's range; identity is left as it is."""
        return inside_range(summary, link, interval)

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q) exact draws of the normal approximation."""
        rng = np.random.default_rng(seed)
        values = self.factor.draw(size, self.sigma, rng)
        if self.location is not None:
            values = values + (self.location - np.concatenate([self.factor.beta, self.factor.effects]))
        if self.extra is not None:
            values = values + rng.multivariate_normal(np.zeros(len(self.extra)), self.extra, size, method="eigh") @ self.sensitivity.T
        return values


def root_rows(factor: BlockedFactor) -> Floats:
    """(q_r + p and the eliminated effects, p + q) A with A'A = Var(beta, b | y, theta) / sigma^2."""
    width = len(factor.root)
    pieces, roots = [factor.linear(solve_upper(factor.root, np.eye(width)).T)], factor.kernel_roots if factor.system.merged else []
    for at, root in enumerate(roots):
        levels, k = root.shape[:2]
        place = np.arange(levels * k)
        noise = [np.zeros((len(place), *other.shape[:2])) for other in roots]
        noise[at][place, place // k] = root.transpose(0, 2, 1).reshape(-1, k)
        pieces.append(factor.linear(np.zeros((len(place), width)), noise))
    return np.concatenate(pieces)


FEW_NUMBERS = 1_000_000
"""Size of a dense product of rows and covariance up to which it is taken whole."""


def quadratic_forms(rows: csr_array, covariance: Floats) -> Floats:
    """(m,) x'Cx for every sparse row x (m, w) and symmetric C (w, w)."""
    if rows.shape[0] * rows.shape[1] <= FEW_NUMBERS:
        return np.asarray(rows.multiply(rows @ covariance).sum(axis=1)).ravel()
    cross = CrossProducts(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), rows.data[:, None])
    return spreads(cross, covariance, np.arange(rows.shape[0]))[:, 0, 0]


def wald(estimate: Floats, std_error: Floats, interval: float) -> Summary:
    """Estimates with equal-tailed normal limits."""
    half = ndtri(0.5 + interval / 2.0) * std_error
    return Summary(estimate, std_error, estimate - half, estimate + half)


def inside_range(summary: Summary, link: Link, interval: float) -> Summary:
    """Normal limits of averages on the response scale, taken on the link scale by the delta method; identity is left as it is."""
    if link.is_linear:
        return summary
    centre = link.inverse(summary.estimate)
    half = ndtri(0.5 + interval / 2.0) * summary.std_error / link.slope(centre)
    return Summary(summary.estimate, summary.std_error, link.mean(centre - half), link.mean(centre + half))


def square_root(covariance: Floats) -> Floats:
    """A square root of positive semi-definite matrices (..., k, k), singular ones included."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])


def _diagonal(values: Floats) -> csr_array:
    n = len(values)
    return csr_array((values, np.arange(n), np.arange(n + 1)), shape=(n, n))
