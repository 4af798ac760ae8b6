"""The standard error of a plain mean is over sampled units: the same whether the formula has their column or not, and as rows give it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from groupwise.compression import unit_query
from groupwise.compression.compress import compress_rows
from multilevel.cells.files import read_cells, read_units
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options
from tests.dependent_shops import FORMULAS, dependent_shop


def group_estimates(rows: pd.DataFrame, formula: str, family: str, folder: Path, units: tuple[str, ...] = ()) -> pd.DataFrame:
    parsed = parse_formula(formula)
    with duckdb.connect() as connection:
        connection.register("shop_rows", rows)
        compress_rows(connection, "select * from shop_rows", parsed, family, folder, units=units)
    files = folder / "cells.parquet", folder / "cells.json"
    options = fit_options("s", date(2026, 1, 31), "r", "likelihood", sampled=("customer_id",))
    return fit_study(parsed, read_cells(*files), options, read_units(*files)).tables["group_estimates"].to_pandas()


def by_hand(rows: pd.DataFrame, factor: str, size: str | None = None) -> pd.Series:
    """Linearised standard error of the ratio of totals, by customer."""
    frame = rows.assign(size=1.0 if size is None else rows[size])
    found = {}
    for level, own in frame.groupby(frame[factor].astype(str)):
        totals = own.groupby("customer_id")[["y", "size"]].sum()
        away = totals.y - own.y.sum() / own["size"].sum() * totals["size"]
        m = len(totals)
        found[level] = np.sqrt(m / (m - 1.0) * float((away**2).sum())) / own["size"].sum() if m > 1 else np.nan
    return pd.Series(found)


def check(table: pd.DataFrame, rows: pd.DataFrame, size: str | None = None) -> None:
    for factor in ("region", "category"):
        own = table[(table.grouping_factor == factor) & ~table.is_new].set_index("level")
        expected = by_hand(rows, factor, size)
        np.testing.assert_allclose(own.observed_std_error.astype(float), expected[own.index], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind in {"gaussian", "lognormal"} else pytest.mark.parity) for kind in sorted(FORMULAS)],
)
def test_customers_that_the_formula_leaves_out(kind: str, tmp_path: Path) -> None:
    shop = dependent_shop(kind, 5, sd=0.4, n_customers=50, rows_each=8.0)
    check(group_estimates(shop.rows, FORMULAS[kind], shop.family, tmp_path, ("customer_id",)), shop.rows)


@pytest.mark.parametrize(
    "kind", ["gaussian", pytest.param("poisson", marks=pytest.mark.parity), pytest.param("hurdle_gamma", marks=pytest.mark.parity)]
)
def test_customers_in_the_formula(kind: str, tmp_path: Path) -> None:
    shop = dependent_shop(kind, 6, sd=0.4, n_customers=50, rows_each=8.0)
    rows = shop.rows[(shop.rows.region > 0) | (shop.rows.customer_id == shop.rows.customer_id[shop.rows.region == 0].iloc[0])]
    table = group_estimates(rows, FORMULAS[kind].replace("(1 | region)", "(1 | region/customer_id)"), shop.family, tmp_path)
    check(table, rows)
    assert table[table.grouping_factor == "region:customer_id"].observed_std_error.isna().all()


@pytest.mark.parametrize(
    "formula", ["(1 | region) + (1 | category)", pytest.param("(1 | region/customer_id) + (1 | category)", marks=pytest.mark.parity)]
)
@pytest.mark.operations
def test_rates_and_weights(formula: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    rows = dependent_shop("poisson", 7, sd=0.4, n_customers=50, rows_each=8.0).rows
    rows["days"], rows["w"] = rng.uniform(0.5, 20.0, len(rows)), rng.uniform(0.5, 2.0, len(rows))
    rows["y"] = rng.poisson(rows.y * rows.days)
    units = () if "customer_id" in formula else ("customer_id",)
    check(group_estimates(rows, f"y ~ 1 + sale + offset(log(days)) + {formula}", "poisson", tmp_path, units), rows, "days")
    (tmp_path / "weighted").mkdir()
    check(group_estimates(rows, f"y | weights(w) ~ 1 + sale + {formula}", "gaussian", tmp_path / "weighted", units), rows)


def test_a_sample_of_the_customers_gives_an_error_near_that_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_query, "MOST_UNITS", 800)
    rows = dependent_shop("gaussian", 9, sd=1.0, n_customers=2_000, rows_each=5.0).rows
    table = group_estimates(rows, FORMULAS["gaussian"], "gaussian", tmp_path, ("customer_id",))
    own = table[(table.grouping_factor == "region") & ~table.is_new].set_index("level")
    ratio = own.observed_std_error.astype(float) / by_hand(rows, "region")[own.index]
    assert np.abs(ratio - 1.0).max() < 0.25 and abs(ratio.mean() - 1.0) < 0.08


def test_sums_that_were_not_kept_leave_no_error(tmp_path: Path) -> None:
    rows = dependent_shop("gaussian", 10, sd=0.4, n_customers=50, rows_each=8.0).rows
    table = group_estimates(rows, FORMULAS["gaussian"], "gaussian", tmp_path)
    assert table.observed_std_error.isna().all() and table[~table.is_new].observed_mean.notna().all()
