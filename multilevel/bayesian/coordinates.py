"""The coordinates in which NUTS moves: given all that comes before it, every effect is standard normal under the pilot's likelihood.

With the likelihood replaced by the pilot's quadratic one, the effects b_j = L u_j of a level (Sigma = L L') with information I_j and
linear term h_j have, whatever Sigma is,

    Var(u_j) = (I + L' I_j L)^-1 = (C_j C_j')^-1,    u_j = C_j^-T (C_j^-1 L' h_j + z_j),    z_j ~ N(0, 1).

Sampling z therefore centres a level that the data inform and leaves one uncentred that they do not, by as much as each needs and anew at
every Sigma (a partially non-centred form, Papaspiliopoulos, Roberts and Skold 2007, with the data's own weights). For the finest block
I_j and h_j are exact; for coarser ones the joint posterior of the pilot gives a dense map from w to z and the h that earlier blocks
imply. The change of variables costs -sum log diag C_j, the prior of u is standard normal, and the posterior is exact for any pilot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_array, hstack

from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.pilot import Pilot, block_values, level_information
from multilevel.cells.statistics import Floats
from multilevel.design.reduction import ReducedRows


@dataclass(frozen=True)
class CoarseBlock:
    """A block before the finest one: information (L, k, k); z = mixing @ w (L k, L k); h = shift + pull @ (earlier - earlier_mode)."""

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

    ``mode`` (m,) of beta and the coarse effects; ``root`` (p, p) lower-triangular root of beta's covariance.
    """

    mode: Floats
    root: Floats
    coarse: tuple[CoarseBlock, ...]
    fine: FineBlock | None

    @property
    def n_population(self) -> int:
        """p."""
        return len(self.root)


def build_coordinates(rows: ReducedRows, pilot: Pilot) -> Coordinates:
    """Coordinates from a pilot."""
    order, p = pilot.order, rows.X.shape[1]
    reverse = np.linalg.cholesky(pilot.schur[::-1, ::-1])[::-1, ::-1]  # schur = reverse reverse', reverse upper triangular
    root = solve_triangular(reverse, np.eye(order.n_coarse), lower=False).T  # lower triangular, root root' = schur^-1
    coarse = tuple(_coarse_block(pilot, root, f, start) for f, start in zip(order.coarse, order.starts, strict=True))
    return Coordinates(pilot.coarse, root[:p, :p], coarse, None if order.finest is None else _fine_block(rows, pilot, order.finest))


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
    p = coordinates.n_population
    found = [coordinates.mode[:p] + w[:, :p] @ coordinates.root.T]
    effects: dict[int, Floats] = {}
    at = p
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


def _effects(factor: list[list[Floats]], information: Floats, h: Floats, z: Floats) -> Floats:
    levels, k, _ = information.shape
    info = [[information[:, i, j] for j in range(k)] for i in range(k)]
    columns = [slice(i, None, k) for i in range(k)]
    effects, _, _ = conditional_effects(factor, info, [h[:, c] for c in columns], [z[:, c] for c in columns], np)
    return np.stack(effects, axis=-1).reshape(len(h), levels * k)


def _factor(theta: Floats, layout: Layout, block: int) -> list[list[Floats]]:
    return [[entry[:, None] for entry in row] for row in covariance_factor(theta, layout, block, np)]
