"""Weighted cross-products of reduced rows, over and over: the pattern is found once, each reweighting is a few compiled passes.

The elimination is that of ``multilevel.linear``, the chain of nested factors one after the other and the rest dense; only the numbers in
it change from one PIRLS step to the next. The compiled loops are loaded where they are used: a linear model needs none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from multilevel.arrays import Floats, Integers
from multilevel.design.reduction import ReducedRows
from multilevel.families.likelihood_parts import row_parts
from multilevel.linear.assemble import linear_system
from multilevel.linear.chain import Stage, StageFactor
from multilevel.linear.factorise import BlockedFactor, BlockedSystem
from multilevel.linear.products import CrossProducts, mirror
from multilevel.linear.small_blocks import column_slices
from multilevel.linear.touched_covariances import TouchedCovariances
from multilevel.linear.triangular import solve_upper
from multilevel.threads import shared_out


@dataclass(frozen=True)
class Coordinates:
    """A vector over all coefficients: ``rest`` (q_r,) the blocks that stay, ``eliminated`` (L, k) of every eliminated factor, from the
    leaves up, ``basis`` (p,) of Q."""

    rest: Floats
    eliminated: tuple[Floats, ...]
    basis: Floats

    @property
    def own(self) -> Floats:
        """(L, k) of the factor that is eliminated first."""
        return self.eliminated[0]

    def __add__(self, other: Coordinates) -> Coordinates:
        eliminated = tuple(a + b for a, b in zip(self.eliminated, other.eliminated, strict=True))
        return Coordinates(self.rest + other.rest, eliminated, self.basis + other.basis)

    def __sub__(self, other: Coordinates) -> Coordinates:
        return self + other.times(-1.0)

    def times(self, scale: float) -> Coordinates:
        """Every entry times ``scale``."""
        return Coordinates(scale * self.rest, tuple(scale * own for own in self.eliminated), scale * self.basis)

    def dot(self, other: Coordinates) -> float:
        """Inner product."""
        eliminated = sum(float(np.vdot(a, b)) for a, b in zip(self.eliminated, other.eliminated, strict=True))
        return float(self.rest @ other.rest + self.basis @ other.basis) + eliminated

    def effects_dot(self, other: Coordinates) -> float:
        """Inner product without that of the coefficients of Q."""
        return self.dot(replace(other, basis=0.0 * other.basis))

    def with_basis(self, basis: Floats) -> Coordinates:
        """The same effects beside other coefficients of Q."""
        return replace(self, basis=basis)


@dataclass(frozen=True)
class EliminatedRows:
    """The rows of an eliminated factor: codes (R,), values (R, k), and the place (R, s + p) of each of a row's columns of [Z_r Q] in the
    level's pattern, -1 where it is always zero."""

    codes: Integers
    values: Floats
    positions: Integers


