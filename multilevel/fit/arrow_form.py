"""A normal distribution of very many coefficients as a chain of regressions: what is kept of a fit, one row a coefficient.

Every coefficient outside a small core is a regression on the core and on coefficients later in the order, with independent noise:

    c_i = m_i + sum_j w_ij (c_j - m_j) + e_i,   e_i ~ N(0, v_i),

and the core has a dense covariance. Eliminating a factor level by level gives exactly that: the conditional mean and variance of each
effect given everything above it. The covariance of any two coefficients then follows from their own rows, those of their ancestors and
the core's covariance (Rue and Held 2005, section 2.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Flags, Floats, Integers
from multilevel.fit.row_products import inner_products, times
from multilevel.fit.shared_rows import stacked

MOST_ROWS = 20_000
"""Rows written out at once."""


@dataclass(frozen=True)
class Step:
    """Coefficients that have nothing to do with one another given those of later steps: places (n,) of w coordinates, given (n, w) the
    weights on others, variance (n,) of the noise."""

    places: Integers
    given: csr_array
    variance: Floats


@dataclass(frozen=True)
class ArrowForm:
    """steps : in the order in which they are taken out. core : (c,) places that stay, with ``covariance`` (c, c)."""

    width: int
    steps: tuple[Step, ...]
    core: Integers
    covariance: Floats

    def variance(self, rows: csr_array) -> Floats:
        """(m,) variances of ``rows`` (m, w)."""
        on_core, noises = self._dense(rows)
        total = np.zeros(rows.shape[0])
        for own, step in zip(noises, self.steps, strict=True):
            total += own.multiply(own) @ step.variance
        return total + np.sum(np.asarray(on_core @ self.covariance) * on_core, axis=1)

    def covariance_of(self, rows: csr_array) -> Floats:
        """(m, m) covariance of ``rows`` (m, w), for m small enough."""
        on_core, noises = self._dense(rows)
        total = on_core @ self.covariance @ on_core.T
        for own, step in zip(noises, self.steps, strict=True):
            total += inner_products(_times(own, step.variance), own)
        return np.asarray(total)

    def covariance_with_core(self, rows: csr_array) -> Floats:
        """(m, c) covariance of ``rows`` (m, w) with the core."""
        return np.asarray(self._dense(rows)[0] @ self.covariance)

    def shares_noise(self, rows: csr_array, others: csr_array) -> bool:
        """Whether noise of any one coefficient is in both ``rows`` and ``others``."""
        pairs = zip(self._touched(rows), self._touched(others), strict=True)
        return any(bool(np.any(one & other)) for one, other in pairs)

    def _touched(self, rows: csr_array) -> list[Flags]:
        """Per step (n,) whether its noise is in any of ``rows``, looked at some at a time: written out they are long."""
        found = [np.zeros(len(step.places), dtype=np.bool_) for step in self.steps]
        for at in range(0, rows.shape[0], MOST_ROWS):
            for own, noise in zip(found, self._moved(csr_array(rows[at : at + MOST_ROWS]))[1], strict=True):
                own[noise.indices] = True
        return found

    def with_combinations(self, rows: csr_array) -> ArrowForm:
        """The same with the combinations ``rows`` (r, w) as r more coordinates of the core, at the end.

        Their own noise is taken to be independent of that of other rows, which must not share any with them (``shares_noise``).
        """
        r, width = rows.shape[0], self.width + rows.shape[0]
        beside = self.covariance_with_core(rows)
        covariance = np.block([[self.covariance, beside.T], [beside, self.covariance_of(rows)]])
        steps = tuple(Step(step.places, _wider(step.given, width), step.variance) for step in self.steps)
        return ArrowForm(width, steps, np.concatenate([self.core, self.width + np.arange(r)]), covariance)

    def _dense(self, rows: csr_array) -> tuple[Floats, list[csr_array]]:
        on_core, noises = self._moved(rows)
        return np.asarray(on_core.todense()), noises

    def _moved(self, rows: csr_array) -> tuple[csr_array, list[csr_array]]:
        """Coefficients (m, c) on the core, every other coefficient replaced by its regression, and per step (m, n) on the noise."""
        noises = []
        for step in self.steps:
            own = columns_at(rows, step.places)
            rows = csr_array(_without(rows, step.places) + times(own, step.given))
            noises.append(own)
        return columns_at(rows, self.core), noises


def scalar_steps(places: Integers, given: csr_array, noise: Floats) -> tuple[Step, ...]:
    """Levels of k effects each with noise (L, k, k) as k steps of one effect, the last of every level first.

    Parameters
    ----------
    places : (L k,), level-major. given : (L k, w) weights on coefficients above.

    With noise = R D R', R unit lower triangular, R^-1 b has independent noise D.
    """
    levels, k = noise.shape[0], noise.shape[1]
    inverse, variance = _unit_inverse(noise)
    steps = []
    for term in reversed(range(k)):
        mine = np.arange(levels) * k + term
        weights = given if k == 1 else csr_array(given[mine])
        for other in range(term):
            above = np.arange(levels) * k + other
            weights = csr_array(weights + _times(csr_array(given[above]), inverse[:, term, other], by_row=True))
            own = csr_array((-inverse[:, term, other], (np.arange(levels), places[above])), shape=(levels, given.shape[1]))
            weights = csr_array(weights + own)
        steps.append(Step(places[mine], weights, variance[:, term]))
    return tuple(steps)


def _unit_inverse(noise: Floats) -> tuple[Floats, Floats]:
    """(L, k, k) R^-1 and (L, k) D of noise = R D R'; a column whose pivot vanishes stays as it is."""
    levels, k = noise.shape[0], noise.shape[1]
    left, root = noise.copy(), np.broadcast_to(np.eye(k), noise.shape).copy()
    pivots = np.zeros((levels, k))
    for at in range(k):
        pivot = np.maximum(left[:, at, at], 0.0)
        pivots[:, at] = pivot
        column = np.divide(left[:, at + 1 :, at], pivot[:, None], out=np.zeros((levels, k - at - 1)), where=pivot[:, None] > 0)
        root[:, at + 1 :, at] = column
        left[:, at + 1 :, at + 1 :] -= column[:, :, None] * column[:, None, :] * pivot[:, None, None]
    return np.linalg.inv(root), pivots


