"""Is there variance that the model leaves out? A score test of more group-level effects, from a fit without them.

With u the derivatives of the log-likelihood in the linear predictors of the reduced rows, W their information, A = [X Z] and C the joint
covariance of (beta, b), residuals of a linear model have Cov(u) = W - W A C A' W exactly: that is what the fit leaves of them, pooling
included. Other families are treated so to first order. Effects with design K have the scores s = K'u and M = Cov(s), and

    T = sum_l d_l s_l^2,   d_l = 1 / (1 + w_l / median w),   w = diag(K'W K)

is compared with the distribution of a quadratic form in normal variables that has M (Lin 1997; Verbeke and Molenberghs 2003); the
weights are those of the likelihood ratio against an excess as large as what a middling level varies by anyway, so that no large level
decides alone. Of that distribution three moments are used (Imhof 1961); its variance is enlarged for outcomes whose tails are
longer than normal ones, and for the estimated scale. The same for both engines: a posterior is tested at the medians of its variance
parameters (``at_median_theta``), where residuals balance as they do at a maximum.

What varies too much everywhere is not taken for these effects: where a level has several independent clusters (cells; combinations of all
factors), M is multiplied by how much more than W those vary about the level's own effect, if they do (McCullagh and Nelder 1989, section
4.5). An overdispersed count is then no interaction, and an interaction no slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.special import chdtrc, chdtri

from multilevel.arrays import Codes, Flags, Floats, Integers, distinct
from multilevel.design.reduction import ReducedRows, left_times, outcome_of, reduce_design, right_times
from multilevel.errors import FitError
from multilevel.families.registry import family_named
from multilevel.fit.container import Fit
from multilevel.intervals.median_theta import at_median_theta

MOST_EFFECTS = 1_000
"""Effects that are looked at; of more, those with most information."""

FEWEST_FREE = 20
"""Rows that must be left when the new effects have taken theirs: the residual is known from them."""

LEFT = 1e-3
"""Share of the information on the new effects that the fit must leave: below it the model has nearly the same effects already, or the
difference is lost in rounding."""

SIMULATIONS, MOST_SIMULATED = 60, 20_000
"""Of outcomes, for their fourth moments; and of how many rows."""

MATERIAL = 1.2
"""Ratio of T to what is expected below which an excess is too small to matter: intervals would be 10 % too narrow."""


@dataclass(frozen=True)
class Chance:
    """How a statistic is distributed by chance alone: mean, variance and third cumulant."""

    mean: float
    variance: float
    third: float

    @property
    def _shape(self) -> float:
        return 8.0 * self.variance**3 / self.third**2

    def probability(self, value: float) -> float:
        """Of a value at least as large."""
        h = self._shape
        return float(chdtrc(h, max(h + (value - self.mean) * np.sqrt(2.0 * h / self.variance), 0.0)))

    def quantile(self, probability: float) -> float:
        """The value that is exceeded with that probability."""
        h = self._shape
        return float(self.mean + (chdtri(h, probability) - h) * np.sqrt(self.variance / (2.0 * h)))


@dataclass(frozen=True)
class Excess:
    """What more effects would explain.

    statistic : T. chance : its distribution without them. sd : of the effects that T speaks for, zero where T is no larger than expected.
    """

    statistic: float
    chance: Chance
    sd: float

    @property
    def ratio(self) -> float:
        """T over what is expected."""
        return self.statistic / self.chance.mean

    @property
    def probability(self) -> float:
        """Of a T as large, by chance."""
        return self.chance.probability(self.statistic)

    def threshold(self, level: float) -> float:
        """Ratio above which T is beyond chance at ``level``, and large enough to matter."""
        return max(MATERIAL, self.chance.quantile(level) / self.chance.mean)


@dataclass(frozen=True)
class NewEffects:
    """Effects that the model may lack: of every level of ``codes`` (R,), L of them, one for each of ``columns`` (R,) that multiply them."""

    codes: Codes | Integers
    columns: tuple[Floats, ...]
    n_levels: int

    def of(self, column: int, effects: Flags) -> csr_array:
        """Those of one column that are marked in ``effects`` (L,), as a matrix (R, marked): a row has one entry, or none."""
        rank = (np.cumsum(effects) - 1).astype(np.int32)
        if effects.all():
            values, places = self.columns[column], self.codes.astype(np.int32, copy=False)
            starts = np.arange(len(values) + 1, dtype=np.int32)
            return csr_array((values, places, starts), shape=(len(values), self.n_levels))
        is_there = effects[self.codes]
        starts = np.zeros(len(is_there) + 1, dtype=np.int32)
        np.cumsum(is_there, out=starts[1:])
        return csr_array((self.columns[column][is_there], rank[self.codes[is_there]], starts), shape=(len(is_there), int(effects.sum())))


@dataclass(frozen=True)
class Scores:
    """Of R reduced rows: derivative of the log-likelihood in the linear predictor, its variance, and its fourth cumulant where it was
    simulated (at ``sampled``, a share of the rows)."""

    fit: Fit
    rows: ReducedRows
    score: Floats
    weight: Floats
    sampled: Floats
    fourth: Floats

    def excess(self, effects: NewEffects, clusters: Codes | Integers) -> Excess | None:
        """The test of ``effects``, ``clusters`` (R,) what is independent; None where the rows cannot tell."""
        spread: Floats = np.concatenate([np.bincount(effects.codes, v**2 * self.weight, effects.n_levels) for v in effects.columns])
        kept = np.flatnonzero(spread > 0)
        if self.fit.design.cells.has_moments and self.rows.n_rows - len(self.fit.joint.mean) - len(kept) < FEWEST_FREE:
            return None
        if len(kept) > MOST_EFFECTS:
            # in single precision: levels with equal rows differ by rounding, which is not the same in every run
            kept = np.sort(kept[np.argsort(-spread[kept].astype(np.float32), kind="stable")[:MOST_EFFECTS]])
        if len(kept) < 2:
            return None
        own = spread[kept]
        d = 1.0 / (1.0 + own / np.median(own))
        marked = np.zeros(len(spread), dtype=np.bool_)
        marked[kept] = True
        # one column at a time: its long arrays are gone before the covariance is made
        parts = [self._part(effects.of(at, own), clusters) for at, own in enumerate(np.split(marked, len(effects.columns)))]
        scores, fitted = np.concatenate([part.scores for part in parts]), csr_array(vstack([part.fitted for part in parts], format="csr"))
        left = self._shared(effects, np.split(marked, len(effects.columns))) - self.fit.joint.covariance_about(
            fitted, csr_array((1, fitted.shape[1]))
        )
        if np.trace(left / own[:, None]) < LEFT * len(kept):
            return None
        dispersion, spare = _dispersion(parts, d)
        return self._compared(float(d @ scores**2), left, d, np.concatenate([part.fourth for part in parts]), dispersion, spare)

    def _part(self, effects: csr_array, clusters: Codes | Integers) -> _Part:
        """What the test needs of some effects, ``effects`` (R, l) one column's."""
        row = None if effects.nnz == effects.shape[0] else np.flatnonzero(np.diff(effects.indptr))
        weight, score = (own if row is None else own[row] for own in (self.weight, self.score))
        weighted = csr_array((effects.data * weight, effects.indices, effects.indptr), shape=effects.shape)
        n_levels = effects.shape[1]
        pair, of_level = _clusters_of_levels(clusters if row is None else clusters[row], effects.indices, n_levels)
        fourth = effects[self.sampled.astype(np.int64)].power(4).T @ self.fourth if len(self.fourth) else np.zeros(n_levels)
        return _Part(
            np.bincount(effects.indices, effects.data * score, n_levels),
            left_times(csr_array(weighted.T.tocsr()), self.rows),
            np.asarray(fourth),
            of_level,
            np.bincount(pair, effects.data * weighted.data, len(of_level)),
            np.bincount(pair, effects.data * score, len(of_level)),
        )

    def _shared(self, effects: NewEffects, marked: Sequence[Flags]) -> Floats:
        """(n, n) K'W K of the marked effects: two columns share what their levels do."""
        starts = np.cumsum([0, *(int(own.sum()) for own in marked)])
        total = np.zeros((starts[-1], starts[-1]))
        for (i, first), (j, second) in combinations_with_replacement(enumerate(marked), 2):
            values = np.bincount(effects.codes, effects.columns[i] * effects.columns[j] * self.weight, effects.n_levels)
            both = np.flatnonzero(first & second)
            here = starts[i] + (np.cumsum(first) - 1)[both], starts[j] + (np.cumsum(second) - 1)[both]
            total[here] = total[here[::-1]] = values[both]
        return total

    def _compared(self, statistic: float, left: Floats, d: Floats, fourth: Floats, dispersion: float, spare: float) -> Excess:
        root = np.sqrt(d * dispersion)
        turned = left * root[:, None] * root[None, :]
        square = turned @ turned
        mean, normal = float(np.trace(turned)), 2.0 * float(np.trace(square))
        # fourth cumulants of independent rows add up
        longer = max(0.0, dispersion**2 * float(d**2 @ fourth)) * len(self.score) / max(len(self.fourth), 1)
        free = self.rows.n_rows - len(self.fit.joint.mean)
        scale = 0.0 if self.fit.design.cells.known_sigma or not self._has_scale else 2.0 * mean**2 / max(free, 1)
        variance = normal + longer + scale + 2.0 * mean**2 / spare
        third = 8.0 * float(np.sum(square * turned)) * (variance / normal) ** 2
        by_variance = float(d @ np.sum(left**2, axis=1))
        return Excess(statistic, Chance(mean, variance, third), float(np.sqrt(max(0.0, statistic - mean) / by_variance)))

    @property
    def _has_scale(self) -> bool:
        return family_named(self.fit.family).scale is not None