@dataclass(frozen=True)
class Reweighting:
    """Reduced rows laid out for elimination.

    template : the unweighted system, whose sizes, order, pattern and triangle T (X = Q T) every reweighted one shares.
    basis : (R, p) Q. eliminated : the eliminated factors, from the leaves up. rest_columns, rest_values (R, s): the other blocks' columns.
    """

    template: BlockedSystem
    offset: Floats
    basis: Floats
    eliminated: tuple[EliminatedRows, ...]
    rest_columns: Integers
    rest_values: Floats

    @property
    def n_rest(self) -> int:
        """q_r."""
        return self.template.rest_starts[-1]

    def zero(self) -> Coordinates:
        """The zero vector."""
        eliminated = tuple(np.zeros(stage.own.shape[:2]) for stage in _stages(self.template))
        return Coordinates(np.zeros(self.n_rest), eliminated, np.zeros(self.basis.shape[1]))

    def system(self, weights: Floats) -> BlockedSystem:
        """The cross-products with row ``weights`` (R,)."""
        stages, found = _stages(self.template), dict[int, Stage]()

        def of_stage(at: int) -> Callable[[], None]:
            return lambda: found.update({at: self._weighted(at, stages[at], weights)})

        template, gram = self.template, np.zeros(self.template.gram.shape)
        self._at_once([lambda: self._weighted_rest(weights, gram), *(of_stage(at) for at in range(len(stages)))])
        system = replace(template, gram=gram, location=np.zeros(self.basis.shape[1]), residual_ss=0.0, inside=None)
        if not stages:
            return system
        leaf, *chain = [found[at] for at in range(len(stages))]
        return replace(system, own=leaf.own, cross=leaf.cross, up=leaf.up, chain=tuple(chain))

    def _at_once(self, tasks: Sequence[Callable[[], object]]) -> None:
        """One after the other where there are so few rows that threads save no time."""
        if len(self.parts) > 1:
            shared_out(tasks)
            return
        for task in tasks:
            task()

    def _weighted_rest(self, weights: Floats, gram: Floats) -> None:
        from multilevel.generalised.kernels import accumulate_rest

        accumulate_rest(weights, self.rest_columns, self.rest_values, self.basis, gram)
        q, p = self.n_rest, self.basis.shape[1]
        gram[q : q + p, q : q + p] = self.basis.T @ (weights[:, None] * self.basis)
        mirror(gram)

    def _weighted(self, at: int, stage: Stage, weights: Floats) -> Stage:
        from multilevel.generalised.kernels import accumulate_level, accumulate_link

        rows = self.eliminated[at]
        own, cross = np.zeros(stage.own.shape), np.zeros(stage.cross.values.shape)
        accumulate_level(weights, rows.codes, rows.values, self.rest_columns, self.rest_values, self.basis, rows.positions, own, cross)
        links = []
        for above, link in zip(self.eliminated[at + 1 :], stage.up.links, strict=True):
            links.append(np.zeros(link.shape))
            accumulate_link(weights, rows.codes, rows.values, above.values, links[-1])
        own = own + np.tril(own, -1).swapaxes(1, 2) if own.shape[1] > 1 else own
        return replace(stage, own=own, cross=replace(stage.cross, values=cross), up=replace(stage.up, links=tuple(links)))

    def linear(self, at: Coordinates) -> Floats:
        """(R,) Z b + Q gamma for effects b and gamma."""
        from multilevel.generalised.kernels import add_level_predictors, add_predictors

        total: Floats = np.empty(len(self.offset))

        def of_part(here: slice) -> Callable[[], None]:
            def run() -> None:
                own = self.basis[here] @ at.basis
                add_predictors(self.rest_columns[here], self.rest_values[here], at.rest, own)
                for rows, effects in zip(self.eliminated, at.eliminated, strict=True):
                    add_level_predictors(rows.codes[here], rows.values[here], effects, own)
                total[here] = own

            return run

        self._at_once([of_part(here) for here in self.parts])
        return total

    def transposed(self, values: Floats) -> Coordinates:
        """[Z Q]' values, for ``values`` (R,)."""
        from multilevel.generalised.kernels import add_to_columns, add_to_levels

        rest = np.zeros(self.n_rest)
        eliminated = tuple(np.zeros(stage.own.shape[:2]) for stage in _stages(self.template))

        def of_level(rows: EliminatedRows, result: Floats) -> Callable[[], object]:
            return lambda: add_to_levels(rows.codes, rows.values, values, result)

        levels = [of_level(rows, result) for rows, result in zip(self.eliminated, eliminated, strict=True)]
        self._at_once([*levels, lambda: add_to_columns(self.rest_columns, self.rest_values, values, rest)])
        return Coordinates(rest, eliminated, self.basis.T @ values)

    def by_block(self, at: Coordinates) -> list[Floats]:
        """Per block, in the order of ``Design``, its (L, k) part."""
        template = self.template
        parts: list[Floats] = [np.zeros(size) for size in template.sizes]
        for index, start in zip(template.rest, template.rest_starts, strict=False):
            levels, k = template.sizes[index]
            parts[index] = at.rest[start : start + levels * k].reshape(levels, k)
        for stage, own in zip(_stages(template), at.eliminated, strict=True):
            for index, here in column_slices(template.sizes, stage.blocks):
                parts[index] = own[:, here]
        return parts

    def from_blocks(self, parts: Sequence[Floats], basis: Floats) -> Coordinates:
        """The inverse of ``by_block``."""
        template = self.template
        rest = [parts[index].ravel() for index in template.rest]
        eliminated = tuple(np.hstack([parts[index] for index in stage.blocks]) for stage in _stages(template))
        return Coordinates(np.concatenate(rest) if rest else np.zeros(0), eliminated, basis)

    def beta(self, at: Coordinates) -> Floats:
        """(p,) coefficients of the original X."""
        return solve_triangular(self.template.triangle, at.basis) if len(at.basis) else at.basis

    def leverages(self, factor: BlockedFactor) -> Floats:
        """(R,) Var(z'b | y, theta, beta) of every row."""
        return self._variances(TouchedCovariances.given_beta(factor), self.rest_columns, self.rest_values)

    def variances(self, given: TouchedCovariances) -> Floats:
        """(R,) Var(x'beta + z'b | y, theta) of every row; ``given`` has beta's covariances."""
        columns, values = self._all_columns
        return self._variances(given, columns, values)

    def _variances(self, given: TouchedCovariances, columns: Integers, values: Floats) -> Floats:
        from multilevel.generalised.kernels import add_level_variance, add_link_covariance, rest_variance

        result = np.empty(len(columns))

        def of_part(here: slice) -> Callable[[], None]:
            def run() -> None:
                own = rest_variance(columns[here], values[here], given.rest)
                for at, (rows, one) in enumerate(zip(self.eliminated, given.stages, strict=True)):
                    codes, of_rows = rows.codes[here], rows.values[here]
                    add_level_variance(codes, of_rows, values[here], rows.positions[here], one.own, one.cross, own)
                    for above, link in zip(self.eliminated[at + 1 :], one.links, strict=True):
                        add_link_covariance(codes, of_rows, above.values[here], link, own)
                result[here] = own

            return run

        self._at_once([of_part(here) for here in self.parts])
        return result

    @cached_property
    def parts(self) -> tuple[slice, ...]:
        """The rows in the parts in which they are worked on."""
        return row_parts(len(self.offset))

    @cached_property
    def _all_columns(self) -> tuple[Integers, Floats]:
        """(R, s + p) columns and values of the rest with those of Q."""
        n, p = self.basis.shape
        columns = np.hstack([self.rest_columns, np.broadcast_to(self.n_rest + np.arange(p), (n, p))])
        return columns, np.hstack([self.rest_values, self.basis])


