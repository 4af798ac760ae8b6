"""Weighted cross-products of reduced rows, over and over: the pattern is found once, each reweighting is one compiled pass.

The blocked elimination is that of ``multilevel.linear``; only the numbers in it change from one PIRLS step to the next. The compiled
loops are loaded where they are used: a linear model needs none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

from multilevel.arrays import Floats, Integers
from multilevel.design.reduction import ReducedRows
from multilevel.linear.assemble import linear_system
from multilevel.linear.factorise import BlockedFactor, BlockedSystem
from multilevel.linear.products import mirror


@dataclass(frozen=True)
class Coordinates:
    """A vector over all coefficients: ``rest`` (q_r,) the blocks that stay, ``own`` (L, k) the eliminated factor, ``basis`` (p,) of Q."""

    rest: Floats
    own: Floats
    basis: Floats

    def __add__(self, other: Coordinates) -> Coordinates:
        return Coordinates(self.rest + other.rest, self.own + other.own, self.basis + other.basis)

    def __sub__(self, other: Coordinates) -> Coordinates:
        return self + other.times(-1.0)

    def times(self, scale: float) -> Coordinates:
        """Every entry times ``scale``."""
        return Coordinates(scale * self.rest, scale * self.own, scale * self.basis)

    def dot(self, other: Coordinates) -> float:
        """Inner product."""
        return float(self.rest @ other.rest + np.sum(self.own * other.own) + self.basis @ other.basis)


@dataclass(frozen=True)
class Reweighting:
    """Reduced rows laid out for elimination.

    template : the unweighted system, whose sizes, order, pattern and triangle T (X = Q T) every reweighted one shares.
    basis : (R, p) Q. own_codes (R,), own_values (R, k): the eliminated factor. rest_columns, rest_values (R, s): the other blocks' columns.
    positions : (R, s + p) place of (level, column) in the pattern, -1 where it is always zero.
    """

    template: BlockedSystem
    offset: Floats
    basis: Floats
    own_codes: Integers
    own_values: Floats
    rest_columns: Integers
    rest_values: Floats
    positions: Integers

    @property
    def n_rest(self) -> int:
        """q_r."""
        return self.template.rest_starts[-1]

    def zero(self) -> Coordinates:
        """The zero vector."""
        levels = len(self.template.own)
        return Coordinates(np.zeros(self.n_rest), np.zeros((levels, self.own_values.shape[1])), np.zeros(self.basis.shape[1]))

    def system(self, weights: Floats) -> BlockedSystem:
        """The cross-products with row ``weights`` (R,)."""
        from multilevel.generalised.kernels import accumulate

        template = self.template
        own, cross, gram = np.zeros(template.own.shape), np.zeros(template.cross.values.shape), np.zeros(template.gram.shape)
        accumulate(
            weights, self.own_codes, self.own_values, self.rest_columns, self.rest_values, self.basis, self.positions, own, cross, gram
        )
        q, p = self.n_rest, self.basis.shape[1]
        gram[q : q + p, q : q + p] = self.basis.T @ (weights[:, None] * self.basis)
        mirror(gram)
        own = own + np.tril(own, -1).swapaxes(1, 2) if own.shape[1] > 1 else own
        return replace(
            template, own=own, cross=replace(template.cross, values=cross), gram=gram, location=np.zeros(p), residual_ss=0.0, inside=None
        )

    def linear(self, at: Coordinates) -> Floats:
        """(R,) Z b + Q gamma for effects b and gamma."""
        from multilevel.generalised.kernels import effects_of_rows

        total: Floats = self.basis @ at.basis
        effects_of_rows(self.own_codes, self.own_values, self.rest_columns, self.rest_values, at.own, at.rest, total)
        return total

    def transposed(self, values: Floats) -> Coordinates:
        """[Z Q]' values, for ``values`` (R,)."""
        from multilevel.generalised.kernels import sums_of_rows

        rest, own = np.zeros(self.n_rest), np.zeros((len(self.template.own), self.own_values.shape[1]))
        sums_of_rows(self.own_codes, self.own_values, self.rest_columns, self.rest_values, values, own, rest)
        return Coordinates(rest, own, self.basis.T @ values)

    def by_block(self, at: Coordinates) -> list[Floats]:
        """Per block, in the order of ``Design``, its (L, k) part."""
        template = self.template
        parts: list[Floats] = [np.zeros(size) for size in template.sizes]
        for index, start in zip(template.rest, template.rest_starts, strict=False):
            levels, k = template.sizes[index]
            parts[index] = at.rest[start : start + levels * k].reshape(levels, k)
        column = 0
        for index in template.merged:
            k = template.sizes[index][1]
            parts[index] = at.own[:, column : column + k]
            column += k
        return parts

    def from_blocks(self, parts: Sequence[Floats], basis: Floats) -> Coordinates:
        """The inverse of ``by_block``."""
        template = self.template
        rest = [parts[index].ravel() for index in template.rest]
        own = [parts[index] for index in template.merged]
        return Coordinates(np.concatenate(rest) if rest else np.zeros(0), np.hstack(own) if own else self.zero().own, basis)

    def beta(self, at: Coordinates) -> Floats:
        """(p,) coefficients of the original X."""
        return solve_triangular(self.template.triangle, at.basis) if len(at.basis) else at.basis

    def leverages(self, factor: BlockedFactor) -> Floats:
        """(R,) Var(z'b | y, theta, beta) of every row."""
        from multilevel.generalised.kernels import leverages, own_variances

        cross = factor.system.cross
        kernels = np.ascontiguousarray(factor.kernels)
        covariance = np.ascontiguousarray(factor._rest_covariance_given_beta)
        whole, moved = own_variances(cross.starts, cross.columns, cross.values, kernels, covariance)
        columns, values = self.rest_columns, self.rest_values
        found = leverages(self.own_codes, self.own_values, columns, values, self.positions, kernels, whole, moved, covariance)
        return np.asarray(found)


