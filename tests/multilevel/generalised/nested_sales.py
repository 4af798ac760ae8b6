"""Simulated sales of stores in towns in areas, crossed with categories, for comparisons of chains with dense factors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.formula.parse import parse_formula

NEVER = 10**9
"""Effects from which a factor above the first would be eliminated: all of them are dense."""

THREE_DEEP = "y ~ x + (1 | area) + (1 + x | area:town) + (1 + x | area:town:store) + (1 | category)"


def sales(family: str, n: int = 700) -> pd.DataFrame:
    """Stores in towns in areas, crossed with categories."""
    rng = np.random.default_rng(3)
    store, category, x = rng.integers(0, 36, n), rng.integers(0, 6, n), rng.integers(0, 3, n)
    eta = -0.2 + 0.3 * x + 0.6 * rng.normal(size=36)[store] + 0.5 * rng.normal(size=6)[category] + 0.4 * rng.normal(size=12)[store % 12] * x
    outcome = {
        "binomial": lambda: rng.binomial(1, expit(eta)),
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "negative_binomial": lambda: rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, n)),
        "gamma": lambda: rng.gamma(2.0, np.exp(eta) / 2.0),
    }[family]()
    names = {"store": store, "town": store % 12, "area": store % 4, "category": category}
    return pd.DataFrame({key: [f"{code}" for code in codes] for key, codes in names.items()} | {"x": x, "y": outcome})


def design_of(text: str, family: str) -> Design:
    formula = parse_formula(text)
    return build_design(formula, cells_from_frame(formula, sales(family), family))
