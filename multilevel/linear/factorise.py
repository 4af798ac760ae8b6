"""The blocked factorisation: one level-by-level elimination, one dense Cholesky factor of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.errors import FitError
from multilevel.linear.arrow_matrices import level_rows
from multilevel.linear.chain import (
    NOT_JOINED,
    RestCovariance,
    SelectedCovariance,
    Stage,
    StageFactor,
    Upward,
    eliminate,
    fold_up,
    selected_covariances,
    spreads_above,
)
from multilevel.linear.elimination import add_products, conditional_blocks, conditional_roots, schur_complement, schur_in_one_pass
from multilevel.linear.presummed import Presummed, between_levels, presum, unsummed
from multilevel.linear.products import CrossProducts, mirror
from multilevel.linear.row_variances import coefficient_places
from multilevel.linear.small_blocks import column_slices, diagonal_blocks, diagonals, matrix_roots, scale_block, side_by_side
from multilevel.linear.triangular import solve_upper, upper_inverse, upper_root

type OfBlocks = tuple[tuple[int, ...], Floats]
"""Numbers of the blocks of one eliminated factor, side by side."""


@dataclass(frozen=True)
class BlockedSystem:
    """Cross-products kept once per study.

    sizes : per block (L, k). merged : blocks of the eliminated factor, their columns side by side; rest : blocks that stay, in order.
    chain : factors that are eliminated after it, each nested in the one before; up : how its levels are joined to theirs.
    own : (L, k, k) Z_e'Z_e by level; cross : Z_e'[Z_r Q r] by level; gram : (m, m) [Z_r Q r]'[Z_r Q r] with X = Q T, r = y - Q location.
    inside : (p + 1, p + 1) cross-products of what a scalar Z_e leaves of [Q r] within its levels, from rows; None where Z_e is not scalar
    or the rows are weighted, since weights over a hundred orders of size leave the differences of the other columns no meaning beside it.
    is_for_once : factorised at one theta alone, so that nothing is worth being summed beforehand.
    """

    sizes: tuple[tuple[int, int], ...]
    merged: tuple[int, ...]
    rest: tuple[int, ...]
    own: Floats
    cross: CrossProducts
    gram: Floats
    triangle: Floats
    location: Floats
    residual_ss: float
    n_rows: int
    inside: Floats | None = None
    is_for_once: bool = False
    chain: tuple[Stage, ...] = ()
    up: Upward = NOT_JOINED

    @property
    def n_population(self) -> int:
        """p."""
        return len(self.location)

    @property
    def n_effects(self) -> int:
        """q."""
        return sum(levels * k for levels, k in self.sizes)

    @cached_property
    def rest_starts(self) -> tuple[int, ...]:
        """Where each rest block begins among the rest's q_r columns."""
        sizes = [self.sizes[index][0] * self.sizes[index][1] for index in self.rest]
        return tuple(int(s) for s in np.concatenate([[0], np.cumsum(sizes)]))

    def factorise(
        self, lambdas: Sequence[Floats], beta_precision: Floats | None = None, beta_location: Floats | None = None
    ) -> BlockedFactor:
        """One factorisation at the relative covariance factors ``lambdas``; see ``LinearSystem``."""
        own_lambda = side_by_side([lambdas[index] for index in self.merged])
        kernels, log_det = conditional_blocks(self.own, own_lambda)
        schur = self._eliminate(own_lambda, kernels)
        chain, log_det_chain = eliminate(self.chain_left(own_lambda, kernels), self.of_chain(lambdas), schur)
        q, p = self.rest_starts[-1], self.n_population
        work = schur.copy()
        for index, start in zip(self.rest, self.rest_starts, strict=False):
            scale_block(work, lambdas[index], start, self.sizes[index])
        work[np.arange(q), np.arange(q)] += 1.0
        extra = 0.0 if beta_precision is None else self._add_prior(work, q, p, beta_precision, beta_location)
        try:
            root = upper_root(work[: q + p, : q + p])
        except np.linalg.LinAlgError as error:
            raise FitError("The cross-products are not positive definite: columns of the model are collinear within rounding.") from error
        right = solve_upper(root, work[: q + p, -1], transposed=True)
        rss = float(work[-1, -1] - right @ right + extra + self.residual_ss)
        return BlockedFactor(self, tuple(lambdas), own_lambda, kernels, log_det + log_det_chain, schur, root, right, rss, tuple(chain))

    def of_chain(self, lambdas: Sequence[Floats]) -> list[Floats]:
        """Of each factor of the chain, its blocks side by side."""
        return [side_by_side([lambdas[index] for index in stage.blocks]) for stage in self.chain]

    @cached_property
    def presummed(self) -> Presummed:
        """Levels of a scalar eliminated factor summed once by equal Z_e'Z_e, where that is cheaper."""
        if self.chain or self.inside is None:
            # levels that pass something on to their ancestors are gone through one by one in any case, and weighted ones share no weight
            return unsummed(self.own, len(self.gram))
        return presum(self.own, self.cross, len(self.gram))

    def let_go(self) -> None:
        """Let go of what is summed beforehand for many factorisations: the few that follow go through the levels one by one."""
        self.__dict__["presummed"] = unsummed(self.own, len(self.gram))

    @cached_property
    def leaf_rows(self) -> csr_array:
        """Sparse Z_e'[Z_r Q] of the eliminated factor, see ``level_rows``; the same at every theta."""
        return level_rows(self.cross, len(self.gram))

    @cached_property
    def coefficient_places(self) -> Integers:
        """See ``row_variances.coefficient_places``."""
        return coefficient_places(self)

    @cached_property
    def distinct_own(self) -> tuple[Floats, Floats]:
        """The distinct Z_e'Z_e of a scalar eliminated factor, and how many levels have each."""
        values, counts = np.unique(self.own[:, 0, 0], return_counts=True)
        return values, counts.astype(np.float64)

    @cached_property
    def inverse_triangle(self) -> Floats:
        """(p, p) T^-1."""
        return solve_upper(self.triangle, np.eye(len(self.triangle)))

    def _eliminate(self, own_lambda: Floats, kernels: Floats) -> Floats:
        """(m, m) Schur complement gram - sum_j H_j' K_j H_j."""
        if self.inside is None:
            return schur_complement(self.gram, self.cross, kernels)
        scale = own_lambda[0, 0] ** 2
        if self.is_for_once:
            return schur_in_one_pass(self.gram, self.cross, kernels, self.inside, between_levels(self.own, scale))
        return self._within_levels + self._between_levels(scale)

    def chain_left(self, own_lambda: Floats, kernels: Floats) -> list[Stage]:
        """The chain's cross-products with the first factor eliminated."""
        if not self.chain or self.inside is None:
            return fold_up(self.chain, kernels, self.cross, self.up)
        between = between_levels(self.own, own_lambda[0, 0] ** 2)
        return fold_up(self._chain_within, between, self.cross, self.up, sign=1.0)

    @cached_property
    def _chain_within(self) -> list[Stage]:
        """As ``_within_levels``, of the chain."""
        return fold_up(self.chain, between_levels(self.own, 0.0), self.cross, self.up)

    def _between_levels(self, scale: float) -> Floats:
        """(m, m) sum over levels of v v' / (g + scale g^2): what theta^2 = ``scale`` leaves of the differences between levels.

        A sum of squares, where gram - sum_j K_j v v' would lose all digits to the difference once theta^2 g is large.
        """
        summed = self.presummed
        total = summed.total(between_levels(summed.own, scale), len(self.gram))
        add_products(total, self.cross, between_levels(self.own, scale), summed.singles)
        mirror(total)
        return total

    @cached_property
    def _within_levels(self) -> Floats:
        """(m, m) cross-products within levels, theta infinite; of [Q r] as the rows give them."""
        assert self.inside is not None
        within = self.gram - self._between_levels(0.0)
        within[-len(self.inside) :, -len(self.inside) :] = self.inside
        return within

    def _add_prior(self, work: Floats, q: int, p: int, precision: Floats, location: Floats | None) -> float:
        """Add the prior of beta in the coordinates T beta - location; returns its part of the residual sum of squares."""
        rotated = self.inverse_triangle.T @ precision @ self.inverse_triangle
        centre = (np.zeros(p) if location is None else self.triangle @ location) - self.location
        work[q : q + p, q : q + p] += rotated
        pull = rotated @ centre
        work[q : q + p, -1] += pull
        work[-1, q : q + p] += pull
        return float(centre @ pull)