def solve(factor: BlockedFactor, right: Coordinates, *, with_basis: bool) -> tuple[Coordinates, Coordinates]:
    """Solve M (u, gamma) = (Lambda' right_Z, right_Q); returns (b = Lambda u, gamma) and (u, gamma).

    Without ``with_basis`` the coefficients of Q are held at zero.
    """
    from multilevel.generalised.kernels import cross_times, transposed_times

    system = factor.system
    cross, q = system.cross, system.rest_starts[-1]
    size = q + len(right.basis) if with_basis else q
    own = np.einsum("lij,lj->li", factor.kernels, right.own)
    vector = np.concatenate([right.rest, right.basis])[:size] - transposed_times(cross.starts, cross.columns, cross.values, own, size)
    vector[:q] = _repeat(factor, vector[:q], transposed=True)
    root = factor.root[:size, :size]
    scaled = solve_triangular(root, solve_triangular(root, vector, trans="T")) if size else vector
    coefficients = np.concatenate([_repeat(factor, scaled[:q], transposed=False), scaled[q:]])
    basis = scaled[q:] if with_basis else np.zeros(len(right.basis))
    gap = right.own - cross_times(cross.starts, cross.columns, cross.values, coefficients)
    own = np.einsum("lij,lj->li", factor.kernels, gap)
    spherical = (gap - np.einsum("lij,lj->li", system.own, own)) @ factor.own_lambda
    return Coordinates(coefficients[:q], own, basis), Coordinates(scaled[:q], spherical, basis)


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
    template = linear_system(rows, chained=False)
    n = len(rows.outcome)
    own_codes = rows.blocks[template.merged[0]].codes.astype(np.int64) if template.merged else np.zeros(n, np.int64)
    own_values = np.hstack([rows.blocks[index].values for index in template.merged]) if template.merged else np.zeros((n, 0))
    columns, values = [], []
    for index, start in zip(template.rest, template.rest_starts, strict=False):
        block = rows.blocks[index]
        k = block.values.shape[1]
        columns.append(start + block.codes.astype(np.int64)[:, None] * k + np.arange(k))
        values.append(block.values)
    rest_columns = np.hstack(columns) if columns else np.zeros((n, 0), np.int64)
    p = rows.X.shape[1]
    basis = solve_triangular(template.triangle, rows.X.T, trans="T").T if p else rows.X
    everywhere = np.hstack([rest_columns, np.broadcast_to(template.rest_starts[-1] + np.arange(p), (n, p))])
    return Reweighting(
        template=template,
        offset=rows.offset,
        basis=np.ascontiguousarray(basis),
        own_codes=own_codes,
        own_values=np.ascontiguousarray(own_values),
        rest_columns=rest_columns,
        rest_values=np.hstack(values) if values else np.zeros((n, 0)),
        positions=_positions(template, own_codes, everywhere),
    )


def _positions(template: BlockedSystem, codes: Integers, columns: Integers) -> Integers:
    if not template.merged:
        return np.full(columns.shape, -1, np.int64)
    cross, width = template.cross, len(template.gram)
    level = np.repeat(np.arange(len(cross.starts) - 1), np.diff(cross.starts))
    have = level * width + cross.columns
    wanted = codes[:, None] * width + columns
    found = np.minimum(np.searchsorted(have, wanted), max(len(have) - 1, 0))
    return np.where(have[found] == wanted, found, -1) if len(have) else np.full(columns.shape, -1, np.int64)