@dataclass(frozen=True)
class _Part:
    """Of the effects of one column: scores (l,), W K in the coefficients (l, p + q), fourth cumulants (l,); and of P clusters their level
    (P,), information (P,) and score (P,)."""

    scores: Floats
    fitted: csr_array
    fourth: Floats
    of_level: Codes | Integers
    own: Floats
    score: Floats


def _dispersion(parts: Sequence[_Part], d: Floats) -> tuple[float, float]:
    """How many times as much clusters vary about their level's own effect as independent rows would, at least 1; and how many are
    left to tell, none where there are too few."""
    expected = found = spare = 0.0
    for part, own_d in zip(parts, np.split(d, np.cumsum([len(part.scores) for part in parts])[:-1]), strict=True):
        weight = np.bincount(part.of_level, part.own, len(own_d))
        spare += float(len(part.of_level) - len(own_d))
        expected += float(own_d @ (weight - np.bincount(part.of_level, part.own**2, len(own_d)) / weight))
        about = part.score - part.own * (part.scores / weight)[part.of_level]
        found += float(own_d[part.of_level] @ about**2)
    if spare < FEWEST_FREE or expected <= 0:
        return 1.0, np.inf
    return max(1.0, found / expected), spare


def _clusters_of_levels(clusters: Codes | Integers, level: Codes | Integers, n_levels: int) -> tuple[Codes | Integers, Codes | Integers]:
    """(R,) which pair of a cluster and a level each row belongs to, and (P,) the level of each pair, in the order of both."""
    if len(clusters) == int(clusters.max()) + 1 and np.all(clusters[1:] > clusters[:-1]):  # every row is a cluster
        return clusters, level
    holder = np.zeros(int(clusters.max()) + 1, dtype=np.int64)
    holder[clusters] = level
    if np.array_equal(holder[clusters], level):  # every cluster within one level, as cells are
        found, pair = distinct(clusters)
        return pair, holder[found]
    pairs, pair = distinct(clusters.astype(np.int64) * n_levels + level)
    return pair, pairs % n_levels


