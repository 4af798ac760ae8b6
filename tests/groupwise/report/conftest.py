"""Published tables of a small invented study, as the catalogue describes them."""

from collections.abc import Callable
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from multilevel.catalogue.published_tables import TABLES, arrow_schema, check_table

type Tables = dict[str, pa.Table]


@pytest.fixture(scope="session")
def study() -> dict[str, object]:
    return {
        "name": "line_spend",
        "title": "Spend per line item by income group and product category",
        "formula": "log(amount) ~ 1 + on_sale + (1 | income_group) + (1 + on_sale | department/category_key)",
        "family": "gaussian",
        "unit": "dollars per line item",
        "currency": "USD",
        "cells": ["income_group", "category_key"],
        "interval": 0.95,
    }


@pytest.fixture(scope="session")
def make_tables() -> Callable[..., Tables]:
    """``make_tables(n_categories=..., seed=..., hostile=...)`` -> the six tables."""
    return _make_tables


INCOMES = ("Under 15K", "15-24K", "25-34K", "35-49K", "50-74K", "75-99K", "100-124K", "250K+", "unknown")


def _make_tables(n_categories: int = 120, seed: int = 1, hostile: str | None = None, as_of: date = date(2018, 1, 2)) -> Tables:
    rng = np.random.default_rng(seed)
    common = {"study": "line_spend", "as_of": as_of, "run_id": f"run-{seed}", "engine": "bayesian", "pooling": "partial"}
    departments = [f"DEPARTMENT {i:02d}" for i in range(max(2, n_categories // 15))]
    levels: list[tuple[str, str, str | None, int]] = [("income_group", level, None, int(rng.integers(2e4, 2e5))) for level in INCOMES]
    levels += [("department", level, None, int(rng.integers(1e3, 2e5))) for level in departments]
    for i in range(n_categories):
        parent = departments[i % len(departments)]
        name = hostile if hostile is not None and i == 0 else f"{parent} / CATEGORY {i:05d}"
        levels.append(("department:category_key", name, parent, 1 + int(10 ** rng.uniform(0.3, 5))))
    estimates, coefficients = [], []
    for factor, level, parent, n in levels:
        sd = {"income_group": 0.05, "department": 0.3, "department:category_key": 0.45}[factor]
        log_mean, error = float(np.log(2.4) + sd * rng.standard_normal()), float(0.55 / np.sqrt(n + 3))
        own = float(np.exp(log_mean + rng.normal(0, 0.6 / np.sqrt(n))))
        mean = float(np.exp(log_mean))
        estimates.append(
            common
            | {"grouping_factor": factor, "level": level, "parent_level": parent, "estimate": mean, "std_error": mean * error}
            | {"lower": mean * np.exp(-1.96 * error), "upper": mean * np.exp(1.96 * error), "no_pooling_estimate": own}
            | {"no_pooling_std_error": own * 0.6 / np.sqrt(n), "complete_pooling_estimate": 2.4, "n": n, "is_new": False}
            | {"rank_lower": 1.0, "rank_upper": 5.0, "headline": "members"}
        )
        for term in ("Intercept", "on_sale") if factor != "income_group" else ("Intercept",):
            value = log_mean if term == "Intercept" else float(-0.1 + 0.15 * rng.standard_normal())
            coefficients.append(
                common
                | {"grouping_factor": factor, "level": level, "parent_level": parent, "term": term, "estimate": value, "std_error": error}
                | {"lower": value - 1.96 * error, "upper": value + 1.96 * error, "deviation": value, "deviation_std_error": error}
                | {"deviation_lower": value - 1.96 * error, "deviation_upper": value + 1.96 * error, "conditional_sd": None}
                | {"fitted_value": value + 0.03 * INCOMES.index(level) if factor == "income_group" else value, "n": n, "is_new": False}
                | {"shrinkage": float(3 / (n + 3)), "probability_above_average": 0.5}
            )
    new = {"level": None, "parent_level": None, "is_new": True, "n": 0, "rank_lower": None, "rank_upper": None, "headline": "members"}
    estimates.append(estimates[0] | new | {"no_pooling_estimate": None, "no_pooling_std_error": None, "grouping_factor": "income_group"})
    tables = {
        "population_coefficients": _population(common),
        "variance_components": _variances(common),
        "group_coefficients": coefficients,
        "group_estimates": estimates,
        "cell_estimates": _cells(common, [row for row in estimates if row["grouping_factor"] == "department:category_key"], rng),
        "diagnostics": _diagnostics(common),
    }
    made = {name: pa.Table.from_pylist(rows, schema=arrow_schema(name)) for name, rows in tables.items()}
    assert set(made) == set(TABLES)
    assert [problem for name, table in made.items() for problem in check_table(name, table.sort_by(_sorting(name)))] == []
    return made


def _sorting(name: str) -> list[tuple[str, str]]:
    return [(column, "ascending") for column in TABLES[name].sort_key]


def _population(common: dict) -> list[dict]:
    rows = []
    for pooling, shift in (("complete", -0.04), ("none", 0.02), ("partial", 0.0)):
        for term, value, kind, factor in (
            ("Intercept", 0.9, "individual", None),
            ("on_sale", -0.12, "individual", None),
            ("income_rank", 0.03, "group_level", "income_group"),
        ):
            rows.append(
                common
                | {"pooling": pooling, "term": term, "kind": kind, "grouping_factor": factor, "estimate": value + shift, "std_error": 0.01}
                | {"lower": value + shift - 0.02, "upper": value + shift + 0.02, "degrees_of_freedom": None}
                | {"estimate_without_group_predictors": None, "ess_bulk": 1500.0, "ess_tail": 1200.0, "r_hat": 1.001}
            )
    return rows


def _variances(common: dict) -> list[dict]:
    sds = [("income_group", "Intercept", 0.05, 0.002), ("department", "Intercept", 0.3, 0.12), ("department", "on_sale", 0.08, None)]
    sds += [("department:category_key", "Intercept", 0.45, 0.3), ("department:category_key", "on_sale", 0.15, None)]
    sds += [("residual", "sigma", 0.6, 0.578)]
    blank = {"other_term": None, "quantity": "sd", "r_squared": None, "pooling_factor": 0.1, "estimate_without_group_predictors": None}
    rows = [
        common
        | blank
        | {"grouping_factor": factor, "term": term, "estimate": sd, "std_error": sd / 10, "lower": sd * 0.8, "upper": sd * 1.25}
        | {"variance_share": share}
        for factor, term, sd, share in sds
    ]
    correlation = {"quantity": "correlation", "term": "Intercept", "other_term": "on_sale", "estimate": -0.2, "lower": -0.4, "upper": 0.0}
    return [*rows, rows[1] | correlation | {"std_error": 0.1, "variance_share": None, "pooling_factor": None}]


def _cells(common: dict, categories: list[dict], rng: np.random.Generator) -> list[dict]:
    return [
        common
        | {"customer_group": income, "product_group": row["level"], "estimate": mean, "std_error": 0.1 * mean, "n": int(row["n"] // 9)}
        | {"lower": mean * 0.8, "upper": mean * 1.25, "is_new": row["n"] < 9}
        for row in categories[:400]
        for income in INCOMES
        for mean in [row["estimate"] * float(np.exp(0.08 * rng.standard_normal()))]
    ]


def _diagnostics(common: dict) -> list[dict]:
    rows = [
        ("n_line_items", 1_441_194.0, None, True, "line items used"),
        ("n_excluded", 25_000.0, None, True, "left out by the study's where"),
        ("n_quarantined", 2_190.0, None, True, "broke a rule"),
        ("n_cells", 8_899.0, None, True, "cells"),
        ("compression_ratio", 162.0, None, True, "line items per cell"),
        ("max_r_hat", 1.002, 1.01, True, "largest R-hat"),
        ("posterior_predictive_sd", 0.2, 0.05, False, "simulated outcomes vary less than the observed ones"),
    ]
    return [common | dict(zip(("check", "value", "threshold", "passed", "message"), row, strict=True)) for row in rows]
