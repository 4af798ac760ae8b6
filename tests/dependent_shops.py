"""Shops whose customers are alike or not, for design effects: rows drawn with NumPy alone, and the design effect that is true of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

type Array = NDArray[np.float64]

REGIONS, CATEGORIES, SIGMA, SHAPE, PHI = 10, 8, 1.0, 3.0, 2.0

FORMULAS = {
    "gaussian": "y ~ 1 + x + (1 | region) + (1 | category)",
    "lognormal": "log(y) ~ 1 + x + (1 | region) + (1 | category)",
    "binomial": "y ~ 1 + sale + (1 | region) + (1 | category)",
    "poisson": "y ~ 1 + sale + (1 | region) + (1 | category)",
    "negative_binomial": "y ~ 1 + sale + (1 | region) + (1 | category)",
    "gamma": "y ~ 1 + sale + (1 | region) + (1 | category)",
    "hurdle_gamma": "y ~ 1 + sale + (1 | region) + (1 | category)",
    "hurdle_lognormal": "y ~ 1 + sale + (1 | region) + (1 | category)",
}


@dataclass(frozen=True)
class DependentShop:
    """``rows`` of one shop; ``design_effect`` : that of regions in truth, at the effects without the customers' own."""

    kind: str
    rows: pd.DataFrame
    design_effect: float

    @property
    def family(self) -> str:
        """As a study writes it."""
        return "gaussian" if self.kind == "lognormal" else self.kind


def dependent_shop(kind: str, seed: int, *, sd: float, n_customers: int = 200, rows_each: float = 20.0) -> DependentShop:
    """A shop of ``n_customers`` nested in regions, with effects of standard deviation ``sd`` on the link scale; categories are crossed."""
    rng = np.random.default_rng(seed)
    of_region = rng.integers(0, REGIONS, n_customers)
    each = 2 + rng.poisson(rows_each - 2.0, n_customers)
    customer = np.repeat(np.arange(n_customers), each)
    n = len(customer)
    region, category = of_region[customer], rng.integers(0, CATEGORIES, n)
    sale, x = rng.random(n) < 0.3, rng.normal(size=n)
    own = 0.3 * rng.normal(size=REGIONS)[region] + 0.3 * rng.normal(size=CATEGORIES)[category]
    own += 0.2 * x if kind in {"gaussian", "lognormal"} else 0.2 * sale
    effect = sd * rng.normal(size=n_customers)[customer]
    y = _outcomes(kind, own + effect, rng)
    rows = pd.DataFrame({"region": region, "category": category, "customer_id": customer, "sale": sale, "x": x, "y": y})
    return DependentShop(kind, rows, _true_effect(kind, own, region, customer, sd))


def _outcomes(kind: str, eta: Array, rng: np.random.Generator) -> Array:
    n = len(eta)
    bought = (rng.random(n) < expit(0.5 + eta)).astype(float)
    draw = {
        "gaussian": lambda: 1.0 + eta + SIGMA * rng.normal(size=n),
        "lognormal": lambda: np.exp(eta + SIGMA * rng.normal(size=n)),
        "binomial": lambda: (rng.random(n) < expit(eta - 0.3)).astype(float),
        "poisson": lambda: rng.poisson(np.exp(0.5 + eta)).astype(float),
        "negative_binomial": lambda: rng.poisson(np.exp(0.5 + eta) * rng.gamma(PHI, 1.0 / PHI, n)).astype(float),
        "gamma": lambda: rng.gamma(SHAPE, np.exp(1.0 + eta) / SHAPE),
        "hurdle_gamma": lambda: bought * rng.gamma(SHAPE, np.exp(1.0 + eta) / SHAPE),
        "hurdle_lognormal": lambda: bought * np.exp(eta + SIGMA * rng.normal(size=n)),
    }
    return np.asarray(draw[kind]())


def _moments(kind: str, eta: Array) -> tuple[Array, Array]:
    """Mean of a row, or of its logarithm, and variance of it; of a hurdle that of its first part."""
    match kind:
        case "gaussian" | "lognormal":
            return eta, np.full(len(eta), SIGMA**2)
        case "binomial":
            return expit(eta - 0.3), expit(eta - 0.3) * (1.0 - expit(eta - 0.3))
        case "poisson":
            return np.exp(0.5 + eta), np.exp(0.5 + eta)
        case "negative_binomial":
            return np.exp(0.5 + eta), np.exp(0.5 + eta) + np.exp(0.5 + eta) ** 2 / PHI
        case "gamma":
            return np.exp(1.0 + eta), np.exp(1.0 + eta) ** 2 / SHAPE
        case _:
            return expit(0.5 + eta), expit(0.5 + eta) * (1.0 - expit(0.5 + eta))


def _true_effect(kind: str, own: Array, region: NDArray[np.int64], customer: NDArray[np.int64], sd: float) -> float:
    """E of squared unit sums over their variance at independent rows, by Gauss-Hermite over the customer's effect."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    weights = weights / weights.sum()
    means = np.array([_moments(kind, own + sd * node)[0] for node in nodes])
    within = weights @ np.array([_moments(kind, own + sd * node)[1] for node in nodes])
    marginal = weights @ means
    unit = np.array([np.bincount(customer, mean - marginal) for mean in means])
    squares = weights @ unit**2 + np.bincount(customer, within)
    model = np.bincount(customer, within + weights @ (means - marginal) ** 2)
    return float(squares.sum() / model.sum())
