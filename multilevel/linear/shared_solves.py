"""Variances of rows that are mostly the same: what they share is solved for once, and their own part row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.fit.shared_rows import SharedRows

if TYPE_CHECKING:
    from multilevel.linear.joint_normal import NormalJoint

LARGEST_CHUNK = 100_000
"""Most rows combined at once."""

FEWEST_SHARING = 8
"""Rows for every one that they share, from which what they share is solved for once."""

ENTRIES_FOR_SOLVES = 2
"""Entries of rows that cost as much as one number of the solves for what they share."""


def is_worth_sharing(rows: SharedRows, n_rest: int, n_coefficients: int) -> bool:
    """Whether a few solves for what rows share cost less than all of their entries: of many rows, or of shared ones so long that fewer
    such rows have more entries than the solves. ``n_rest`` : size of the dense root."""
    n, shared = rows.shape[0], rows.shared.shape[0]
    are_many = n > max(n_rest, FEWEST_SHARING * shared)
    return are_many or rows.weights.nnz * rows.shared.nnz > ENTRIES_FOR_SOLVES * shared**2 * n_coefficients


def shared_variance(joint: NormalJoint, rows: SharedRows) -> Floats:
    """(m,) Var(e + w's) = Var(e) + 2 w' Cov(s, e) + w' Var(s) w of every row, e its own part."""
    moved = joint.covariance_times(rows.shared)
    inner = rows.shared @ moved
    pieces = []
    for at in range(0, rows.shape[0], LARGEST_CHUNK):
        own, weights = csr_array(rows.own[at : at + LARGEST_CHUNK]), np.asarray(rows.weights[at : at + LARGEST_CHUNK].todense())
        pieces.append(joint.variance(own) + np.sum(weights * (2.0 * np.asarray(own @ moved) + weights @ inner), axis=1))
    return np.maximum(np.concatenate(pieces), 0.0)


def shared_covariance(joint: NormalJoint, rows: SharedRows) -> Floats:
    """(m, m) Cov(e_i + w_i's, e_j + w_j's) = Cov(e_i, e_j) + Cov(e_i, s) w_j + w_i' Cov(s, e_j) + w_i' Var(s) w_j."""
    moved, weights = joint.covariance_times(rows.shared), np.asarray(rows.weights.todense())
    half = (np.asarray(rows.own @ moved) + 0.5 * (weights @ (rows.shared @ moved))) @ weights.T
    return np.asarray(joint.covariance_about(rows.own, csr_array((1, rows.shape[1]))) + half + half.T)
