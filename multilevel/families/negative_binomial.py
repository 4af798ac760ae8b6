"""Counts that vary more than Poisson counts, with the log link: variance mean + mean^2 / phi."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.special import betainc, expit, gammaln, xlogy

from multilevel.arrays import Floats
from multilevel.errors import FitError
from multilevel.families.compiled import compiled
from multilevel.families.count_draws import poisson_counts
from multilevel.families.family import Family, ScaleName, Statistics, Support, Words
from multilevel.families.likelihood import ByDispersion, Curvature, two_sided
from multilevel.families.link import LOG, Link
from multilevel.families.log_gamma import digamma, rising_digamma, rising_log_gamma
from multilevel.families.notation import DISTRIBUTED, EXP_ETA, PHI, Notation, Y, call
from multilevel.families.outcome import Outcome


class NegativeBinomial(Family):
    """Rows ``y ~ NB(mean exp(eta), phi)``; ``outcome`` sums a cell's rows, which are its ``size``."""

    name: ClassVar[str] = "negative_binomial"
    link: ClassVar[Link] = LOG
    scale: ClassVar[ScaleName | None] = "phi"
    statistics: ClassVar[Statistics] = Statistics(is_discrete=True, distinct_outcomes="kept")
    support: ClassVar[Support | None] = Support("{y} < 0 or {y} <> floor({y})", "family negative_binomial needs counts: 0, 1, 2 and so on")
    words: ClassVar[Words] = Words(
        distribution="is a count that varies more than a Poisson count would, its expectation on the log scale",
        latent_variance="What counts vary by themselves is taken as log(1 + 1/mean + 1/φ) on the link scale.",
        level_per_row="poisson, whose rows may have effects of their own",
        regular="phi has no finite estimate, write family: poisson",
    )
    notation: ClassVar[Notation] = Notation(Y + DISTRIBUTED + call("NegativeBinomial", EXP_ETA, PHI))

    def refuse_sums(self, total: Floats, size: Floats, once: Mapping[str, float]) -> None:
        """Counts below zero."""
        self._refuse_negative(total)

    def likelihood(self, outcome: Outcome) -> NegativeBinomialLikelihood:
        """See ``Family.likelihood``; FitError without a histogram of the outcome."""
        if not len(outcome.histogram):
            raise FitError(
                "negative_binomial: the cell statistics hold no histogram of the outcome; compress the rows again for this family."
            )
        return NegativeBinomialLikelihood(outcome.outcome, outcome.size, outcome.histogram, float(outcome.once["log_factorial"]))

    @property
    def log_density(self) -> Any:
        """See ``Family.log_density``."""
        return compiled(_log_density, digamma)

    def log_likelihood(self, outcome: Outcome, eta: Any, scale: Any, xp: Any = np) -> Any:
        """See ``Family.log_likelihood``."""
        log_gamma = gammaln if xp is np else xp.gammaln
        y, n = outcome.outcome, outcome.size
        values, counts = outcome.histogram[:, 0], outcome.histogram[:, 1]
        rows_only = (counts * (log_gamma(values + scale) - log_gamma(scale))).sum()
        return rows_only + (y * eta - (y + n * scale) * xp.log(scale + xp.exp(eta)) + n * scale * xp.log(scale)).sum()

    def working(self, outcome: Outcome, eta: Floats, scale: float) -> tuple[Floats, Floats]:
        """Expected information, and its working residual."""
        mu = np.exp(np.clip(eta, -300.0, 300.0))
        damping = 1.0 / (1.0 + mu / scale)
        return outcome.size * mu * damping, (outcome.outcome - outcome.size * mu) * damping

    def row_log_probability(self, eta: Floats, y: Floats, size: Floats, scale: Floats) -> Floats:
        """See ``Family.row_log_probability``."""
        ways = rising_log_gamma(y, scale) - gammaln(y + 1)
        return np.asarray(ways - y * np.logaddexp(0.0, np.log(scale) - eta) - scale * np.logaddexp(0.0, eta - np.log(scale)))

    def below(self, y: Floats, size: Floats, eta: Floats, scale: Floats) -> Floats:
        """See ``Family.below``."""
        shape = size * scale
        return np.where(y < 0, 0.0, betainc(shape, np.maximum(y + 1.0, 0.5), expit(np.log(scale) - eta)))

    def moments(self, size: Floats, eta: Floats, scale: float, *, floor: float = 0.0) -> tuple[Floats, Floats]:
        """m, and m + m^2 / (n phi)."""
        mean = np.maximum(size * np.exp(eta), floor)
        return mean, mean + mean**2 / (size * scale)

    def draw_sums(self, size: Floats, eta: Floats, scale: float, rng: np.random.Generator, *, floor: float = 0.0) -> Floats:
        """A sum of n counts has n phi for phi."""
        mean, shape = self.moments(size, eta, scale, floor=floor)[0], size * scale
        return poisson_counts(rng.gamma(shape, mean / shape), rng)

    def draw(self, outcome: Outcome, eta: Floats, scale: float, rng: np.random.Generator) -> Outcome:
        """Row by row, since the histogram of the rows is no function of their sums."""
        of_row = np.repeat(np.arange(len(eta)), outcome.n.astype(np.int64))
        counts = poisson_counts(rng.gamma(scale, np.exp(eta[of_row]) / scale), rng)
        histogram = np.column_stack(np.unique(counts, return_counts=True)).astype(np.float64)
        y = np.bincount(of_row, counts, minlength=len(eta))
        once = {"log_factorial": float(histogram[:, 1] @ gammaln(histogram[:, 0] + 1.0))}
        return outcome.replaced(y, histogram=histogram, once=once)

    def zero_probability(self, mean: Floats, scale: float) -> Floats:
        """(phi / (phi + mean))^phi."""
        return np.asarray(np.exp(-scale * np.log1p(mean / scale)))

    def latent_variance(self, mean: float, scale: float) -> float:
        """log(1 + 1 / mean + 1 / phi)."""
        return float(np.log1p(1.0 / mean + 1.0 / scale))


