"""The coordinates in which NUTS moves: whatever the covariances are, coefficients are standard normal under the pilot's likelihood.

With the likelihood replaced by the pilot's quadratic one, and effects b = L u (Sigma = L L'), coefficients with information I and linear
term h have, whatever Sigma is,

    Var(u) = (1 + L' I L)^-1 = (C C')^-1,    u = C^-T (C^-1 L' h + z),    z ~ N(0, 1).

Sampling z therefore centres what the data inform and leaves uncentred what they do not, by as much as each needs and anew at every Sigma
(a partially non-centred form, Papaspiliopoulos, Roberts and Skold 2007, with the data's own weights).

- The population coefficients and the factors with few levels are taken *jointly*, I being that of all of them with the other effects
  integrated out. Levels in common, less the intercept, are a direction that no line item speaks of, as wide as Sigma: with three levels it
  is much of what there is, and level by level it would be missed.
- For the finest block I and h are exact, level by level, given all else.
- For other blocks in between, level by level too, the joint posterior of the pilot gives a dense map from w to z and the h that earlier
  blocks imply.

The change of variables costs -sum log diag C, the prior of u is standard normal, and the posterior is exact for any pilot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import block_diag, solve_triangular
from scipy.sparse import csr_array, hstack

from multilevel.arrays import Floats
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.pilot import MOST_JOINT, Pilot, block_values, level_information
from multilevel.design.reduction import ReducedRows

CHUNK = 500
"""Draws whose joint matrices are in memory together."""


@dataclass(frozen=True)
class JointBlock:
    """beta and the blocks with few levels, in the pilot's order: information (m, m), positive semi-definite, and linear term (m,)."""

    blocks: tuple[int, ...]
    n_levels: tuple[int, ...]
    information: Floats
    shift: Floats


@dataclass(frozen=True)
class CoarseBlock:
    """A block between: information (L, k, k); z = mixing @ w (L k, L k); h = shift + pull @ (earlier - earlier_mode)."""

    block: int
    information: Floats
    mixing: Floats
    shift: Floats
    pull: Floats


@dataclass(frozen=True)
class FineBlock:
    """The finest block: information (L, k, k) and h = shift - coupling @ coarse, with coupling = Z' W A (L k, m)."""

    block: int
    information: Floats
    shift: Floats
    coupling: csr_array


@dataclass(frozen=True)
class Coordinates:
    """The map from w (p + q,) and theta to (beta, effects).

    ``mode``: of beta and all effects but the finest; ``n_population``: p.
    """

    n_population: int
    mode: Floats
    joint: JointBlock
    coarse: tuple[CoarseBlock, ...]
    fine: FineBlock | None

    @property
    def order(self) -> tuple[int, ...]:
        """The blocks in the order of w."""
        rest = () if self.fine is None else (self.fine.block,)
        return (*self.joint.blocks, *(block.block for block in self.coarse), *rest)


def build_coordinates(rows: ReducedRows, pilot: Pilot) -> Coordinates:
    """Coordinates from a pilot."""
    order, p = pilot.order, rows.X.shape[1]
    reverse = np.linalg.cholesky(pilot.schur[::-1, ::-1])[::-1, ::-1]  # schur = reverse reverse', reverse upper triangular
    root = solve_triangular(reverse, np.eye(order.n_coarse), lower=False).T  # lower triangular, root root' = schur^-1
    ends = (*order.starts, order.n_coarse)[1:]
    n_joint = sum(end <= MOST_JOINT for end in ends)
    joint = _joint_block(pilot, root, p, order.coarse[:n_joint])
    rest = zip(order.coarse[n_joint:], order.starts[n_joint:], strict=True)
    coarse = tuple(_coarse_block(pilot, root, f, start) for f, start in rest)
    return Coordinates(p, pilot.coarse, joint, coarse, None if order.finest is None else _fine_block(rows, pilot, order.finest))


