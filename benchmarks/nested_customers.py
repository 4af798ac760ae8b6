"""A thousand customers in fifty regions, crossed with a hundred categories: every level sampled, with the gates of a run.

Run: ``python -m benchmarks nested_customers``. 300,000 line items of heavy-tailed counts in about 55,000 cells, gaussian (collapsed) and
binomial (NUTS), default settings.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.formula.parse import parse_formula

LINE_ITEMS = 300_000
REGIONS, CUSTOMERS, CATEGORIES = 50, 1_000, 100
FORMULA = "{outcome} ~ 1 + (1 | region/customer) + (1 | category)"
OUTCOMES = {"gaussian": "spend", "binomial": "kept"}


def main() -> None:
    """Print seconds and gates of both families."""
    rows = line_items()
    for family, outcome in OUTCOMES.items():
        formula = parse_formula(FORMULA.format(outcome=outcome))
        design = build_design(formula, cells_from_frame(formula, rows, family))
        start = time.perf_counter()
        fit = fit_bayesian(design, family, seed=1)
        seconds = time.perf_counter() - start
        gates = ", ".join(f"{check.check} {check.value:.4g}" for check in fit.checks if check.gate and check.value is not None)
        passed = all(check.passed for check in fit.checks if check.gate)
        cells = design.cells.n_cells
        print(
            f"{family} ({fit.method}): {cells:,} cells, {design.n_effects:,} effects, {seconds:.0f} s, all gates {passed}: {gates}",
            flush=True,
        )


def line_items(seed: int = 1) -> pd.DataFrame:
    """Customers and categories of very unequal size: a few hold most of the line items."""
    rng = np.random.default_rng(seed)
    customer_share = rng.pareto(1.5, CUSTOMERS) + 0.2
    category_share = 1.0 / np.arange(1, CATEGORIES + 1) ** 0.8
    customer = rng.choice(CUSTOMERS, LINE_ITEMS, p=customer_share / customer_share.sum())
    category = rng.choice(CATEGORIES, LINE_ITEMS, p=category_share / category_share.sum())
    region = customer % REGIONS
    eta = 0.5 + rng.normal(0, 0.3, REGIONS)[region] + rng.normal(0, 0.5, CUSTOMERS)[customer] + rng.normal(0, 0.7, CATEGORIES)[category]
    return pd.DataFrame(
        {
            "region": region.astype(str),
            "customer": customer.astype(str),
            "category": category.astype(str),
            "spend": eta + rng.normal(size=LINE_ITEMS),
            "kept": (rng.random(LINE_ITEMS) < 1 / (1 + np.exp(-eta))).astype(int),
        }
    )
