"""Cholesky factors and triangular solves straight from LAPACK: an evaluation is a fraction of a millisecond, and checks of every argument
would take as long again. Arguments are finite by construction, or a factorisation says that they are not."""

from __future__ import annotations

from typing import cast

import numpy as np
from scipy.linalg import lapack

from multilevel.arrays import Floats
from multilevel.errors import FitError
from multilevel.linear.products import mirror


def upper_root(matrix: Floats) -> Floats:
    """(n, n) upper triangular R with R'R = ``matrix``, of which the upper triangle is read.

    Raises
    ------
    numpy.linalg.LinAlgError
        If ``matrix`` is not positive definite.
    """
    if not len(matrix):
        return np.zeros((0, 0))
    root, info = lapack.dpotrf(matrix, lower=0, clean=1)
    if info or not np.isfinite(root[-1, -1]):
        message = f"leading minor of order {info} is not positive definite"
        raise np.linalg.LinAlgError(message)
    return cast(Floats, root)


def upper_inverse(root: Floats) -> Floats:
    """(n, n) inverse of R'R for the upper triangular R (n, n) of ``upper_root``.

    Raises
    ------
    FitError
        If R is singular.
    """
    if not len(root):
        return np.zeros((0, 0))
    inverse, info = lapack.dpotri(root, lower=0)
    if info:
        message = "The factor of the effects' precision is singular."
        raise FitError(message)
    # LAPACK leaves its triangle in column order, which is the lower one row by row
    inverse = np.ascontiguousarray(inverse.T)
    mirror(inverse)
    return inverse


def inverse_root(root: Floats) -> Floats:
    """(n, n) R^-1 of the upper triangular R (n, n) of ``upper_root``, without zeros on its diagonal."""
    return cast(Floats, lapack.dtrtri(root, lower=0)[0]) if len(root) else root


def solve_upper(root: Floats, right: Floats, *, transposed: bool = False) -> Floats:
    """R^-1 ``right``, or R'^-1 ``right``, for upper triangular R (n, n) without zeros on its diagonal; ``right`` is (n,) or (n, m)."""
    if not len(root) or not right.size:
        return np.zeros(right.shape)
    solution, _ = lapack.dtrtrs(root, right, lower=0, trans=int(transposed))
    return cast(Floats, solution.reshape(right.shape))
