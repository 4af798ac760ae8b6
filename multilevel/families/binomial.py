"""Successes among trials, or true-or-false outcomes, with the logit link."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.special import betainc, expit, gammaln, logit, xlogy

from multilevel.arrays import Flags, Floats, Integers
from multilevel.families.compiled import compiled
from multilevel.families.family import Family, RowSum, RowValues, Statistics, Support, Words, refuse
from multilevel.families.likelihood import ByDispersion, Curvature, no_dispersion, two_sided
from multilevel.families.link import LOGIT, Link
from multilevel.families.notation import DISTRIBUTED, EQUALS, ETA, QUAD, Notation, P, Y, applied, call, place
from multilevel.families.outcome import Outcome


class Binomial(Family):
    """``outcome ~ Binomial(size, expit(eta))``."""

    name: ClassVar[str] = "binomial"
    link: ClassVar[Link] = LOGIT
    statistics: ClassVar[Statistics] = Statistics(size="trials", is_discrete=True)
    support: ClassVar[Support | None] = Support(
        "{y} not in (0, 1)",
        "family binomial needs 0 or 1, true or false, or p(successes, trials); for a proportion of a known number of trials, say size, "
        "write p(I({name} * size), size)",
    )
    words: ClassVar[Words] = Words(
        distribution="is a number of successes among trials, their probability on the logit scale",
        single="happens or not, its probability on the logit scale",
        latent_variance="The outcome is true or false, so its own variation is that of a latent logistic variable, π²/3 on the link scale.",
        overdispersed="Add a group-level effect for every cell, or the predictor that is missing.",
    )
    notation: ClassVar[Notation] = Notation(
        Y + DISTRIBUTED + call("Binomial", place("trials"), P) + QUAD + applied("logit", P) + EQUALS + ETA
    )

    def row_sums(self, *, has_trials: bool, has_offset: bool) -> Mapping[str, RowSum]:
        """Logarithms of the binomial coefficients, which are 1 of a single trial."""
        if not has_trials:
            return {"log_binomial": RowSum()}
        return {"log_binomial": RowSum("lgamma(trials + 1) - lgamma(outcome + 1) - lgamma(trials - outcome + 1)", _log_ways)}

    def refuse_sums(self, total: Floats, size: Floats, once: Mapping[str, float]) -> None:
        """More successes than trials, or fewer than none."""
        refuse(size < 0, size, "number of trials", "zero or more")
        refuse((total < 0) | (total > size), total, "number of successes", "between zero and the number of trials")

    def is_full(self, total: Floats, size: Floats) -> Flags:
        """Where all trials succeeded."""
        return np.asarray(total >= size)

    def likelihood(self, outcome: Outcome) -> BinomialLikelihood:
        """See ``Family.likelihood``."""
        return BinomialLikelihood(outcome.outcome, outcome.size, self.row_constant(outcome.once))

    @property
    def log_density(self) -> Any:
        """See ``Family.log_density``."""
        return compiled(_log_density)

    def log_likelihood(self, outcome: Outcome, eta: Any, scale: Any, xp: Any = np) -> Any:
        """See ``Family.log_likelihood``."""
        log_one_plus = np.logaddexp(0.0, eta) if xp is np else xp.softplus(eta)
        return (outcome.outcome * eta - outcome.size * log_one_plus).sum()

    def working(self, outcome: Outcome, eta: Floats, scale: float) -> tuple[Floats, Floats]:
        """Canonical: n p (1 - p), and y - n p."""
        p = 1.0 / (1.0 + np.exp(-eta))
        return outcome.size * p * (1.0 - p), outcome.outcome - outcome.size * p

    def saturated(self, outcome: Outcome) -> Floats:
        """Logits with half a success and half a failure more."""
        share = (outcome.outcome + 0.5) / (outcome.size + 1.0)
        return np.asarray(np.log(share / (1.0 - share)))

    def row_constant(self, once: Mapping[str, float]) -> float:
        """Sum of the logarithms of the binomial coefficients."""
        return float(once["log_binomial"])

    def row_log_probability(self, eta: Floats, y: Floats, size: Floats, scale: Floats) -> Floats:
        """See ``Family.row_log_probability``."""
        ways = gammaln(size + 1) - gammaln(y + 1) - gammaln(size - y + 1)
        return np.asarray(ways - y * np.logaddexp(0.0, -eta) - (size - y) * np.logaddexp(0.0, eta))

    def below(self, y: Floats, size: Floats, eta: Floats, scale: Floats) -> Floats:
        """See ``Family.below``."""
        inside = betainc(np.maximum(size - y, 0.5), np.maximum(y + 1.0, 0.5), expit(-eta))
        return np.where(y < 0, 0.0, np.where(y >= size, 1.0, inside))

    def single_outcomes(self, total: Floats, size: Floats, n: Floats) -> tuple[tuple[float, Floats], ...] | None:
        """Of one trial a row: successes and failures."""
        return ((1.0, total), (0.0, size - total)) if np.array_equal(size, n) else None

    def moments(self, size: Floats, eta: Floats, scale: float, *, floor: float = 0.0) -> tuple[Floats, Floats]:
        """n p, and n p (1 - p)."""
        p = _kept_inside(eta, floor)
        return size * p, size * p * (1.0 - p)

    def draw_sums(self, size: Floats, eta: Floats, scale: float, rng: np.random.Generator, *, floor: float = 0.0) -> Floats:
        """New successes."""
        return rng.binomial(size.astype(np.int64), _kept_inside(eta, floor)).astype(np.float64)

    def latent_variance(self, mean: float, scale: float) -> float:
        """That of the standard logistic distribution."""
        return float(np.pi**2 / 3.0)


def _log_ways(rows: RowValues) -> Floats:
    return np.asarray(gammaln(rows.trials + 1) - gammaln(rows.raw + 1) - gammaln(rows.trials - rows.raw + 1))


def _kept_inside(eta: Floats, floor: float) -> Floats:
    p = 1.0 / (1.0 + np.exp(-eta))
    return np.clip(p, floor, 1 - floor) if floor else p


def _softplus(x: Floats) -> Floats:
    """log(1 + exp(x)), from functions that NumPy vectorises, which ``numpy.logaddexp`` is not."""
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def _share_at(eta: Floats) -> Floats:
    """1 / (1 + exp(-eta)); 0 below -709, where the exponential is infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-eta)))


