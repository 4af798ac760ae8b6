"""A mixture over points of theta for models with many levels: nothing is held per point but means and what a factorisation needs.

``ThetaMixture`` keeps a root of every point's covariance, which is (p + q) squared a point. Here each point is asked for the variances of
the rows at hand: a factorisation answers for a level from its own few numbers (Takahashi, Fagan and Chen 1973).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
from multilevel.fit.theta_spread import Conditional, ThetaMethod, points_by_turns
from multilevel.fit.variance_surface import MOST_MISS, VarianceSurface, coordinates_of, few_for_all, variance_surface
from multilevel.threads import piece_by_piece

if TYPE_CHECKING:
    from multilevel.fit.container import Fit

WITHIN_POINTS = 16
"""Points that say how wide the conditional distributions are on average, where few do."""

CHUNKS_AT_ONCE = 8
"""Chunks of rows that share a pass over the points."""


type Ask = Callable[[Conditional, Rows], Floats]
"""What rows vary by (m,) at a point."""


@dataclass(frozen=True)
class ThetaPoints:
    """K normal distributions of (beta, b), one at each point of theta, with their weights.

    means : (K, w) in the coordinates of the fit, column by column for products with rows. conditional : the normal distribution at point
    k. covariances : per block (K, k, k). weights : (K,), summing to one. variance : (w,) conditional variance of every coordinate of the
    fit, averaged over the points. scales : (K,) residual sd at each point. matrix : (p + q, w), None for the identity. threads : that
    points are worked on by.
    """

    means: Floats
    conditional: Callable[[int], Conditional]
    covariances: tuple[Floats, ...]
    weights: Floats
    variance: Floats
    scales: Floats | None = None
    matrix: csr_array | None = None
    method: ThetaMethod = "posterior"
    threads: int = 1

    @property
    def n_points(self) -> int:
        """K."""
        return len(self.means)

    @cached_property
    def mean(self) -> Floats:
        """(p + q,)."""
        inner = self.weights @ self.means
        return np.asarray(inner if self.matrix is None else self.matrix @ inner)

    @cached_property
    def locations(self) -> Floats:
        """(K, p + q), as large as ``means`` again."""
        return self.means if self.matrix is None else np.asarray((self.matrix @ self.means.T).T)

    def predictors(self, rows: Rows) -> Floats:
        """(m, K)."""
        return np.asarray(self._inner(rows) @ self.means.T)

    def variances(self, rows: Rows) -> Floats:
        """(m, K)."""
        return self._everywhere(self._inner(rows), lambda one, own: one.variance(own))

    def spread_about(self, rows: Rows, centre: csr_array, *, few: bool = False) -> Floats:
        """(m,). ``few`` : conditional variances are averaged over ``WITHIN_POINTS`` of the points; for rows where they change little from
        point to point, as those of the levels of a factor that has many."""
        inner, middle = self._inner(rows), as_csr(self._inner(centre))
        total = np.asarray(self._away(inner, middle) ** 2 @ self.weights)
        if few:
            surface = self._surface
            if surface is not None and len(surface.places) <= WITHIN_POINTS:
                within = surface.places  # they stand for all too, and have been asked before
            else:
                within = few_for_all(self.covariances, self.scales, self.weights, WITHIN_POINTS)
            total += self._at(inner, _variance_about(middle), within.tolist()).mean(axis=1)
        else:
            total += self._everywhere(inner, _variance_about(middle)) @ self.weights
        return np.sqrt(total)

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m)."""
        inner, middle = self._inner(rows), as_csr(self._inner(centre))
        away = self._away(inner, middle) * np.sqrt(self.weights)
        surface = self._surface
        some = range(len(self.weights)) if surface is None else surface.places.tolist()
        within = dict(zip(some, self.weights if surface is None else np.full(len(some), 1.0 / len(some)), strict=True))
        total, variances = np.zeros((len(away), len(away))), {}

        def take(point: int, covariance: Floats) -> None:
            total[:] += within[point] * covariance
            variances[point] = np.diagonal(covariance).copy()

        self._ask(lambda one: one.covariance_about(inner, middle), take, within)
        if surface is not None:
            # correlations are those of the points that were asked, which weigh alike; variances are those of all points
            some = np.stack([variances[point] for point in within], axis=1)
            known = self._filled(surface, inner, _variance_about(middle), some) @ self.weights
            own = np.diagonal(total)
            stretch = np.sqrt(np.where(own > 0, known / np.where(own > 0, own, 1.0), 1.0))
            total *= np.outer(stretch, stretch)
        return np.asarray(total + away @ away.T)

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

    @property
    def central(self) -> int:
        """The point whose variance parameters are nearest to their means, each in its sd."""
        coordinates = coordinates_of(self.covariances, self.scales)
        away = coordinates - self.weights @ coordinates
        sd = np.sqrt(self.weights @ away**2)
        return int(np.argmin(np.sum((away[:, sd > 0] / sd[sd > 0]) ** 2, axis=1)))

    @cached_property
    def _surface(self) -> VarianceSurface | None:
        return variance_surface(self.covariances, self.scales, self.weights)

    def _everywhere(self, rows: Rows, ask: Ask) -> Floats:
        """(m, K) of what ``rows`` (m, w) vary by at every point."""
        surface = self._surface
        if surface is None:
            return self._at(rows, ask, range(len(self.weights)))
        return self._filled(surface, rows, ask, self._at(rows, ask, surface.places.tolist()))

    def _filled(self, surface: VarianceSurface, rows: Rows, ask: Ask, some: Floats) -> Floats:
        """(m, K) from ``some`` (m, M) answers at the points of the surface; the other points are asked where it does not tell enough."""
        found = surface.everywhere(some)
        rough = np.flatnonzero(surface.misses(some) > MOST_MISS)
        if len(rough):
            found[np.ix_(rough, surface.others)] = self._at(rows[rough], ask, surface.others.tolist())
        return found

    def _at(self, rows: Rows, ask: Ask, points: Collection[int]) -> Floats:
        """(m, points) answers of ``ask`` for rows (m, w)."""
        found, place = np.empty((rows.shape[0], len(points))), {point: at for at, point in enumerate(points)}

        def take(point: int, answer: Floats) -> None:
            found[:, place[point]] = answer

        self._ask(lambda one: ask(one, rows), take, set(points))
        return found

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
        away = np.asarray(rows @ self.means.T) - np.asarray(centre @ self.means.T)
        return np.asarray(away - (away @ self.weights)[:, None])

    def _ask(
        self, ask: Callable[[Conditional], Floats], take: Callable[[int, Floats], None], points: Collection[int] | None = None
    ) -> None:
        """Put a question to every point, or to ``points``; other questions to the same points may share the pass (see ``one_pass``)."""
        asked(self.conditional, self._pass, Question(ask, take, points))

    def _pass(self, questions: Sequence[Question]) -> None:
        """Factorise each point once and answer all questions from it."""
        visited = [point for point in range(len(self.weights)) if any(question.is_of(point) for question in questions)]

        def answers(at: int) -> list[tuple[Question, Floats]]:
            one = self.conditional(visited[at])
            return [(question, question.ask(one)) for question in questions if question.is_of(visited[at])]

        for point, found in zip(visited, in_order(answers, len(visited), self.threads), strict=True):
            for question, answer in found:
                question.take(point, answer)


def _variance_about(centre: csr_array) -> Ask:
    """What ``rows - centre`` vary by."""
    return lambda one, rows: one.spread_about(rows, centre) ** 2


def in_turn[C, T](ask: Callable[[C], T], chunks: Iterable[C], fits: Iterable[Fit]) -> Iterator[T]:
    """``ask(chunk)`` for every chunk, in order: of fits kept as points ``CHUNKS_AT_ONCE`` share each pass, else a few at the same time."""
    if not any(isinstance(fit.theta, ThetaPoints) for fit in fits):
        yield from piece_by_piece(ask, chunks)
        return
    for some in batched(chunks, CHUNKS_AT_ONCE):
        yield from together([partial(ask, chunk) for chunk in some])


def in_order[T](work: Callable[[int], T], size: int, threads: int) -> Iterator[T]:
    """Results of ``work`` at 0, 1, ..., ``threads`` at a time: no more are in memory. Linear algebra has one thread in each: those of BLAS
    would wait for one another."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        for at in range(0, size, threads):
            yield from pool.map(work, range(at, min(at + threads, size)))
