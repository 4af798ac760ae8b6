"""Levels of a scalar factor that share one elimination weight, summed once.

With one column z per level, eliminating level j subtracts w(g_j) v_j v_j' with w(g) = theta^2 / (1 + theta^2 g), g_j = z_j'z_j (the rows of
the level where the column is an intercept) and v_j its cross-products with everything else. Levels of equal g share w, so the sum of their
v v' is taken once and each evaluation costs one pass over as many triangles as there are distinct g, however many levels there are.
Where sizes are heavy-tailed, a value of g is summed only where that is cheaper than its levels one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.linear.elimination import add_products
from multilevel.linear.products import CrossProducts

GATHER_COST = 2.0
"""Seconds of a scattered multiply-add over those of a streamed one: what decides between single levels and a summed triangle."""

SMALLEST_SAVING = 2_000_000
"""Multiply-adds per evaluation below which nothing is summed beforehand: the levels one by one take a few milliseconds at most."""

MEMORY_LIMIT = 1_500_000_000
"""Bytes that the summed triangles may take."""


@dataclass(frozen=True)
class Presummed:
    """own : (G,) the shared g. triangles : (G, m (m + 1) / 2) lower triangles, row by row, of the sums of v v'.

    singles : the levels kept one by one.
    """

    own: Floats
    triangles: Floats
    singles: Integers

    def total(self, weights: Floats, width: int) -> Floats:
        """(m, m) sum over groups of ``weights`` (G,) times their matrix, the lower triangle; ``width`` is m."""
        result = np.zeros((width, width))
        if len(self.own):
            _unpack(weights @ self.triangles, result)
        return result


def presum(own: Floats, cross: CrossProducts, width: int) -> Presummed:
    """Choose the values of g (``own`` (L, k, k)) worth summing, and sum them; none unless k = 1."""
    everyone, nothing = np.arange(len(own)), unsummed(own, width)
    size = width * (width + 1) // 2
    if not len(own) or own.shape[1] != 1:
        return nothing
    touched = np.diff(cross.starts).astype(np.float64)
    pairs = GATHER_COST * touched * (touched + 1.0) / 2.0
    if pairs.sum() < SMALLEST_SAVING:
        return nothing
    values, group = np.unique(own[:, 0, 0], return_inverse=True)
    saving = np.bincount(group, pairs, len(values)) - size
    most = int(MEMORY_LIMIT // (8 * size))
    chosen = np.sort(np.argsort(-saving, kind="stable")[:most])
    chosen = chosen[saving[chosen] > 0]
    if saving[chosen].sum() < SMALLEST_SAVING:
        return nothing
    rank = np.full(len(values), -1)
    rank[chosen] = np.arange(len(chosen))
    place = rank[group]
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(len(chosen) + 1))
    triangles = np.empty((len(chosen), size))
    ones = np.ones((len(own), 1, 1))
    for index in range(len(chosen)):
        matrix = np.zeros((width, width))
        add_products(matrix, cross, ones, order[bounds[index] : bounds[index + 1]])
        _pack(matrix, triangles[index])
    return Presummed(values[chosen], triangles, everyone[place < 0])


def unsummed(own: Floats, width: int) -> Presummed:
    """Every level one by one."""
    return Presummed(np.zeros(0), np.zeros((0, width * (width + 1) // 2)), np.arange(len(own)))


def _pack(matrix: Floats, triangle: Floats) -> None:
    at = 0
    for i in range(len(matrix)):
        triangle[at : at + i + 1] = matrix[i, : i + 1]
        at += i + 1


def _unpack(triangle: Floats, matrix: Floats) -> None:
    at = 0
    for i in range(len(matrix)):
        matrix[i, : i + 1] = triangle[at : at + i + 1]
        at += i + 1


def between_levels(own: Floats, scale: float) -> Floats:
    """1 / (g + ``scale`` g^2) for scalar Z_e'Z_e g, 0 where they are: what is left of the differences between levels."""
    values = own * (1.0 + scale * own)
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
