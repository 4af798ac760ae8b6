"""Counts with a Poisson distribution and the log link, of rows with an exposure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.special import gammaincc, gammaln

from multilevel.arrays import Floats
from multilevel.families.compiled import compiled
from multilevel.families.count_draws import poisson_counts
from multilevel.families.family import Family, RowSum, Statistics, Support, Words, refuse
from multilevel.families.likelihood import ByDispersion, Curvature, no_dispersion
from multilevel.families.link import LOG, Link
from multilevel.families.notation import DISTRIBUTED, EXP_ETA, Notation, Y, call
from multilevel.families.outcome import Outcome


class Poisson(Family):
    """``outcome ~ Poisson(size exp(eta))``; ``size`` is the exposure."""

    name: ClassVar[str] = "poisson"
    link: ClassVar[Link] = LOG
    statistics: ClassVar[Statistics] = Statistics(size="exposure", is_discrete=True, distinct_outcomes="for constants")
    support: ClassVar[Support | None] = Support("{y} < 0 or {y} <> floor({y})", "family poisson needs counts: 0, 1, 2 and so on")
    words: ClassVar[Words] = Words(
        distribution="is a count with a Poisson distribution, its expectation on the log scale",
        latent_variance="What counts vary by themselves is taken as log(1 + 1/mean) on the link scale.",
        overdispersed="Use negative_binomial, or a group-level effect for every cell.",
    )
    notation: ClassVar[Notation] = Notation(Y + DISTRIBUTED + call("Poisson", EXP_ETA))

    def row_sums(self, *, has_trials: bool, has_offset: bool) -> Mapping[str, RowSum]:
        """y times the log exposure."""
        total = RowSum("outcome * log_exposure", lambda rows: rows.raw * rows.log_exposure) if has_offset else RowSum()
        return {"outcome_log_exposure": total}

    def refuse_sums(self, total: Floats, size: Floats, once: Mapping[str, float]) -> None:
        """Exposures that are not above zero, counts below."""
        refuse(~(np.isfinite(size) & (size > 0)), size, "exposure exp(offset)", "finite and above zero")
        self._refuse_negative(total)

    def likelihood(self, outcome: Outcome) -> PoissonLikelihood:
        """See ``Family.likelihood``."""
        return PoissonLikelihood(outcome.outcome, outcome.size, self.row_constant(outcome.once))

    @property
    def log_density(self) -> Any:
        """See ``Family.log_density``."""
        return compiled(_log_density)

    def log_likelihood(self, outcome: Outcome, eta: Any, scale: Any, xp: Any = np) -> Any:
        """See ``Family.log_likelihood``."""
        return (outcome.outcome * eta - outcome.size * xp.exp(eta)).sum()

    def working(self, outcome: Outcome, eta: Floats, scale: float) -> tuple[Floats, Floats]:
        """Canonical: the mean, and y less the mean."""
        mean = outcome.size * np.exp(np.clip(eta, -300.0, 300.0))
        return mean, outcome.outcome - mean

    def row_constant(self, once: Mapping[str, float]) -> float:
        """Sum of y log(exposure) - log y!."""
        return float(once.get("outcome_log_exposure", 0.0)) - float(once["log_factorial"])

    def row_log_probability(self, eta: Floats, y: Floats, size: Floats, scale: Floats) -> Floats:
        """See ``Family.row_log_probability``."""
        return np.asarray(y * (eta + np.log(size)) - size * np.exp(eta) - gammaln(y + 1))

    def below(self, y: Floats, size: Floats, eta: Floats, scale: Floats) -> Floats:
        """See ``Family.below``."""
        return np.where(y < 0, 0.0, gammaincc(np.maximum(y + 1.0, 0.5), size * np.exp(eta)))

    def moments(self, size: Floats, eta: Floats, scale: float, *, floor: float = 0.0) -> tuple[Floats, Floats]:
        """The mean, twice."""
        mean = np.maximum(size * np.exp(eta), floor)
        return mean, mean

    def draw_sums(self, size: Floats, eta: Floats, scale: float, rng: np.random.Generator, *, floor: float = 0.0) -> Floats:
        """New counts."""
        return poisson_counts(self.moments(size, eta, scale, floor=floor)[0], rng)

    @property
    def counts_zeros(self) -> bool:
        """The share of zeros says more than the mean."""
        return True

    def zero_probability(self, mean: Floats, scale: float) -> Floats:
        """exp(-mean)."""
        return np.asarray(np.exp(-mean))

    def latent_variance(self, mean: float, scale: float) -> float:
        """log(1 + 1 / mean)."""
        return float(np.log1p(1.0 / mean))


@dataclass(frozen=True)
class PoissonLikelihood:
    """``outcome ~ Poisson(size exp(eta))``; ``size`` (R,) is the exposure."""

    outcome: Floats
    size: Floats
    log_constant: float
    has_dispersion: bool = False

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """y (r - (exp(r) - 1)); -size exp(eta) for y = 0."""
        r = eta - self._saturated
        return np.where(self.outcome > 0.0, self.outcome * (r - np.expm1(r)), -self.size * np.exp(eta))

    def constant(self, log_dispersion: float) -> float:
        """Sum of y log(exposure) - log y!, and the saturated fit."""
        return self._constant

    @cached_property
    def _saturated(self) -> Floats:
        return np.asarray(np.log(np.where(self.outcome > 0.0, self.outcome / self.size, 1.0)))

    @cached_property
    def _constant(self) -> float:
        return self.log_constant + float(np.sum(self.outcome * (self._saturated - 1.0)))

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """Counts, observed and expected."""
        return np.asarray(self.outcome + self.size * np.exp(eta))

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta."""
        mean = self.size * np.exp(eta)
        return Curvature(self.outcome - mean, mean, mean)

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """There is no dispersion."""
        return no_dispersion(eta)

    def typical_predictor(self) -> float:
        """Log of the overall rate, kept off zero."""
        return float(np.log((self.outcome.sum() + 0.5) / self.size.sum()))


def _log_density(y, size, once, histogram, eta, scale, g_eta, g_scale):  # type: ignore[no-untyped-def]
    value = 0.0
    for r in range(len(eta)):
        expected = size[r] * math.exp(eta[r])
        value += y[r] * eta[r] - expected
        g_eta[r] = y[r] - expected
    g_scale[0] = 0.0
    return value
