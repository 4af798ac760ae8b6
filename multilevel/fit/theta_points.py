"""A mixture over points of theta for models with many levels: nothing is held per point but means and what a factorisation needs.

``ThetaMixture`` keeps a root of every point's covariance, which is (p + q) squared a point. Here each point is asked for the variances of
the rows at hand: a factorisation answers for a level from its own few numbers (Takahashi, Fagan and Chen 1973).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import batched
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, eye_array
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from multilevel.arrays import Floats, Integers
from multilevel.fit.one_pass import Question, asked, together
from multilevel.fit.shared_rows import Rows, as_csr, mapped
from multilevel.fit.theta_spread import Conditional, ThetaMethod, points_by_turns, turns

if TYPE_CHECKING:
    from multilevel.fit.container import Fit

CHUNKS_AT_ONCE = 8
"""Chunks of rows that share a pass over the points."""


@dataclass(frozen=True)
class ThetaPoints:
    """K normal distributions of (beta, b), one at each point of theta, with their weights.

    means : (K, w) in the coordinates of the fit. conditional : the normal distribution at point k. covariances : per block (K, k, k).
    weights : (K,), summing to one. scales : (K,) residual sd at each point. matrix : (p + q, w), None for the identity. threads : that
    points are worked on by.
    """

    means: Floats
    conditional: Callable[[int], Conditional]
    covariances: tuple[Floats, ...]
    weights: Floats
    scales: Floats | None = None
    matrix: csr_array | None = None
    method: ThetaMethod = "posterior"
    threads: int = 1

    @cached_property
    def locations(self) -> Floats:
        """(K, p + q)."""
        return self.means if self.matrix is None else np.asarray((self.matrix @ self.means.T).T)

    def variances(self, rows: Rows) -> Floats:
        """(m, K)."""
        inner = self._inner(rows)
        found = np.empty((inner.shape[0], len(self.weights)))

        def take(point: int, variance: Floats) -> None:
            found[:, point] = variance

        self._ask(lambda one: one.variance(inner), take)
        return found

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,)."""
        inner, middle = self._inner(rows), as_csr(self._inner(centre))
        away = self._away(inner, middle)
        total = np.asarray(away**2 @ self.weights)

        def take(point: int, spread: Floats) -> None:
            total[:] += self.weights[point] * spread**2

        self._ask(lambda one: one.spread_about(inner, middle), take)
        return np.sqrt(total)

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m)."""
        inner, middle = self._inner(rows), as_csr(self._inner(centre))
        away = self._away(inner, middle) * np.sqrt(self.weights)
        total = np.asarray(away @ away.T)

        def take(point: int, covariance: Floats) -> None:
            total[:] += self.weights[point] * covariance

        self._ask(lambda one: one.covariance_about(inner, middle), take)
        return total

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q), each point as often as it weighs."""
        which = self.points_of_draws(size, seed)
        inner = np.empty((size, self.means.shape[1]))
        drawn = np.unique(which)
        places = [np.flatnonzero(which == point) for point in drawn]

        def of_point(at: int) -> Floats:
            return self.conditional(int(drawn[at])).draws(len(places[at]), seed + int(drawn[at]))

        for mine, values in zip(places, in_order(of_point, len(drawn), self.threads), strict=True):
            inner[mine] = values
        return inner if self.matrix is None else np.asarray((self.matrix @ inner.T).T)

    def points_of_draws(self, size: int, seed: int) -> Integers:
        """(size,) the point that each of ``draws(size, seed)`` is of."""
        return points_by_turns(size, self.weights, seed)

    def covariance_root(self) -> Floats:
        """(w, w)."""
        assert self.matrix is None
        width = self.means.shape[1]
        total = self.covariance_about(csr_array(eye_array(width, format="csr")), csr_array((1, width)))
        values, vectors = np.linalg.eigh(total)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))).T)

    def at_few(self, size: int) -> ThetaPoints:
        """At most ``size`` of the points, each as often as it weighs: for covariances that need not be known to the last digit."""
        places, times = np.unique(turns(size, self.weights), return_counts=True)
        return replace(
            self,
            means=self.means[places],
            conditional=lambda point: self.conditional(int(places[point])),
            covariances=tuple(own[places] for own in self.covariances),
            weights=times / size,
            scales=None if self.scales is None else self.scales[places],
        )

    def mapped(self, matrix: csr_array) -> ThetaPoints:
        """The distribution of ``matrix`` (beta, b)."""
        return replace(self, matrix=matrix if self.matrix is None else csr_array(matrix @ self.matrix))

    def unmapped(self) -> ThetaPoints:
        """The distribution in the coordinates of the fit."""
        return replace(self, matrix=None)

    def _inner(self, rows: Rows) -> Rows:
        return rows if self.matrix is None else mapped(rows, self.matrix)

    def _away(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, K) how far the conditional means of ``rows - centre`` are from their mean."""
        about = self.means - self.weights @ self.means
        return np.asarray(rows @ about.T) - np.asarray(centre @ about.T)

    def _ask(self, ask: Callable[[Conditional], Floats], take: Callable[[int, Floats], None]) -> None:
        """Put a question to every point; other questions to the same points may share the pass (see ``one_pass``)."""
        asked(self.conditional, self._pass, Question(ask, take))

    def _pass(self, questions: Sequence[Question]) -> None:
        """Factorise each point once and answer all questions from it."""

        def answers(point: int) -> list[Floats]:
            one = self.conditional(point)
            return [question.ask(one) for question in questions]

        for point, found in enumerate(in_order(answers, len(self.weights), self.threads)):
            for question, answer in zip(questions, found, strict=True):
                question.take(point, answer)


def in_turn[C, T](ask: Callable[[C], T], chunks: Iterable[C], fits: Iterable[Fit]) -> Iterator[T]:
    """``ask(chunk)`` for every chunk, in order. For fits kept as points, ``CHUNKS_AT_ONCE`` chunks are in memory and share each pass."""
    at_once = CHUNKS_AT_ONCE if any(isinstance(fit.theta, ThetaPoints) for fit in fits) else 1
    for some in batched(chunks, at_once):
        yield from together([partial(ask, chunk) for chunk in some])


def in_order[T](work: Callable[[int], T], size: int, threads: int) -> Iterator[T]:
    """Results of ``work`` at 0, 1, ..., ``threads`` at a time: no more are in memory. Linear algebra has one thread in each: those of BLAS
    would wait for one another."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        for at in range(0, size, threads):
            yield from pool.map(work, range(at, min(at + threads, size)))
