"""Shops with very many households, drawn from priors with NumPy alone: no code of the model.

A household belongs to one of twenty regions and buys ``items`` times, each time in one of forty categories, on sale or not. The outcome has
beta, a standard deviation of each factor and, for two families, a dispersion from the priors that the model is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

REGIONS, CATEGORIES = 20, 40
SD_SCALE = 0.7
"""Of the half-normal priors of the standard deviations."""

BETA_SD = 1.0
VARIATION_SCALE = 0.5
"""Of the half-normal prior of 1 / sqrt(phi) and 1 / sqrt(shape)."""


@dataclass(frozen=True)
class ManyLevelShop:
    """Rows (R,): outcome, on_sale, region, household and category. Truths: sds of regions, households and categories; beta (2,); effects
    of each factor (L,); scale: phi or shape, None without one."""

    outcome: np.ndarray
    on_sale: np.ndarray
    region: np.ndarray
    household: np.ndarray
    category: np.ndarray
    sds: np.ndarray
    beta: np.ndarray
    effects: tuple[np.ndarray, np.ndarray, np.ndarray]
    scale: float | None


def many_level_shop(family: str, households: int, items: int, seed: int) -> ManyLevelShop:
    """One shop; every seed has its own truths."""
    rng = np.random.default_rng([seed, households, items])
    n = households * items
    household = np.repeat(np.arange(households), items)
    region, category = household % REGIONS, rng.integers(CATEGORIES, size=n)
    on_sale = rng.integers(2, size=n).astype(float)
    sds = np.abs(rng.normal(0.0, SD_SCALE, 3))
    beta = rng.normal(0.0, BETA_SD, 2)
    effects = (
        sds[0] * rng.standard_normal(REGIONS),
        sds[1] * rng.standard_normal(households),
        sds[2] * rng.standard_normal(CATEGORIES),
    )
    eta = beta[0] + beta[1] * on_sale + effects[0][region] + effects[1][household] + effects[2][category]
    scale = None
    if family == "binomial":
        outcome = (rng.uniform(size=n) < 1.0 / (1.0 + np.exp(-eta))).astype(float)
    elif family == "poisson":
        outcome = rng.poisson(np.exp(eta)).astype(float)
    else:
        scale = float(1.0 / rng.normal(0.0, VARIATION_SCALE) ** 2)
        if family == "gamma":
            outcome = np.exp(eta) * np.maximum(rng.gamma(scale, 1.0 / scale, n), math.ulp(0.0) ** 0.5)
        else:
            outcome = rng.poisson(np.exp(eta) * rng.gamma(scale, 1.0 / scale, n)).astype(float)
    return ManyLevelShop(outcome, on_sale, region, household, category, sds, beta, effects, scale)
