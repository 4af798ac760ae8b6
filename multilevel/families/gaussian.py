"""Normal outcomes with the identity link, and through ``log(y)`` lognormal ones: cells keep moments, and fits are least squares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from scipy.special import ndtr

from multilevel.arrays import Floats
from multilevel.families.compiled import compiled
from multilevel.families.family import Family, ScaleName, Statistics, Words
from multilevel.families.likelihood import Likelihood
from multilevel.families.link import IDENTITY, Link
from multilevel.families.notation import DISTRIBUTED, MU, SIGMA, Notation, Y, call
from multilevel.families.outcome import Outcome


class Gaussian(Family):
    """``y ~ Normal(eta, sigma)``."""

    name: ClassVar[str] = "gaussian"
    link: ClassVar[Link] = IDENTITY
    scale: ClassVar[ScaleName | None] = "sigma"
    statistics: ClassVar[Statistics] = Statistics(moments=True)
    words: ClassVar[Words] = Words(
        distribution="is normally distributed around its expectation",
        overdispersed="Intervals of groups that share cells are too narrow; omitted_interaction or omitted_slope may name a group term.",
        amount="its logarithm is normally distributed around its expectation, with one residual standard deviation",
    )
    notation: ClassVar[Notation] = Notation(Y + DISTRIBUTED + call("Normal", MU, SIGMA), MU)

    def likelihood(self, outcome: Outcome) -> Likelihood:
        """Least squares needs none."""
        raise NotImplementedError("gaussian outcomes are fitted by least squares (multilevel.linear)")

    @property
    def log_density(self) -> Any:
        """See ``Family.log_density``."""
        return compiled(_log_density)

    def log_likelihood(self, outcome: Outcome, eta: Any, scale: Any, xp: Any = np) -> Any:
        """See ``Family.log_likelihood``."""
        square = ((outcome.outcome - eta) ** 2).sum() + outcome.residual_ss
        return -0.5 * square / scale**2 - outcome.n_rows * xp.log(scale)

    def working(self, outcome: Outcome, eta: Floats, scale: float) -> tuple[Floats, Floats]:
        """1 / sigma^2, and the residual over sigma^2."""
        return np.full(len(eta), scale**-2), (outcome.outcome - eta) / scale**2

    def saturated(self, outcome: Outcome) -> Floats:
        """The outcomes themselves."""
        return outcome.outcome

    def row_constant(self, once: Mapping[str, float]) -> float:
        """Half the sum of the logarithms of known weights."""
        return 0.5 * once.get("log_weights", 0.0)

    def below(self, y: Floats, size: Floats, eta: Floats, scale: Floats) -> Floats:
        """See ``Family.below``."""
        return np.asarray(ndtr((y - eta) / scale * np.sqrt(size)))

    def moments(self, size: Floats, eta: Floats, scale: float, *, floor: float = 0.0) -> tuple[Floats, Floats]:
        """eta, and sigma^2."""
        return eta, np.full(len(eta), scale**2)

    def draw_sums(self, size: Floats, eta: Floats, scale: float, rng: np.random.Generator, *, floor: float = 0.0) -> Floats:
        """New outcomes of reduced rows."""
        return rng.normal(eta, scale)

    def draw(self, outcome: Outcome, eta: Floats, scale: float, rng: np.random.Generator) -> Outcome:
        """With a new sum of squares for what no coefficient explains."""
        y = self.draw_sums(outcome.size, eta, scale, rng)
        free = outcome.n_rows - len(eta)
        return outcome.replaced(y, residual_ss=float(scale**2 * rng.chisquare(free)) if free > 0 else 0.0)

    def latent_variance(self, mean: float, scale: float) -> float:
        """sigma^2."""
        return scale**2


def _log_density(y, size, once, histogram, eta, scale, g_eta, g_scale):  # type: ignore[no-untyped-def]
    square = once[0]
    for r in range(len(eta)):
        residual = y[r] - eta[r]
        square += residual**2
        g_eta[r] = residual / scale**2
    g_scale[0] = square / scale**3 - once[1] / scale
    return -0.5 * square / scale**2 - once[1] * math.log(scale)