def undone(root: Floats, effects: Floats) -> Floats:
    """(L, k) the inverse of ``root`` (k, k) times each row of ``effects``."""
    return effects / root[0, 0] if len(root) == 1 else np.linalg.solve(root, effects.T).T


def _stages(system: BlockedSystem) -> tuple[Stage, ...]:
    """Every eliminated factor, from the leaves up."""
    return (Stage(system.merged, system.own, system.cross, system.up), *system.chain) if system.merged else ()


def solve(factor: BlockedFactor, right: Coordinates, *, with_basis: bool) -> tuple[Coordinates, Coordinates]:
    """Solve M (u, gamma) = (Lambda' right_Z, right_Q); returns (b = Lambda u, gamma) and (u, gamma).

    Without ``with_basis`` the coefficients of Q are held at zero.
    """
    q, stages = factor.system.rest_starts[-1], factor.stages
    size = q + len(right.basis) if with_basis else q
    vector, left = np.concatenate([right.rest, right.basis])[:size], list(right.eliminated)
    for at, one in enumerate(stages):
        vector = _pass_on(one, np.einsum("lij,lj->li", one.kernels, left[at]), vector, left, at)
    vector[:q] = _repeat(factor, vector[:q], transposed=True)
    scaled, coefficients = _rest_solved(factor, vector)
    effects: list[Floats] = []
    spherical: list[Floats] = []
    for at, one in reversed(list(enumerate(stages))):
        gap = left[at] - _explained(one, coefficients, effects)
        own = np.einsum("lij,lj->li", one.kernels, gap)
        effects.insert(0, own)
        spherical.insert(0, (gap - np.einsum("lij,lj->li", one.stage.own, own)) @ one.own_lambda)
    basis = scaled[q:] if with_basis else np.zeros(len(right.basis))
    return Coordinates(coefficients[:q], tuple(effects), basis), Coordinates(scaled[:q], tuple(spherical), basis)


def solve_spherical(factor: BlockedFactor, right: Coordinates, *, with_basis: bool) -> Coordinates:
    """(u, gamma) of M (u, gamma) = ``right``, which need not be in the range of Lambda'; of a penalised ``factor``."""
    q, stages = factor.system.rest_starts[-1], factor.stages
    size = q + len(right.basis) if with_basis else q
    vector, inner = np.concatenate([np.zeros(q), right.basis])[:size], []
    turned = [np.zeros(own.shape) for own in right.eliminated]
    for at, one in enumerate(stages):
        inner.append(right.eliminated[at] + turned[at] @ one.own_lambda)
        vector = _pass_on(one, np.einsum("lij,lj->li", one.unit_kernels, inner[at]) @ one.own_lambda.T, vector, turned, at)
    vector[:q] = _repeat(factor, vector[:q], transposed=True) + right.rest
    scaled, coefficients = _rest_solved(factor, vector)
    effects: list[Floats] = []
    spherical: list[Floats] = []
    for at, one in reversed(list(enumerate(stages))):
        gap = inner[at] - _explained(one, coefficients, effects) @ one.own_lambda
        spherical.insert(0, np.einsum("lij,lj->li", one.unit_kernels, gap))
        effects.insert(0, spherical[0] @ one.own_lambda.T)
    return Coordinates(scaled[:q], tuple(spherical), scaled[q:] if with_basis else np.zeros(len(right.basis)))