def _joint_block(pilot: Pilot, root: Floats, p: int, blocks: tuple[int, ...]) -> JointBlock:
    """What the data say of beta and these blocks: their precision at the pilot, less that of the effects' own distribution."""
    m = p + sum(pilot.effects[f].size for f in blocks)
    inverse = solve_triangular(root[:m, :m], np.eye(m), lower=True)
    precision = inverse.T @ inverse
    own = block_diag(np.zeros((p, p)), *(np.kron(np.eye(len(pilot.effects[f])), np.linalg.inv(pilot.covariances[f])) for f in blocks))
    units = np.sqrt(np.diag(precision))
    values, vectors = np.linalg.eigh((precision - own) / np.outer(units, units))
    information = np.outer(units, units) * ((vectors * np.maximum(values, 0.0)) @ vectors.T)
    return JointBlock(blocks, tuple(len(pilot.effects[f]) for f in blocks), information, (information + own) @ pilot.coarse[:m])


def _coarse_block(pilot: Pilot, root: Floats, f: int, start: int) -> CoarseBlock:
    levels, k = pilot.effects[f].shape
    own = slice(start, start + levels * k)
    covariance = root[own, own] @ root[own, own].T
    conditional = covariance.reshape(levels, k, levels, k)[np.arange(levels), :, np.arange(levels)]
    factor = np.linalg.cholesky(pilot.covariances[f])
    # the information that would give this conditional variance: L^-T (L' V^-1 L - I) L^-1, kept positive semi-definite
    inverse = np.linalg.inv(conditional)
    values, vectors = np.linalg.eigh(factor.T @ inverse @ factor - np.eye(k))
    relative = np.einsum("lij,lj,lkj->lik", vectors, np.maximum(values, 0.0), vectors)
    back = np.linalg.inv(factor)
    information = back.T @ relative @ back
    # at the pilot's Sigma: b = G (G' h + z), so z = G^-1 (root w) and h = G^-T G^-1 b
    chol = np.linalg.cholesky(np.eye(k) + relative)
    whiten = np.swapaxes(chol, 1, 2) @ back  # G^-1 = C' L^-1
    precision = np.swapaxes(whiten, 1, 2) @ whiten
    earlier = solve_triangular(root[:start, :start], root[own, :start].T, trans="T", lower=True).T
    return CoarseBlock(
        f,
        information,
        _rows_by_level(whiten, root[own, own]),
        _rows_by_level(precision, pilot.effects[f].reshape(-1, 1))[:, 0],
        _rows_by_level(precision, earlier),
    )


def _fine_block(rows: ReducedRows, pilot: Pilot, f: int) -> FineBlock:
    values = block_values(rows.blocks[f])
    weighted = csr_array(values.multiply(pilot.weights[:, None]))
    pieces = [csr_array(rows.X), *(block_values(rows.blocks[g]) for g in pilot.order.coarse)]
    coupling = csr_array(hstack([weighted.T @ piece for piece in pieces], format="csr"))
    return FineBlock(f, level_information(rows.blocks[f], pilot.weights), values.T @ pilot.weighted_response, coupling)


def _rows_by_level(matrices: Floats, dense: Floats) -> Floats:
    """Block-diagonal (L, k, k) times dense (L k, n)."""
    levels, k, _ = matrices.shape
    return np.einsum("lij,ljn->lin", matrices, dense.reshape(levels, k, -1)).reshape(levels * k, -1)


def covariance_factor(theta: Any, layout: Layout, block: int, xp: Any) -> list[list[Any]]:
    """Entries of L, row by row, from the last axis of ``theta``; each keeps the leading axes."""
    start, k = layout.starts[block], layout.widths[block]
    rows: list[list[Any]] = []
    at = start + k
    for i in range(k):
        left: Any = xp.exp(theta[..., start + i])
        row = []
        for _ in range(i):
            row.append(left * xp.tanh(theta[..., at]))
            left = left / xp.cosh(theta[..., at])
            at += 1
        rows.append([*row, left])
    return rows


