"""Shops whose outcomes follow the formula, and shops with one fault: rows drawn with NumPy alone.

Twenty levels of g crossed with thirty of h, twenty line items a combination, a predictor x of the line item. The sd of what a faulty
shop has too much of is half of what line items vary by: of sigma, or 0.5 on the scale of the linear predictor where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

type Array = NDArray[np.float64]

G, H, ROWS = 20, 30, 20

FORMULA, LOG_FORMULA = "y ~ 1 + x + (1 | g) + (1 | h)", "log(y) ~ 1 + x + (1 | g) + (1 | h)"


@dataclass(frozen=True)
class Kind:
    """An outcome: the study's family and formula, the intercept, what line items vary by, and how they are drawn.

    draw : of (rng, linear predictors of every part, spread of each row relative to the usual one).
    """

    family: str
    formula: str
    intercept: float
    spread: float
    draw: Callable[[np.random.Generator, list[Array], Array], Array]


@dataclass(frozen=True)
class Fault:
    """What a shop has that the formula has not.

    interaction, slope : sds of effects of g x h and of slopes of g, in units of what line items vary by. zeros : share of outcomes that
    are zero for nothing. uneven : residual sd of every other level of g over that of the rest. instead : the kind that is drawn.
    """

    interaction: float = 0.0
    slope: float = 0.0
    zeros: float = 0.0
    uneven: float = 1.0
    instead: str | None = None


def faulty_shop(kind: str, fault: Fault, seed: int) -> pd.DataFrame:
    """Shop number ``seed`` of an outcome, with a fault or without."""
    own, rng = KINDS[kind], np.random.default_rng([1917, seed])
    drawn = own if fault.instead is None else replace(KINDS[fault.instead], intercept=own.intercept)
    g, h = (code.ravel() for code in np.meshgrid(np.arange(G), np.arange(H), indexing="ij"))
    g, h = np.repeat(g, ROWS), np.repeat(h, ROWS)
    x = rng.integers(0, 3, len(g)).astype(float)
    parts = []
    for intercept in (0.3, own.intercept) if kind.startswith("hurdle") else (own.intercept,):
        eta = intercept + 0.2 * x + rng.normal(0, 0.4, G)[g] + rng.normal(0, 0.4, H)[h]
        eta = eta + rng.normal(0, own.spread * fault.interaction, (G, H))[g, h] if fault.interaction else eta
        parts.append(eta + rng.normal(0, own.spread * fault.slope, G)[g] * x if fault.slope else eta)
    y = drawn.draw(rng, parts, np.where(g % 2 == 0, fault.uneven, 1.0))
    y = np.where(rng.random(len(y)) < fault.zeros, 0.0, y) if fault.zeros else y
    return pd.DataFrame({"g": pd.Series(g).map("{:02d}".format), "h": pd.Series(h).map("{:02d}".format), "x": x, "y": y})


def _normal(rng: np.random.Generator, eta: list[Array], spread: Array) -> Array:
    return rng.normal(eta[-1], spread)


def _lognormal(rng: np.random.Generator, eta: list[Array], spread: Array) -> Array:
    return np.exp(rng.normal(eta[-1], 0.6 * spread))


def _bought(rng: np.random.Generator, eta: list[Array], spread: Array) -> Array:
    return (rng.random(len(spread)) < expit(eta[0])).astype(float)


def _counts(rng: np.random.Generator, eta: list[Array], spread: Array) -> Array:
    return rng.poisson(np.exp(eta[0])).astype(float)


def _overdispersed(rng: np.random.Generator, eta: list[Array], spread: Array) -> Array:
    return rng.poisson(np.exp(eta[0]) * rng.gamma(2.0, 0.5, len(spread))).astype(float)


def _gamma(shape: float) -> Callable[[np.random.Generator, list[Array], Array], Array]:
    def draw(rng: np.random.Generator, eta: list[Array], spread: Array) -> Array:
        own = shape / spread**2
        return rng.gamma(own, np.exp(eta[-1]) / own)

    return draw


def _where_bought(amount: Callable[[np.random.Generator, list[Array], Array], Array]) -> Callable[..., Array]:
    def draw(rng: np.random.Generator, eta: list[Array], spread: Array) -> Array:
        return np.where(_bought(rng, eta, spread) > 0, amount(rng, eta, spread), 0.0)

    return draw


KINDS = {
    "gaussian": Kind("gaussian", FORMULA, 1.0, 1.0, _normal),
    "log(y)": Kind("gaussian", LOG_FORMULA, 1.0, 0.6, _lognormal),
    "binomial": Kind("binomial", FORMULA, -0.8, 1.0, _bought),
    "poisson": Kind("poisson", FORMULA, 0.5, 1.0, _counts),
    "negative_binomial": Kind("negative_binomial", FORMULA, 0.5, 1.0, _overdispersed),
    "gamma": Kind("gamma", FORMULA, 1.0, 0.7, _gamma(0.7**-2)),
    "hurdle_gamma": Kind("hurdle_gamma", FORMULA, 1.0, 0.7, _where_bought(_gamma(0.7**-2))),
    "hurdle_lognormal": Kind("hurdle_lognormal", FORMULA, 1.0, 0.6, _where_bought(_lognormal)),
}
