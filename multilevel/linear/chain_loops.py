"""Compiled loops over factors that are nested in one another and eliminated one after the other, from the leaves up."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def fold(kernels, links, ancestors, starts, values, places, own, cross, sign):  # type: ignore[no-untyped-def]
    """Add sign J_l' K_l [J_l H_l] of every level l to the cross-products ``own`` and ``cross`` of its ancestor, in place.

    links (L, k, kt) are J, the level's cross-products with its ancestor's columns; places (nnz,) say where the level's columns of H are
    among the ancestor's.
    """
    k, kt = links.shape[1], links.shape[2]
    for level in range(len(links)):
        above = ancestors[level]
        for i in range(kt):
            for j in range(k):
                moved = 0.0
                for a in range(k):
                    moved += links[level, a, i] * kernels[level, a, j]
                if moved == 0.0:
                    continue
                moved *= sign
                for a in range(kt):
                    own[above, i, a] += moved * links[level, j, a]
                for at in range(starts[level], starts[level + 1]):
                    cross[places[at], i] += moved * values[at, j]


@njit(cache=True, nogil=True)
def fold_links(kernels, first, second, ancestors, links, sign):  # type: ignore[no-untyped-def]
    """Add sign J_l' K_l I_l to the link (kt, ku) between two ancestors of each level l, in place; ``ancestors`` are the first's."""
    k, kt, ku = first.shape[1], first.shape[2], second.shape[2]
    for level in range(len(first)):
        above = ancestors[level]
        for i in range(kt):
            for j in range(k):
                moved = 0.0
                for a in range(k):
                    moved += first[level, a, i] * kernels[level, a, j]
                for u in range(ku):
                    links[above, i, u] += sign * moved * second[level, j, u]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def times_covariance(starts, columns, values, covariance, result):  # type: ignore[no-untyped-def]
    """(nnz, k) H_l C of every level on its own pattern, for symmetric C (w, w) of the first w columns; zero elsewhere."""
    k, width = values.shape[1], len(covariance)
    for level in range(len(starts) - 1):
        first, last = starts[level], starts[level + 1]
        while last > first and columns[last - 1] >= width:
            last -= 1
        for i in range(k):
            for a in range(first, last):
                total = 0.0
                row = columns[a]
                for b in range(first, last):
                    total += covariance[row, columns[b]] * values[b, i]
                result[a, i] = total


@njit(cache=True, nogil=True)
def lift(links, starts, places, above, result):  # type: ignore[no-untyped-def]
    """Add J_l times the ancestor's covariances ``above`` (nnz of its pattern, kt) to ``result`` (nnz, k), column by column of H_l."""
    k, kt = links.shape[1], links.shape[2]
    for level in range(len(links)):
        for at in range(starts[level], starts[level + 1]):
            place = places[at]
            for i in range(k):
                total = 0.0
                for j in range(kt):
                    total += links[level, i, j] * above[place, j]
                result[at, i] += total


@njit(cache=True, nogil=True)
def along(starts, values, places, above, result):  # type: ignore[no-untyped-def]
    """Add H_l times the ancestor's covariances ``above`` (nnz of its pattern, kt) to ``result`` (L, k, kt)."""
    k, kt = values.shape[1], above.shape[1]
    for level in range(len(starts) - 1):
        for at in range(starts[level], starts[level + 1]):
            place = places[at]
            for i in range(k):
                for j in range(kt):
                    result[level, i, j] += values[at, i] * above[place, j]


@njit(cache=True, nogil=True)
def inner(starts, first, second, result):  # type: ignore[no-untyped-def]
    """Add the products (k, k) of two (nnz, k) arrays on one pattern to ``result`` (L, k, k), level by level."""
    k = first.shape[1]
    for level in range(len(starts) - 1):
        for at in range(starts[level], starts[level + 1]):
            for i in range(k):
                for j in range(k):
                    result[level, i, j] += first[at, i] * second[at, j]