def conditional_effects(
    factor: list[list[Any]], information: list[list[Any]], h: list[Any], z: list[Any], xp: Any
) -> tuple[list[Any], Any, Any]:
    """Effects of all levels of a block: columns of b, the sum of u^2 and the sum of log diag C.

    ``factor`` entries broadcast against the (..., L) arrays of ``information`` (k x k), ``h`` and ``z`` (k).
    """
    k = len(h)
    half = [[sum(information[i][m] * factor[m][j] for m in range(j, k)) for j in range(k)] for i in range(k)]
    inner = [[sum(factor[m][i] * half[m][j] for m in range(i, k)) + (1.0 if i == j else 0.0) for j in range(i + 1)] for i in range(k)]
    chol: list[list[Any]] = []
    for i in range(k):
        row: list[Any] = []
        for j in range(i):
            row.append((inner[i][j] - sum(row[m] * chol[j][m] for m in range(j))) / chol[j][j])
        row.append(xp.sqrt(inner[i][i] - sum(entry**2 for entry in row)))
        chol.append(row)
    x: list[Any] = []
    for i in range(k):  # C x = L' h
        right = sum(factor[m][i] * h[m] for m in range(i, k))
        x.append((right - sum(chol[i][m] * x[m] for m in range(i))) / chol[i][i])
    x = [a + b for a, b in zip(x, z, strict=True)]
    u: list[Any] = [None] * k
    for i in reversed(range(k)):  # C' u = x + z
        u[i] = (x[i] - sum(chol[m][i] * u[m] for m in range(i + 1, k))) / chol[i][i]
    effects = [sum(factor[i][j] * u[j] for j in range(i + 1)) for i in range(k)]
    return effects, sum((entry**2).sum(axis=-1) for entry in u), sum(xp.log(chol[i][i]).sum(axis=-1) for i in range(k))


def coefficients(coordinates: Coordinates, layout: Layout, theta: Floats, w: Floats) -> tuple[Floats, tuple[Floats, ...]]:
    """(S, p) beta and per block (S, L k) effects, of (S, d) thetas and (S, p + q) w."""
    p, m = coordinates.n_population, len(coordinates.joint.shift)
    first = np.concatenate(
        [_joint_coefficients(coordinates, layout, theta[at : at + CHUNK], w[at : at + CHUNK, :m]) for at in range(0, len(w), CHUNK)]
    )
    found: list[Floats] = [first]
    effects: dict[int, Floats] = {}
    at = p
    for f, levels in zip(coordinates.joint.blocks, coordinates.joint.n_levels, strict=True):
        size = levels * layout.widths[f]
        effects[f] = first[:, at : at + size]
        at += size
    for block in coordinates.coarse:
        size = len(block.mixing)
        earlier = np.concatenate(found, axis=1)
        h = block.shift + (earlier - coordinates.mode[: earlier.shape[1]]) @ block.pull.T
        effects[block.block] = _effects(_factor(theta, layout, block.block), block.information, h, w[:, at : at + size] @ block.mixing.T)
        found.append(effects[block.block])
        at += size
    coarse = np.concatenate(found, axis=1)
    if coordinates.fine is not None:
        fine = coordinates.fine
        h = fine.shift - (fine.coupling @ coarse.T).T
        effects[fine.block] = _effects(_factor(theta, layout, fine.block), fine.information, h, w[:, at:])
    return coarse[:, :p], tuple(effects[block] for block in sorted(effects))


def _joint_coefficients(coordinates: Coordinates, layout: Layout, theta: Floats, w: Floats) -> Floats:
    """(S, m) beta and the joint blocks' effects."""
    joint, p, m = coordinates.joint, coordinates.n_population, w.shape[1]
    spread = np.zeros((len(theta), m, m))
    spread[:, np.arange(p), np.arange(p)] = 1.0
    at = p
    for f, levels in zip(joint.blocks, joint.n_levels, strict=True):
        factor = layout.factor(theta, f)
        for _ in range(levels):
            own = slice(at, at + layout.widths[f])
            spread[:, own, own] = factor
            at = own.stop
    inner = np.swapaxes(spread, 1, 2) @ joint.information @ spread
    inner[:, np.arange(p, m), np.arange(p, m)] += 1.0
    chol = np.linalg.cholesky(inner)
    right = np.einsum("sij,i->sj", spread, joint.shift)
    x = np.linalg.solve(chol, right[..., None])
    return (spread @ np.linalg.solve(np.swapaxes(chol, 1, 2), x + w[..., None]))[..., 0]


def _effects(factor: list[list[Floats]], information: Floats, h: Floats, z: Floats) -> Floats:
    levels, k, _ = information.shape
    info = [[information[:, i, j] for j in range(k)] for i in range(k)]
    columns = [slice(i, None, k) for i in range(k)]
    effects, _, _ = conditional_effects(factor, info, [h[:, c] for c in columns], [z[:, c] for c in columns], np)
    return np.stack(effects, axis=-1).reshape(len(h), levels * k)


def _factor(theta: Floats, layout: Layout, block: int) -> list[list[Floats]]:
    return [[entry[:, None] for entry in row] for row in covariance_factor(theta, layout, block, np)]
