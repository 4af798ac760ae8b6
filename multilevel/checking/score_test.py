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

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.special import chdtrc, chdtri

from multilevel.arrays import Floats, Integers, distinct
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
class Scores:
    """Of R reduced rows: derivative of the log-likelihood in the linear predictor, its variance, and its fourth cumulant where it was
    simulated (at ``sampled``, a share of the rows)."""

    fit: Fit
    rows: ReducedRows
    score: Floats
    weight: Floats
    sampled: Floats
    fourth: Floats

    def excess(self, effects: csr_array, clusters: Integers) -> Excess | None:
        """The test of effects with design ``effects`` (R, L), ``clusters`` (R,) what is independent; None where the rows cannot tell."""
        spread: Floats = np.asarray(effects.power(2).T @ self.weight)
        kept = np.flatnonzero(spread > 0)
        if self.fit.design.cells.has_moments and self.rows.n_rows - len(self.fit.joint.mean) - len(kept) < FEWEST_FREE:
            return None
        if len(kept) > MOST_EFFECTS:
            # in single precision: levels with equal rows differ by rounding, which is not the same in every run
            kept = np.sort(kept[np.argsort(-spread[kept].astype(np.float32), kind="stable")[:MOST_EFFECTS]])
        if len(kept) < 2:
            return None
        used, own = csr_array(effects[:, kept]), spread[kept]
        scores = np.asarray(used.T @ self.score)
        weighted = csr_array(used.multiply(self.weight[:, None]))
        fitted = left_times(csr_array(weighted.T.tocsr()), self.rows)
        taken = self.fit.joint.covariance_about(fitted, csr_array((1, fitted.shape[1])))
        left = np.asarray((weighted.T @ used).todense()) - taken
        if np.trace(left / own[:, None]) < LEFT * len(kept):
            return None
        d = 1.0 / (1.0 + own / np.median(own))
        dispersion, spare = self._dispersion(used, clusters, d)
        return self._compared(float(d @ scores**2), left, d, used, dispersion, spare)

    def _dispersion(self, effects: csr_array, clusters: Integers, d: Floats) -> tuple[float, float]:
        """How many times as much clusters vary about their level's own effect as independent rows would, at least 1; and how many are
        left to tell, none where there are too few."""
        entries = coo_array(effects)
        row, level = entries.row.astype(np.int64), entries.col.astype(np.int64)
        pair, of_level = _clusters_of_levels(clusters[row], level, len(d))
        own = np.bincount(pair, entries.data**2 * self.weight[row])
        score = np.bincount(pair, entries.data * self.score[row])
        weight, total = np.bincount(of_level, own, len(d)), np.bincount(of_level, score, len(d))
        spare = float(len(of_level) - len(d))
        expected = float(d @ (weight - np.bincount(of_level, own**2, len(d)) / weight))
        if spare < FEWEST_FREE or expected <= 0:
            return 1.0, np.inf
        about = score - own * (total / weight)[of_level]
        return max(1.0, float(d[of_level] @ about**2) / expected), spare

    def _compared(self, statistic: float, left: Floats, d: Floats, effects: csr_array, dispersion: float, spare: float) -> Excess:
        root = np.sqrt(d * dispersion)
        turned = left * root[:, None] * root[None, :]
        square = turned @ turned
        mean, normal = float(np.trace(turned)), 2.0 * float(np.trace(square))
        # fourth cumulants of independent rows add up
        fourth = np.asarray(effects[self.sampled.astype(np.int64)].power(4).T @ self.fourth) if len(self.fourth) else np.zeros(len(d))
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


def _clusters_of_levels(clusters: Integers, level: Integers, n_levels: int) -> tuple[Integers, Integers]:
    """(R,) which pair of a cluster and a level each row belongs to, and (P,) the level of each pair, in the order of both."""
    holder = np.zeros(int(clusters.max()) + 1, dtype=np.int64)
    holder[clusters] = level
    if np.array_equal(holder[clusters], level):  # every cluster within one level, as cells are
        found, pair = distinct(clusters)
        return pair, holder[found]
    pairs, pair = distinct(clusters * n_levels + level)
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