def _times(rows: csr_array, scale: Floats, *, by_row: bool = False) -> csr_array:
    """Every column of ``rows`` (m, n) times its entry of ``scale`` (n,), or every row times its (m,)."""
    factors = np.repeat(scale, np.diff(rows.indptr)) if by_row else scale[rows.indices]
    return csr_array((rows.data * factors, rows.indices, rows.indptr), shape=rows.shape)


def columns_at(rows: csr_array, places: Integers) -> csr_array:
    """(m, n) the columns at ``places`` (n,)."""
    at = np.full(rows.shape[1], -1, dtype=np.int64)
    at[places] = np.arange(len(places))
    return _chosen(rows, at[rows.indices], len(places))


def _wider(rows: csr_array, width: int) -> csr_array:
    return csr_array((rows.data, rows.indices, rows.indptr), shape=(rows.shape[0], width))


def _without(rows: csr_array, places: Integers) -> csr_array:
    at = np.arange(rows.shape[1], dtype=np.int64)
    at[places] = -1
    return _chosen(rows, at[rows.indices], rows.shape[1])


def _chosen(rows: csr_array, columns: Integers, width: int) -> csr_array:
    """The entries whose new column is not -1."""
    kept = columns >= 0
    starts = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return csr_array((rows.data[kept], columns[kept], starts), shape=(rows.shape[0], width))


def rows_of(steps: Sequence[Step]) -> tuple[Integers, csr_array, Floats]:
    """places (n,), given (n, w) and variance (n,) of all steps together."""
    if not steps:
        return np.zeros(0, np.int64), csr_array((0, 0)), np.zeros(0)
    if len(steps) == 1:
        return steps[0].places, steps[0].given, steps[0].variance
    return (
        np.concatenate([step.places for step in steps]),
        stacked([step.given for step in steps]),
        np.concatenate([step.variance for step in steps]),
    )
