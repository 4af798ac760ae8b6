"""Positive outcomes with a gamma distribution and the log link: variance mean^2 / shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.special import gammainc, gammaln

from multilevel.arrays import Floats
from multilevel.errors import DataError
from multilevel.families.compiled import compiled
from multilevel.families.family import Family, RowSum, ScaleName, Statistics, Support, Words, refuse
from multilevel.families.likelihood import ByDispersion, Curvature
from multilevel.families.link import LOG, Link
from multilevel.families.log_gamma import digamma, digamma_gap, log_gamma_gap
from multilevel.families.notation import DISTRIBUTED, EXP_ETA, Notation, Y, call, symbol, text
from multilevel.families.outcome import Outcome


class Gamma(Family):
    """Rows ``y ~ Gamma(shape, rate shape / exp(eta))``; ``outcome`` sums a cell's rows, which are its ``size``."""

    name: ClassVar[str] = "gamma"
    link: ClassVar[Link] = LOG
    scale: ClassVar[ScaleName | None] = "shape"
    statistics: ClassVar[Statistics] = Statistics(log_sums=True)
    support: ClassVar[Support | None] = Support("{y} <= 0", "family gamma needs an outcome above zero")
    words: ClassVar[Words] = Words(
        distribution="is positive with a gamma distribution, its expectation on the log scale",
        latent_variance="What outcomes vary by themselves is taken as log(1 + 1/shape) on the link scale.",
        amount="it has a gamma distribution, its expectation on the log scale",
    )
    notation: ClassVar[Notation] = Notation(
        Y + DISTRIBUTED + call("Gamma", text("mean ") + EXP_ETA, text("shape ") + symbol("α", r"\alpha"))
    )

    def row_sums(self, *, has_trials: bool, has_offset: bool) -> Mapping[str, RowSum]:
        """Sum of log y."""
        return {"sum_log_outcome": RowSum("ln(outcome)", lambda rows: np.log(rows.raw))}

    def refuse_sums(self, total: Floats, size: Floats, once: Mapping[str, float]) -> None:
        """Outcomes that are not above zero."""
        refuse(~(total > 0), total, "summed outcome", "above zero for gamma: exclude zeros with `where`, or use a hurdle")
        if not np.isfinite(once.get("sum_log_outcome", 0.0)):
            raise DataError("gamma: some outcomes are zero or below, their logarithm is not finite; exclude them with `where`.")

    def likelihood(self, outcome: Outcome) -> GammaLikelihood:
        """See ``Family.likelihood``."""
        return GammaLikelihood(outcome.outcome, outcome.size, float(outcome.once["sum_log_outcome"]))

    @property
    def log_density(self) -> Any:
        """See ``Family.log_density``."""
        return compiled(_log_density, digamma)

    def log_likelihood(self, outcome: Outcome, eta: Any, scale: Any, xp: Any = np) -> Any:
        """See ``Family.log_likelihood``."""
        log_gamma = gammaln if xp is np else xp.gammaln
        rows_only = (scale - 1.0) * outcome.sum_log_outcome - outcome.n_rows * log_gamma(scale)
        return rows_only + (outcome.size * scale * (xp.log(scale) - eta) - scale * outcome.outcome * xp.exp(-eta)).sum()

    def working(self, outcome: Outcome, eta: Floats, scale: float) -> tuple[Floats, Floats]:
        """n shape, and shape (y / mu - n)."""
        mu = np.exp(np.clip(eta, -300.0, 300.0))
        return outcome.size * scale, scale * (outcome.outcome / mu - outcome.size)

    def below(self, y: Floats, size: Floats, eta: Floats, scale: Floats) -> Floats:
        """See ``Family.below``."""
        return np.asarray(gammainc(size * scale, scale * y * np.exp(-eta)))

    def moments(self, size: Floats, eta: Floats, scale: float, *, floor: float = 0.0) -> tuple[Floats, Floats]:
        """m, and m^2 / (n shape)."""
        mean = size * np.exp(eta)
        return mean, mean**2 / (size * scale)

    def draw_sums(self, size: Floats, eta: Floats, scale: float, rng: np.random.Generator, *, floor: float = 0.0) -> Floats:
        """A sum of n outcomes has n times the shape."""
        mean, shape = size * np.exp(eta), size * scale
        return rng.gamma(shape, mean / shape)

    def draw(self, outcome: Outcome, eta: Floats, scale: float, rng: np.random.Generator) -> Outcome:
        """Row by row, since the sum of the rows' logarithms is no function of their sums."""
        of_row = np.repeat(np.arange(len(eta)), outcome.n.astype(np.int64))
        each = rng.gamma(scale, np.exp(eta[of_row]) / scale)
        y = np.bincount(of_row, each, minlength=len(eta))
        return outcome.replaced(y, once={"sum_log_outcome": float(np.log(each).sum())})

    def latent_variance(self, mean: float, scale: float) -> float:
        """log(1 + 1 / shape)."""
        return float(np.log1p(1.0 / scale))


@dataclass(frozen=True)
class GammaLikelihood:
    """Rows ``y ~ Gamma(shape, rate shape / exp(eta))``; ``outcome`` (R,) is the sum of the ``n`` (R,) rows of a cell."""

    outcome: Floats
    n: Floats
    sum_log_outcome: float
    has_dispersion: bool = True

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """- shape n (r + exp(-r) - 1)."""
        r = eta - self._saturated
        return np.asarray(-np.exp(log_dispersion) * self.n * (r + np.expm1(-r)))

    def constant(self, log_dispersion: float) -> float:
        """N (a log a - log Gamma(a) - a) + a sum log(y / mean of its row) - sum log y."""
        return float(self.n.sum() * log_gamma_gap(log_dispersion) + np.exp(log_dispersion) * self._spread - self.sum_log_outcome)

    @cached_property
    def _saturated(self) -> Floats:
        return np.asarray(np.log(self.outcome / self.n))

    @cached_property
    def _spread(self) -> float:
        return self.sum_log_outcome - float(self.n @ self._saturated)

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """Shape times the observed over the expected, and shape times rows."""
        return np.asarray(np.exp(log_dispersion) * (self.n + self.outcome * np.exp(-eta)))

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta."""
        shape = np.exp(log_dispersion)
        weight = shape * self.outcome * np.exp(-eta)
        return Curvature(weight - shape * self.n, weight, -weight)

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """Derivatives in log shape."""
        shape = np.exp(log_dispersion)
        at = self.curvature(eta, log_dispersion)
        by_constant = float(shape * (self.n.sum() * digamma_gap(log_dispersion) + self._spread))
        return ByDispersion(by_constant, self.terms(eta, log_dispersion), at.score, at.weight)

    def typical_predictor(self) -> float:
        """Log of the overall mean."""
        return float(np.log(self.outcome.sum() / self.n.sum()))


def _log_density(y, size, once, histogram, eta, scale, g_eta, g_scale):  # type: ignore[no-untyped-def]
    value = (scale - 1.0) * once[2] - once[1] * math.lgamma(scale)
    by_scale = once[2] - once[1] * digamma(scale)
    log_scale = math.log(scale)
    for r in range(len(eta)):
        ratio = y[r] * math.exp(-eta[r])
        value += size[r] * scale * (log_scale - eta[r]) - scale * ratio
        g_eta[r] = scale * (ratio - size[r])
        by_scale += size[r] * (log_scale + 1.0 - eta[r]) - ratio
    g_scale[0] = by_scale
    return value