@dataclass(frozen=True)
class BlockedFactor:
    """M(theta) factorised; the coordinates of the rest are (u_r, gamma) with T beta = gamma + location.

    kernels : (L, k, k) Var(b_j | everything else) / sigma^2 of the eliminated factor; chain : the factors eliminated after it.
    answered : what was asked before and is asked again, shared with the dense part.
    """

    system: BlockedSystem
    lambdas: tuple[Floats, ...]
    own_lambda: Floats
    kernels: Floats
    log_det_own: float
    schur: Floats
    root: Floats
    right: Floats
    rss: float
    chain: tuple[StageFactor, ...] = ()
    answered: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    @property
    def _q(self) -> int:
        return self.system.rest_starts[-1]

    @cached_property
    def stages(self) -> tuple[StageFactor, ...]:
        """Every eliminated factor, from the leaves up."""
        system = self.system
        if not system.merged:
            return ()
        return (StageFactor(Stage(system.merged, system.own, system.cross, system.up), self.own_lambda, self.kernels), *self.chain)

    @property
    def log_det_effects(self) -> float:
        """log |Lambda' Z'Z Lambda + I|."""
        return self.log_det_own + 2.0 * float(np.sum(np.log(np.diagonal(self.root)[: self._q])))

    @property
    def log_det_population(self) -> float:
        """log |R_XX|^2 in the coordinates of the original X."""
        rotated = 2.0 * float(np.sum(np.log(np.diagonal(self.root)[self._q :])))
        return rotated + 2.0 * float(np.sum(np.log(np.abs(np.diagonal(self.system.triangle)))))

    @property
    def penalised_rss(self) -> float:
        """r^2, with the pseudo-rows' residual sum of squares."""
        return self.rss

    @cached_property
    def rest_solution(self) -> Floats:
        """(q_r + p,) of (u_r, gamma)."""
        return solve_upper(self.root, self.right)

    @property
    def beta(self) -> Floats:
        """(p,) coefficients."""
        return self._beta(self.rest_solution[None, :])[0]

    @property
    def beta_from_location(self) -> Floats:
        """(p,) coefficients less T^-1 location, with the digits that a large intercept would take from small changes."""
        return solve_upper(self.system.triangle, self.rest_solution[self._q :])

    @property
    def effects(self) -> Floats:
        """(q,) b = Lambda u."""
        return self._assemble(self.rest_solution[None, :])[0, self.system.n_population :]

    def _beta(self, rest: Floats, *, about_zero: bool = False) -> Floats:
        return solve_upper(self.system.triangle, (rest[:, self._q :] + (0.0 if about_zero else self.system.location)).T).T

    def rest_effects(self, rest: Floats) -> Floats:
        """(n, q_r + p) coefficients of the columns [Z_r Q]: u scaled to b."""
        scaled = rest.copy()
        for index, start in zip(self.system.rest, self.system.rest_starts, strict=False):
            levels, k = self.system.sizes[index]
            here = slice(start, start + levels * k)
            scaled[:, here] = (rest[:, here].reshape(len(rest), levels, k) @ self.lambdas[index].T).reshape(len(rest), -1)
        return scaled

    def _eliminated(self, coefficients: Floats, noise: Sequence[Floats], first: int = 0, *, about_zero: bool = False) -> list[OfBlocks]:
        """The eliminated effects at rest coefficients (n, q_r + p), (n, L, k) for the blocks of each factor: their conditional means, with
        the ``noise`` of each, if any; from the factor ``first`` up. ``about_zero`` : of an outcome that is zero."""
        full = np.concatenate([-coefficients, np.full((len(coefficients), 1), 0.0 if about_zero else 1.0)], axis=1)
        found: list[OfBlocks] = []
        for at in range(len(self.stages) - 1, first - 1, -1):
            stage, kernels = self.stages[at].stage, self.stages[at].kernels
            score = np.stack([(matrix @ full.T).T for matrix in stage.cross.matrices(full.shape[1])], axis=2)
            for link, ancestors, (_, above) in zip(stage.up.links, stage.up.ancestors, found, strict=True):
                score -= np.einsum("lij,nlj->nli", link, above[:, ancestors])
            own = np.einsum("lij,nlj->nli", kernels, score)
            found.insert(0, (stage.blocks, own + noise[at] if noise else own))
        return found

    @cached_property
    def chain_effects(self) -> tuple[Floats, ...]:
        """(L, k) effects of every factor of the chain."""
        found = self._eliminated(self.rest_effects(self.rest_solution[None, :]), (), 1)
        return tuple(own[0] for _, own in found)

    def linear(self, rest: Floats, noise: Sequence[Floats] = ()) -> Floats:
        """(n, p + q) how far (beta, b) move with (n, q_r + p) of (u_r, gamma) and the ``noise`` of each eliminated factor."""
        return self._assemble(rest, noise, about_zero=True)

    def _assemble(self, rest: Floats, noise: Sequence[Floats] = (), *, about_zero: bool = False) -> Floats:
        """(n, p + q) of (beta, b) from (n, q_r + p) of (u_r, gamma); ``noise`` (n, L, k) of each eliminated factor is added."""
        system = self.system
        coefficients = self.rest_effects(rest)
        result = np.empty((len(rest), system.n_population + system.n_effects))
        result[:, : system.n_population] = self._beta(rest, about_zero=about_zero)
        offsets = system.n_population + np.concatenate([[0], np.cumsum([levels * k for levels, k in system.sizes])])
        for index, start in zip(system.rest, system.rest_starts, strict=False):
            size = system.sizes[index][0] * system.sizes[index][1]
            result[:, offsets[index] : offsets[index] + size] = coefficients[:, start : start + size]
        if system.merged:
            for blocks, own in self._eliminated(coefficients, noise, about_zero=about_zero):
                for index, part in zip(blocks, self._by_block(blocks, own), strict=True):
                    size = int(np.prod(part.shape[1:]))
                    result[:, offsets[index] : offsets[index] + size] = part.reshape(len(part), size)
        return result

    def _by_block(self, blocks: Sequence[int], columns: Floats) -> list[Floats]:
        """Split the last axis of ``columns`` into those of the blocks, which stand side by side."""
        widths = [self.system.sizes[index][1] for index in blocks]
        return np.split(columns, np.cumsum(widths)[:-1], axis=-1)

    def draw(self, size: int, sigma: float, rng: np.random.Generator) -> Floats:
        """(size, p + q) exact draws of (beta, b) given theta and sigma."""
        rest = self.rest_solution[:, None] + sigma * solve_upper(self.root, rng.standard_normal((len(self.right), size)))
        roots = self.kernel_roots if self.system.merged else []
        noise = [sigma * np.einsum("lij,nlj->nli", root, rng.standard_normal((size, *root.shape[:2]))) for root in roots]
        return self._assemble(rest.T, noise)

    @cached_property
    def kernel_roots(self) -> list[Floats]:
        """Per eliminated factor (L, k, k) A with A A' = kernel."""
        if not self.lambdas:
            return [matrix_roots(self.kernels)]
        return [conditional_roots(one.stage.own, one.own_lambda) for one in self.stages]

    @cached_property
    def rest_given_beta(self) -> RestCovariance:
        """Var(b_r | y, theta, beta) / sigma^2."""
        unit = self.unit_inverse(self._q)
        blocks = zip(self.system.rest, self.system.rest_starts, strict=False)
        diagonals = tuple(diagonal_blocks(unit, start, self.system.sizes[index]) for index, start in blocks)
        return RestCovariance(diagonals, self.to_effects(unit))

    @cached_property
    def selected_given_beta(self) -> tuple[SelectedCovariance, ...]:
        """Of every eliminated factor, from the leaves up, the covariances over sigma^2 given theta and beta that rows touch."""
        return tuple(selected_covariances(self.stages, self.rest_given_beta.effects))

    def unit_inverse(self, width: int) -> Floats:
        """(width, width) inverse of the leading part of M, in (u_r, gamma)."""
        return upper_inverse(self.root[:width, :width])

    def to_effects(self, inverse: Floats) -> Floats:
        """The covariance of u as that of b, in place: D inverse D'."""
        for index, start in zip(self.system.rest, self.system.rest_starts, strict=False):
            scale_block(inverse, self.lambdas[index].T, start, self.system.sizes[index])
        return inverse

    def selected(self, covariance: Floats) -> list[SelectedCovariance]:
        """Those of the chain, over sigma^2, from that of the rest's first columns."""
        return selected_covariances(self.chain, covariance)

    def conditional_variance(self, maps: Sequence[Floats] | None = None) -> tuple[Floats, ...]:
        """Per block (L, k): diagonal of Var(A b | y, theta, beta) / sigma^2, A (k, k) of each block in ``maps``, else the identity."""
        return diagonals(self.conditional_blocks(), [np.eye(k) for _, k in self.system.sizes] if maps is None else maps)

    def conditional_blocks(self) -> tuple[Floats, ...]:
        """Per block (L, k, k): Var(b | y, theta, beta) / sigma^2 of every level."""
        return self.effect_blocks(self.rest_given_beta.effects)

    def variance(self) -> tuple[Floats, tuple[Floats, ...]]:
        """(p,) and per block (L, k): the diagonal of Var(beta, b | y, theta) / sigma^2."""
        own = np.diagonal(self.population_covariance)
        return np.asarray(own), diagonals(self.effect_blocks(self.rest_covariance), [np.eye(k) for _, k in self.system.sizes])

    @property
    def population_covariance(self) -> Floats:
        """(p, p) Var(beta | y, theta) / sigma^2."""
        inverse = self.system.inverse_triangle
        return np.asarray(inverse @ self.rest_covariance[self._q :, self._q :] @ inverse.T)

    @cached_property
    def rest_covariance(self) -> Floats:
        """(q_r + p, q_r + p) Var of the coefficients of [Z_r Q] over sigma^2."""
        return self.to_effects(self.unit_inverse(len(self.root)))

    @property
    def level_spreads(self) -> Floats:
        """(L,) see ``row_loops.variances``."""
        return self.answered.setdefault("level_spreads", np.full(len(self.system.own), np.nan))

    def effect_blocks(self, covariance: Floats) -> tuple[Floats, ...]:
        """Per block (L, k, k), from the ``covariance`` (w, w) of the rest's first columns."""
        system = self.system
        result: list[Floats] = [np.zeros((levels, k, k)) for levels, k in system.sizes]
        for index, start in zip(system.rest, system.rest_starts, strict=False):
            result[index] = diagonal_blocks(covariance, start, system.sizes[index])
        if system.merged:
            above = self.selected(covariance)
            spread = spreads_above(system.cross, system.up, above, covariance)
            first = self.kernels + self.kernels @ spread @ self.kernels
            for one, own in zip(self.stages, [first, *(own.own for own in above)], strict=True):
                for index, here in column_slices(system.sizes, one.stage.blocks):
                    result[index] = own[:, here, here]
        return tuple(result)