@dataclass(frozen=True)
class NegativeBinomialLikelihood:
    """Rows ``y ~ NB(mean exp(eta), phi)`` with variance mean + mean^2 / phi; ``outcome`` (R,) sums a cell's ``n`` rows."""

    outcome: Floats
    n: Floats
    histogram: Floats
    log_factorial: float
    has_dispersion: bool = True

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """y r - (y + n phi) log(1 + q (exp(r) - 1)), q = y / (y + n phi); -n phi log(1 + mu / phi) for y = 0."""
        some, trials = self.outcome > 0.0, self.n * np.exp(log_dispersion)
        total, r = self.outcome + trials, eta - np.log(np.where(some, self._mean, 1.0))
        found = two_sided(self.outcome, trials, self.outcome / total, trials / total, r)
        return np.where(some, found, -trials * np.logaddexp(0.0, eta - log_dispersion))

    def constant(self, log_dispersion: float) -> float:
        """Sum over rows of log Gamma(y + phi) - log Gamma(phi) - log y!, and the saturated fit."""
        values, counts = self.histogram[:, 0], self.histogram[:, 1]
        phi = float(np.exp(log_dispersion))
        saturated = xlogy(self.outcome, self._mean / (phi + self._mean)) - self.n * phi * np.log1p(self._mean / phi)
        return float(counts @ rising_log_gamma(values, phi) - self.log_factorial + np.sum(saturated))

    @cached_property
    def _mean(self) -> Floats:
        return self.outcome / self.n

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """Counts, observed and expected."""
        return np.asarray(self.outcome + (self.outcome + self.n * np.exp(log_dispersion)) * expit(eta - log_dispersion))

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta; q = mu / (phi + mu)."""
        phi = np.exp(log_dispersion)
        q, rest = expit(eta - log_dispersion), expit(log_dispersion - eta)
        total = self.outcome + self.n * phi
        weight = total * q * rest
        return Curvature(self.outcome - total * q, weight, weight * (1.0 - 2.0 * q))

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """Derivatives in log phi."""
        phi = float(np.exp(log_dispersion))
        q, rest = expit(eta - log_dispersion), expit(log_dispersion - eta)
        total = self.outcome + self.n * phi
        values, counts = self.histogram[:, 0], self.histogram[:, 1]
        by_constant = float(counts @ rising_digamma(values, phi)) - float(np.sum(self.n * np.log1p(self._mean / phi)))
        # n phi log((phi + mean) / (phi + mu)) + phi (n mu - y) / (phi + mu)
        trials = self.n * phi
        by_terms = trials * (np.log1p(self._mean / phi) - np.logaddexp(0.0, eta - log_dispersion)) + trials * q - self.outcome * rest
        # d q / d log phi = - q (1 - q)
        score = -self.n * phi * q + total * q * rest
        weight = self.n * phi * q * rest - total * q * rest * (1.0 - 2.0 * q)
        return ByDispersion(phi * by_constant, by_terms, score, weight)

    def typical_predictor(self) -> float:
        """Log of the overall mean, kept off zero."""
        return float(np.log((self.outcome.sum() + 0.5) / self.n.sum()))


def _log_density(y, size, once, histogram, eta, scale, g_eta, g_scale):  # type: ignore[no-untyped-def]
    value, by_scale = 0.0, 0.0
    for r in range(len(eta)):
        mu = math.exp(eta[r])
        log_total, log_ratio = math.log(scale + mu), math.log1p(mu / scale)
        value += y[r] * (eta[r] - log_total) - size[r] * scale * log_ratio
        g_eta[r] = y[r] - (y[r] + size[r] * scale) * mu / (scale + mu)
        by_scale += -y[r] / (scale + mu) - size[r] * (log_ratio - mu / (scale + mu))
    for i in range(len(histogram)):
        value += histogram[i, 1] * (math.lgamma(histogram[i, 0] + scale) - math.lgamma(scale))
        by_scale += histogram[i, 1] * (digamma(histogram[i, 0] + scale) - digamma(scale))
    g_scale[0] = by_scale
    return value
