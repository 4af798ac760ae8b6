"""Rows of coefficients that are mostly the same: averages over one common mix differ between levels by the levels' own effects alone.

A million levels standardised to the same mix of a thousand other effects have a thousand million coefficients, of which all but a few a
level repeat. Kept as own + weights @ shared, their products, variances and maps cost what is their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, diags_array

from multilevel.arrays import Floats, Integers


@dataclass(frozen=True)
class SharedRows:
    """(n, w) rows ``own + weights @ shared``: own (n, w) and shared (r, w) coefficients, weights (n, r); all sparse."""

    own: csr_array
    weights: csr_array
    shared: csr_array

    @property
    def shape(self) -> tuple[int, int]:
        """(n, w)."""
        return self.own.shape[0], self.own.shape[1]

    def __matmul__(self, right: Floats) -> Floats:
        """(n,) or (n, m) products with a dense ``right`` (w,) or (w, m)."""
        return np.asarray(self.own @ right + self.weights @ (self.shared @ right))

    def __getitem__(self, here: slice | Integers) -> SharedRows:
        """Some of the rows."""
        return SharedRows(csr_array(self.own[here]), csr_array(self.weights[here]), self.shared)

    def csr(self) -> csr_array:
        """Entry by entry."""
        return csr_array(self.own + self.weights @ self.shared)

    def less(self, centre: csr_array) -> SharedRows:
        """The rows less ``centre`` (1, w). What all rows share is taken from it entry by entry, so that it leaves no rounding."""
        middle = np.asarray(_mean(self.weights).todense())
        about = np.asarray(self.weights.todense()) - middle
        beside = csr_array(csr_array(middle) @ self.shared - centre)
        weights = csr_array(np.hstack([about, np.ones((len(about), 1))]))
        return SharedRows(self.own, weights, stacked([self.shared, beside]))


type Rows = csr_array | SharedRows
"""(n, w) rows of coefficients."""


def mapped(rows: Rows, matrix: csr_array) -> Rows:
    """``rows @ matrix`` for a sparse ``matrix`` (w, v)."""
    if isinstance(rows, SharedRows):
        return SharedRows(csr_array(rows.own @ matrix), rows.weights, csr_array(rows.shared @ matrix))
    return csr_array(rows @ matrix)


def averaged(weights: csr_array, rows: Rows) -> Rows:
    """``weights @ rows`` for sparse ``weights`` (m, n)."""
    if isinstance(rows, SharedRows):
        return SharedRows(csr_array(weights @ rows.own), csr_array(weights @ rows.weights), rows.shared)
    return csr_array(weights @ rows)


def scaled(rows: Rows, by: Floats) -> Rows:
    """Every row times its entry of ``by`` (n,)."""
    return averaged(csr_array(diags_array(by)), rows)


def columns_of(rows: Rows, places: Integers) -> Rows:
    """The columns at ``places``."""
    if isinstance(rows, SharedRows):
        return SharedRows(csr_array(rows.own[:, places]), rows.weights, csr_array(rows.shared[:, places]))
    return csr_array(rows[:, places])


def as_csr(rows: Rows) -> csr_array:
    """Entry by entry."""
    return rows.csr() if isinstance(rows, SharedRows) else rows


def n_entries(rows: Rows) -> int:
    """How many entries are kept."""
    return rows.own.nnz + rows.weights.nnz + rows.shared.nnz if isinstance(rows, SharedRows) else rows.nnz


def largest_entry(rows: Rows) -> float:
    """The largest coefficient's size, an upper bound where rows are shared."""
    if not isinstance(rows, SharedRows):
        return float(np.abs(rows.data).max(initial=0.0))
    shared = float(np.abs(rows.weights.data).max(initial=0.0)) * largest_entry(rows.shared)
    return max(largest_entry(rows.own), shared)


def stacked(parts: list[csr_array]) -> csr_array:
    """Rows on top of each other, without a column index being copied twice."""
    starts = np.cumsum([0, *(part.nnz for part in parts)])
    widest = np.result_type(*(part.indices.dtype for part in parts)) if starts[-1] <= np.iinfo(np.int32).max else np.dtype(np.int64)
    pointers = np.concatenate([[0], *(part.indptr[1:].astype(np.int64) + start for part, start in zip(parts, starts, strict=False))])
    pointers = pointers.astype(widest)
    data, indices = np.concatenate([part.data for part in parts]), np.concatenate([part.indices for part in parts])
    return csr_array((data, indices, pointers), shape=(sum(part.shape[0] for part in parts), parts[0].shape[1]))


def mean_row(rows: Rows) -> csr_array:
    """(1, w) mean of the rows."""
    if isinstance(rows, SharedRows):
        return csr_array(_mean(rows.own) + _mean(rows.weights) @ rows.shared)
    return _mean(rows)


def _mean(rows: csr_array) -> csr_array:
    return csr_array(np.asarray(rows.sum(axis=0)).reshape(1, -1) / max(rows.shape[0], 1))


def as_shared(rows: Rows) -> SharedRows:
    """Rows that share nothing, unless they do."""
    if isinstance(rows, SharedRows):
        return rows
    return SharedRows(rows, csr_array((rows.shape[0], 0)), csr_array((0, rows.shape[1])))


def joined(chunks: Iterable[Rows]) -> SharedRows:
    """Chunks on top of each other; what they share is kept once where it is the same in several of them."""
    pieces = [as_shared(chunk) for chunk in chunks]
    different: list[csr_array] = []
    places = []
    for piece in pieces:
        at = next((at for at, known in enumerate(different) if _is_same(known, piece.shared)), len(different))
        if at == len(different):
            different.append(piece.shared)
        places.append(at)
    starts = np.cumsum([0, *(each.shape[0] for each in different)])
    weights = []
    for at, piece in zip(places, pieces, strict=True):
        own = piece.weights
        weights.append(csr_array((own.data, own.indices + starts[at], own.indptr), shape=(own.shape[0], int(starts[-1]))))
    return SharedRows(stacked([piece.own for piece in pieces]), stacked(weights), stacked(different))


def _is_same(one: csr_array, other: csr_array) -> bool:
    pairs = ((one.indptr, other.indptr), (one.indices, other.indices), (one.data, other.data))
    return one.shape == other.shape and all(np.array_equal(*pair) for pair in pairs)