def scores_of(fit: Fit, seed: int = 0) -> Scores | None:
    """At the estimates of a fit, or the medians of a posterior's variance parameters.

    None where a predictor is so far out that its outcomes have no information, or where there is no mode because only the prior of a
    posterior keeps estimates finite.
    """
    try:
        fit = at_median_theta(fit)
    except FitError:
        return None
    rows = reduce_design(fit.design)
    eta = rows.offset + right_times(rows, fit.joint.mean)
    scale = fit.sigma if fit.sigma is not None else fit.dispersion
    outcome = outcome_of(fit.design.cells, rows, fit.family)
    weight, score = outcome.working(eta, 1.0 if scale is None else scale)
    if not np.isfinite(weight).all() or not np.isfinite(score).all():
        return None
    sampled, fourth = _fourth_cumulants(fit, rows, eta, 1.0 if scale is None else scale, np.random.default_rng(seed))
    return Scores(fit, rows, score, weight, sampled, fourth)


def _fourth_cumulants(fit: Fit, rows: ReducedRows, eta: Floats, scale: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Places of the rows that were looked at, and the fourth cumulants of their scores; of normal outcomes there are none."""
    if fit.design.cells.has_moments:
        return np.zeros(0), np.zeros(0)
    n_rows = len(eta)
    places = np.arange(n_rows) if n_rows <= MOST_SIMULATED else np.sort(rng.choice(n_rows, MOST_SIMULATED, replace=False))
    family, size, eta = family_named(fit.family), rows.size[places], eta[places]
    mean, variance = family.moments(size, eta, scale)
    # the score is (y - mean) times its own variance over the slope, so that only y need be drawn
    slope = np.where(variance > 0, size * family.link.slope(eta) / np.where(variance > 0, variance, 1.0), 0.0)
    total = np.zeros(len(places))
    for _ in range(SIMULATIONS):
        total += ((family.draw_sums(size, eta, scale, rng) - mean) * slope) ** 4
    return places.astype(np.float64), total / SIMULATIONS - 3.0 * (variance * slope**2) ** 2
