"""Compiled variances of sparse rows of coefficients: a level of the eliminated factor costs what its own row of cross-products does."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _add(on_rest, last_row, touched, n, place, row, amount):  # type: ignore[no-untyped-def]
    """Add ``amount`` to a place of the rest, which is cleared where another row was there last; returns how many are ``touched``."""
    if last_row[place] != row:
        last_row[place], on_rest[place], touched[n] = row, 0.0, place
        n += 1
    on_rest[place] += amount
    return n


@njit(cache=True, nogil=True)
def _add_coefficient(on_rest, last_row, touched, n, first, row, moved, value):  # type: ignore[no-untyped-def]
    """Add ``value`` times ``moved`` (p,), a coefficient's row of T^-1, to the places of the basis from ``first`` on."""
    for j in range(len(moved)):
        n = _add(on_rest, last_row, touched, n, first + j, row, value * moved[j])
    return n


@njit(cache=True, nogil=True)
def _add_level(on_rest, last_row, touched, n, row, moved, first, last, columns, values):  # type: ignore[no-untyped-def]
    """Add -H'K x_e, what a level's conditional mean brings to the rest; ``moved`` (k,) is K x_e. Returns how many are ``touched``."""
    for at in range(first, last):
        place = columns[at]
        if place >= len(on_rest):
            break
        amount = 0.0
        for i in range(len(moved)):
            amount += moved[i] * values[at, i]
        n = _add(on_rest, last_row, touched, n, place, row, -amount)
    return n


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _quadratic(on_rest, touched, n, compact, covariance):  # type: ignore[no-untyped-def]
    """x'Cx of the ``n`` touched places."""
    total = 0.0
    for a in range(n):
        compact[a] = on_rest[touched[a]]
    for a in range(n):
        place = touched[a]
        half = 0.5 * covariance[place, place] * compact[a]
        for b in range(a):
            half += covariance[place, touched[b]] * compact[b]
        total += 2.0 * compact[a] * half
    return total


@njit(cache=True, nogil=True)
def variances(indptr, indices, data, places, inverse, starts, columns, values, kernels, covariance, result):  # type: ignore[no-untyped-def]
    """Put the variance over sigma^2 of every row x (m, p + q) into ``result`` (m,).

    places : (p + q,) of every effect, its column of the rest, or behind those its place among the eliminated ones, level-major; those of
    the p coefficients are not looked at. inverse : (p, p) from coefficients to the basis. covariance : (w, w) of the rest over sigma^2.

    Given the rest, an eliminated effect has a mean that is linear in the rest, and variance K. So its part of a row goes to the columns of
    the rest, and adds x_e'K x_e.
    """
    p, width, k = len(inverse), len(covariance), values.shape[1]
    basis = width - p
    on_rest, last_row, touched, compact = np.empty(width), np.full(width, -1, np.int64), np.empty(width, np.int64), np.empty(width)
    slot_of, longest = np.full(len(kernels), -1, np.int64), np.max(indptr[1:] - indptr[:-1])
    levels, own, moved = np.empty(longest, np.int64), np.empty((longest, k)), np.empty(k)
    for row in range(len(result)):
        n, n_levels, noise = 0, 0, 0.0
        for at in range(indptr[row], indptr[row + 1]):
            place = places[indices[at]]
            if indices[at] < p:
                n = _add_coefficient(on_rest, last_row, touched, n, basis, row, inverse[indices[at]], data[at])
            elif place < basis:
                n = _add(on_rest, last_row, touched, n, place, row, data[at])
            else:
                level = (place - basis) // k
                if slot_of[level] < 0:
                    slot_of[level], levels[n_levels], own[n_levels] = n_levels, level, 0.0
                    n_levels += 1
                own[slot_of[level], (place - basis) % k] += data[at]
        for slot in range(n_levels):
            level = levels[slot]
            slot_of[level] = -1
            for i in range(k):
                moved[i] = 0.0
                for j in range(k):
                    moved[i] += kernels[level, i, j] * own[slot, j]
                noise += own[slot, i] * moved[i]
            n = _add_level(on_rest, last_row, touched, n, row, moved, starts[level], starts[level + 1], columns, values)
        result[row] = noise + _quadratic(on_rest, touched, n, compact, covariance)