@dataclass(frozen=True)
class BinomialLikelihood:
    """``outcome ~ Binomial(size, expit(eta))``; ``outcome``, ``size``: (R,)."""

    outcome: Floats
    size: Floats
    log_constant: float
    has_dispersion: bool = False

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """y r - n log(1 + share (exp(r) - 1)); -n log(1 + exp(+-eta)) where there are no or only successes."""
        # most rows of hardly compressed cells are one trial: the costly form is for the others alone
        found = -self.size * _softplus(self._towards * eta)
        inner, share, rest = self._inner
        if len(inner):
            up, down = self.outcome[inner], self.size[inner] - self.outcome[inner]
            found[inner] = two_sided(up, down, share, rest, eta[inner] - self._saturated[inner])
        return found

    def constant(self, log_dispersion: float) -> float:
        """Sum of the logarithms of the binomial coefficients, and the saturated fit."""
        return self._constant

    @cached_property
    def _shares(self) -> tuple[Floats, Floats]:
        return self.outcome / self.size, (self.size - self.outcome) / self.size

    @cached_property
    def _inner(self) -> tuple[Integers, Floats, Floats]:
        """Rows with successes and failures, and the shares of both there."""
        share, rest = self._shares
        inner = np.flatnonzero((share > 0.0) & (rest > 0.0))
        return inner, share[inner], rest[inner]

    @cached_property
    def _towards(self) -> Floats:
        """(R,) -1 where there are successes, else 1."""
        return np.where(self._shares[0] > 0.0, -1.0, 1.0)

    @cached_property
    def _saturated(self) -> Floats:
        share = self._shares[0]
        return np.asarray(logit(np.where((share > 0.0) & (share < 1.0), share, 0.5)))

    @cached_property
    def _constant(self) -> float:
        share, rest = self._shares
        return self.log_constant + float(np.sum(xlogy(self.outcome, share) + xlogy(self.size - self.outcome, rest)))

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """Successes, observed and expected."""
        return np.asarray(self.outcome + self.size * _share_at(eta))

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta."""
        p, rest = _share_at(eta), _share_at(-eta)
        weight = self.size * p * rest
        return Curvature(self.outcome - self.size * p, weight, weight * (rest - p))

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """There is no dispersion."""
        return no_dispersion(eta)

    def typical_predictor(self) -> float:
        """Logit of the overall share, kept off 0 and 1."""
        successes, trials = float(self.outcome.sum()), float(self.size.sum())
        return float(np.log((successes + 0.5) / (trials - successes + 0.5)))


def _log_density(y, size, once, histogram, eta, scale, g_eta, g_scale):  # type: ignore[no-untyped-def]
    value = 0.0
    for r in range(len(eta)):
        tail = math.exp(-abs(eta[r]))
        p = 1.0 / (1.0 + tail) if eta[r] >= 0 else tail / (1.0 + tail)
        value += y[r] * eta[r] - size[r] * (max(eta[r], 0.0) + math.log1p(tail))
        g_eta[r] = y[r] - size[r] * p
    g_scale[0] = 0.0
    return value