def _pass_on(one: StageFactor, own: Floats, vector: Floats, left: list[Floats], at: int) -> Floats:
    """``vector`` less what the effects ``own`` (L, k) of a factor explain of it; what is ``left`` of those above, in place."""
    from multilevel.generalised.kernels import transposed_times

    cross, up = one.stage.cross, one.stage.up
    for above, (ancestors, link) in enumerate(zip(up.ancestors, up.links, strict=True), at + 1):
        explained = np.einsum("lij,li->lj", link, own)
        sums = [np.bincount(ancestors, column, len(left[above])) for column in explained.T]
        left[above] = left[above] - np.stack(sums, axis=1)
    return np.asarray(vector - transposed_times(cross.starts, cross.columns, cross.values, own, len(vector)))


def _explained(one: StageFactor, coefficients: Floats, above: Sequence[Floats]) -> Floats:
    """(L, k) what the rest's ``coefficients`` and the effects ``above`` explain of a factor's cross-products."""
    from multilevel.generalised.kernels import cross_times

    cross, up = one.stage.cross, one.stage.up
    total = np.asarray(cross_times(cross.starts, cross.columns, cross.values, coefficients))
    for ancestors, link, own in zip(up.ancestors, up.links, above, strict=True):
        total += np.einsum("lij,lj->li", link, own[ancestors])
    return total


def _rest_solved(factor: BlockedFactor, vector: Floats) -> tuple[Floats, Floats]:
    """(u_r, gamma) from their right-hand side, as far as it goes, and the same with b_r."""
    size, q = len(vector), factor.system.rest_starts[-1]
    root = factor.root if size == len(factor.root) else factor.root[:size, :size]
    scaled = solve_upper(root, solve_upper(root, vector, transposed=True))
    return scaled, np.concatenate([_repeat(factor, scaled[:q], transposed=False), scaled[q:]])


def _repeat(factor: BlockedFactor, vector: Floats, *, transposed: bool) -> Floats:
    """Each rest block's Lambda (or its transpose) times every level's part of ``vector`` (q_r,)."""
    result = vector.copy()
    for index, start in zip(factor.system.rest, factor.system.rest_starts, strict=False):
        levels, k = factor.system.sizes[index]
        here = slice(start, start + levels * k)
        turn = factor.lambdas[index] if transposed else factor.lambdas[index].T
        result[here] = (vector[here].reshape(levels, k) @ turn).ravel()
    return result


def reweighting(rows: ReducedRows) -> Reweighting:
    """Find the pattern. Raises FitError as ``linear_system`` does: values not finite, a second factor too large."""
    template = linear_system(rows)
    n, p = len(rows.outcome), rows.X.shape[1]
    columns, values = [], []
    for index, start in zip(template.rest, template.rest_starts, strict=False):
        block = rows.blocks[index]
        k = block.values.shape[1]
        columns.append(start + block.codes.astype(np.int64)[:, None] * k + np.arange(k))
        values.append(block.values)
    rest_columns = np.hstack(columns) if columns else np.zeros((n, 0), np.int64)
    basis = solve_triangular(template.triangle, rows.X.T, trans="T").T if p else rows.X
    everywhere = np.hstack([rest_columns, np.broadcast_to(template.rest_starts[-1] + np.arange(p), (n, p))])
    return Reweighting(
        template=template,
        offset=rows.offset,
        basis=np.ascontiguousarray(basis),
        eliminated=tuple(_eliminated_rows(rows, stage, everywhere) for stage in _stages(template)),
        rest_columns=rest_columns,
        rest_values=np.hstack(values) if values else np.zeros((n, 0)),
    )


def _eliminated_rows(rows: ReducedRows, stage: Stage, columns: Integers) -> EliminatedRows:
    codes = rows.blocks[stage.blocks[0]].codes.astype(np.int64)
    values = np.hstack([rows.blocks[index].values for index in stage.blocks])
    return EliminatedRows(codes, np.ascontiguousarray(values), _positions(stage.cross, codes, columns))


def _positions(cross: CrossProducts, codes: Integers, columns: Integers) -> Integers:
    from multilevel.generalised.kernels import find_positions

    return np.asarray(find_positions(cross.starts, cross.columns.astype(np.int64), codes, columns))
