"""Compiled variances of sparse rows of coefficients: a level of the eliminated factor costs what its own row of cross-products does."""

from __future__ import annotations

import numpy as np
from numba import njit

FEW_DIGITS = 1e-5
"""Share of what is added up, below which a difference leaves too few digits."""


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


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _product(along, first, last, columns, values):  # type: ignore[no-untyped-def]
    """``along`` (w,) times h, of the entries of a level's h from ``first`` to ``last``."""
    total = 0.0
    for at in range(first, last):
        total += along[columns[at]] * values[at, 0]
    return total


@njit(cache=True, nogil=True)
def _inside(first, last, columns, width):  # type: ignore[no-untyped-def]
    """Where the entries end whose columns are among the first ``width``."""
    while last > first and columns[last - 1] >= width:
        last -= 1
    return last


@njit(cache=True, nogil=True)
def _spread(covariance, first, last, columns, values):  # type: ignore[no-untyped-def]
    """h'Ch of a level's h."""
    total = 0.0
    for at in range(first, last):
        place = columns[at]
        half = 0.5 * covariance[place, place] * values[at, 0] + _product(covariance[place], first, at, columns, values)
        total += 2.0 * values[at, 0] * half
    return total


@njit(cache=True, nogil=True)
def _repeats(on_rest, touched, n, places, amounts, counts):  # type: ignore[no-untyped-def]
    """How many rows before this one had the same on the ``n`` touched places; remembered in ``places``, ``amounts`` and ``counts`` (2,)."""
    same = counts[0] == n
    for a in range(n):
        same = same and places[a] == touched[a] and amounts[a] == on_rest[touched[a]]
    counts[0], counts[1] = n, counts[1] + 1 if same else 0
    if not same:
        for a in range(n):
            places[a], amounts[a] = touched[a], on_rest[touched[a]]
    return counts[1]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _times(on_rest, touched, n, covariance, result):  # type: ignore[no-untyped-def]
    """Put C d of the ``n`` touched places, then d'Cd, into ``result`` (w + 1,)."""
    result[:] = 0.0
    for a in range(n):
        amount, column = on_rest[touched[a]], covariance[touched[a]]
        for b in range(len(column)):
            result[b] += amount * column[b]
    for a in range(n):
        result[-1] += on_rest[touched[a]] * result[touched[a]]


@njit(cache=True, nogil=True)
def _with_level(own, kernel, direct, mixed, spread):  # type: ignore[no-untyped-def]
    """K x_e^2 + d'Cd - 2 K x_e d'Ch + (K x_e)^2 h'Ch; NaN where the difference has too few digits."""
    through = (kernel * own) ** 2 * spread
    total = kernel * own**2 + direct - 2.0 * kernel * own * mixed + through
    return total if total > FEW_DIGITS * (direct + through) else np.nan


@njit(cache=True, nogil=True)
def _direct_and_mixed(on_rest, touched, n, covariance, compact, repeats, with_rest, first, last, columns, values):  # type: ignore[no-untyped-def]
    """d'Cd and d'Ch of the ``n`` touched places and a level's h; what rows have in common is in ``with_rest`` (w + 1,)."""
    if n == 0:
        return 0.0, 0.0
    if repeats:
        if repeats == 1:
            _times(on_rest, touched, n, covariance, with_rest)
        return with_rest[-1], _product(with_rest, first, last, columns, values)
    mixed = 0.0
    for at in range(n):
        mixed += on_rest[touched[at]] * _product(covariance[touched[at]], first, last, columns, values)
    return _quadratic(on_rest, touched, n, compact, covariance), mixed


@njit(cache=True, nogil=True)
def variances(indptr, indices, data, places, inverse, starts, columns, values, kernels, covariance, spreads, result):  # type: ignore[no-untyped-def]
    """Put the variance over sigma^2 of every row x (m, p + q) into ``result`` (m,).

    places : (p + q,) of every effect, its column of the rest, or behind those its place among the eliminated ones, level-major; those of
    the p coefficients are not looked at. inverse : (p, p) from coefficients to the basis. covariance : (w, w) of the rest over sigma^2, C.
    spreads : (L,) h'Ch of the levels, of one column each; NaN where nobody asked yet.

    Given the rest, an eliminated effect has a mean that is linear in the rest, and variance K. So its part of a row goes to the columns of
    the rest, and adds x_e'K x_e. A row with d on the rest itself and one level, of one column, has d'Cd - 2 K x_e d'Ch + (K x_e)^2 h'Ch
    there. Rows of the same level have the last product in common, and rows that follow one another often d, and C d with it.
    """
    p, width, k = len(inverse), len(covariance), values.shape[1]
    basis = width - p
    on_rest, last_row, touched, compact = np.empty(width), np.full(width, -1, np.int64), np.empty(width, np.int64), np.empty(width)
    slot_of, longest = np.full(len(kernels), -1, np.int64), np.max(indptr[1:] - indptr[:-1])
    levels, own, moved = np.empty(longest, np.int64), np.empty((longest, k)), np.empty(k)
    before, amounts, counts, with_rest = np.empty(width, np.int64), np.empty(width), np.full(2, -1, np.int64), np.empty(width + 1)
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
        if k == 1 and n_levels == 1:
            level = levels[0]
            first, last = starts[level], _inside(starts[level], starts[level + 1], columns, width)
            if np.isnan(spreads[level]):
                spreads[level] = _spread(covariance, first, last, columns, values)
            repeats = _repeats(on_rest, touched, n, before, amounts, counts)
            direct, mixed = _direct_and_mixed(on_rest, touched, n, covariance, compact, repeats, with_rest, first, last, columns, values)
            result[row] = _with_level(own[0, 0], kernels[level, 0, 0], direct, mixed, spreads[level])
            if not np.isnan(result[row]):
                slot_of[level] = -1
                continue
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
