"""Cholesky factors and triangular solves straight from LAPACK: an evaluation is a fraction of a millisecond, and checks of every argument
would take as long again. Arguments are finite by construction, or a factorisation says that they are not."""

from __future__ import annotations

from typing import cast

import numpy as np
from scipy.linalg import lapack

from multilevel.arrays import Floats
from multilevel.errors import FitError
from multilevel.linear.products import mirror


def upper_root(matrix: Floats, leading: int = 0) -> Floats:
    """(n, n) upper triangular R with R'R = ``matrix``, of which the upper triangle is read.

    ``leading`` : how many of the first rows have nothing above the diagonal among them, so that they are eliminated one by one.

    Raises
    ------
    numpy.linalg.LinAlgError
        If ``matrix`` is not positive definite.
    """
    if not len(matrix):
        return np.zeros((0, 0))
    if leading:
        return _arrow_root(matrix, leading)
    root, info = lapack.dpotrf(matrix, lower=0, clean=1)
    if info or not np.isfinite(root[-1, -1]):
        message = f"leading minor of order {info} is not positive definite"
        raise np.linalg.LinAlgError(message)
    return cast(Floats, root)


def _arrow_root(matrix: Floats, leading: int) -> Floats:
    diagonal = np.diagonal(matrix)[:leading]
    if not np.all(diagonal > 0):
        message = f"leading minor of order {int(np.argmin(diagonal > 0)) + 1} is not positive definite"
        raise np.linalg.LinAlgError(message)
    root = np.zeros(matrix.shape, order="F")
    scale = np.sqrt(diagonal)
    root[np.arange(leading), np.arange(leading)] = scale
    right = matrix[:leading, leading:] / scale[:, None]
    root[:leading, leading:] = right
    root[leading:, leading:] = upper_root(matrix[leading:, leading:] - right.T @ right)
    return root


def upper_inverse(root: Floats, leading: int = 0) -> Floats:
    """(n, n) inverse of R'R for the upper triangular R (n, n) of ``upper_root``.

    Raises
    ------
    FitError
        If R is singular.
    """
    if not len(root):
        return np.zeros((0, 0))
    if leading:
        return _arrow_inverse(root, leading)
    inverse, info = lapack.dpotri(root, lower=0)
    if info:
        message = "The factor of the effects' precision is singular."
        raise FitError(message)
    # LAPACK leaves its triangle in column order, which is the lower one row by row
    inverse = np.ascontiguousarray(inverse.T)
    mirror(inverse)
    return inverse


def _arrow_inverse(root: Floats, leading: int) -> Floats:
    """Of [[D, A], [A', B]] with D diagonal: C = (B - A'D^-1 A)^-1, then -D^-1 A C and D^-1 + D^-1 A C A'D^-1."""
    inverse = np.empty(root.shape)
    scale = np.diagonal(root)[:leading]
    rest = upper_inverse(root[leading:, leading:])
    inverse[leading:, leading:] = rest
    moved = root[:leading, leading:] / scale[:, None]
    joint = moved @ rest
    inverse[:leading, leading:] = -joint
    inverse[leading:, :leading] = -joint.T
    inverse[:leading, :leading] = joint @ moved.T
    inverse[np.arange(leading), np.arange(leading)] += scale**-2.0
    return inverse


def solve_upper(root: Floats, right: Floats, *, transposed: bool = False) -> Floats:
    """R^-1 ``right``, or R'^-1 ``right``, for upper triangular R (n, n) without zeros on its diagonal; ``right`` is (n,) or (n, m)."""
    if not len(root) or not right.size:
        return np.zeros(right.shape)
    solution, _ = lapack.dtrtrs(root, right, lower=0, trans=int(transposed))
    return cast(Floats, solution.reshape(right.shape))
