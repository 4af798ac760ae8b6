"""Sums by cell and unit, taken with the cells, give the design effects that the rows themselves give."""

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
from multilevel.fit.container import Check
from multilevel.formula.parse import parse_formula
from multilevel.redaction.redacted_tables import without_names
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options
from tests.dependent_shops import FORMULAS, dependent_shop


def fitted(rows: pd.DataFrame, formula: str, family: str, folder: Path, engine: str = "likelihood") -> StudyFit:
    parsed = parse_formula(formula)
    with duckdb.connect() as connection:
        connection.register("shop_rows", rows)
        compress_rows(connection, "select * from shop_rows", parsed, family, folder, units=["customer_id"])
    files = folder / "cells.parquet", folder / "cells.json"
    options = fit_options("s", date(2026, 1, 31), "r", engine, sampled=("customer_id",))
    return fit_study(parsed, read_cells(*files), options, read_units(*files))


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> StudyFit:
    """Lines of one customer are alike, and the formula does not say so."""
    shop = dependent_shop("gaussian", 1, sd=0.7)
    return fitted(shop.rows, FORMULAS["gaussian"], "gaussian", tmp_path_factory.mktemp("alike"))


def checks(study: StudyFit) -> dict[str, Check]:
    rows = study.tables["diagnostics"].select(["check", "value", "threshold", "passed", "message"]).to_pylist()
    return {row["check"]: Check(row["check"], row["value"], row["threshold"], row["passed"], row["message"]) for row in rows}


def from_rows(rows: pd.DataFrame, factor: str, residual: np.ndarray, variance: np.ndarray) -> float:
    """The definition, by rows."""
    frame = rows.assign(r=residual, v=variance).groupby([factor, "customer_id"], as_index=False)[["r", "v"]].sum()
    total = frame.groupby(factor).v.transform("sum")
    alone = frame.groupby(factor).customer_id.transform("size") < 2
    frame, total = frame[~alone], total[~alone]
    return float((frame.r**2).sum() / (frame.v * (1.0 - frame.v / total)).sum())


@pytest.mark.parametrize(
    "kind",
    [
        "gaussian",
        "lognormal",
        "negative_binomial",
        "binomial",
        *(pytest.param(kind, marks=pytest.mark.parity) for kind in ("poisson", "gamma")),
    ],
)
def test_design_effect_is_that_of_the_rows(kind: str, tmp_path: Path) -> None:
    shop = dependent_shop(kind, 3, sd=0.4, n_customers=60, rows_each=8.0)
    study = fitted(shop.rows, FORMULAS[kind], shop.family, tmp_path)
    part = study.parts[0]
    fit, rows = part.fit, shop.rows
    effects = {block.factor.name: (block.factor.levels, place) for place, block in enumerate(fit.design.blocks)}
    beta, starts = fit.joint.mean[: len(fit.design.population)], fit.design.starts
    eta = np.full(len(rows), beta[0]) + beta[1] * (rows.x if kind in {"gaussian", "lognormal"} else rows.sale.astype(float)).to_numpy()
    for name, (levels, place) in effects.items():
        first = len(beta) + starts[place]
        own = dict(zip(levels, fit.joint.mean[first : first + len(levels)], strict=True))
        eta = eta + rows[name].astype(str).map(own).to_numpy()
    outcome, scale = rows.y.to_numpy(), fit.dispersion or 1.0
    if kind == "gaussian":
        mean, variance = eta, np.full(len(rows), fit.sigma**2)
    elif kind == "lognormal":
        log_variance = np.full(len(rows), part.variance.constant)
        for name, (levels, _) in effects.items():
            log_variance += rows[name].astype(str).map(dict(zip(levels, part.variance.effects[name], strict=True))).to_numpy()
        outcome, mean, variance = np.log(outcome), eta, np.exp(log_variance)
    elif kind == "binomial":
        mean = 1.0 / (1.0 + np.exp(-eta))
        variance = mean * (1.0 - mean)
    else:
        mean = np.exp(eta)
        variance = {"poisson": mean, "negative_binomial": mean + mean**2 / scale, "gamma": mean**2 / scale}[kind]
    found = checks(study)
    for factor in ("region", "category"):
        expected = from_rows(rows, factor, outcome - mean, variance)
        assert found[f"design_effect[{factor}, customer_id]"].value == pytest.approx(expected, rel=1e-9)
    assert "sampled[customer_id]" not in found


def test_each_part_of_a_hurdle_has_its_own(tmp_path: Path) -> None:
    shop = dependent_shop("hurdle_gamma", 5, sd=0.8, n_customers=60, rows_each=12.0)
    found = checks(fitted(shop.rows, FORMULAS["hurdle_gamma"], "hurdle_gamma", tmp_path))
    for part in ("occurrence", "amount"):
        check = found[f"design_effect[region, customer_id][{part}]"]
        assert not check.passed and check.value > 1.5
        assert "add (1 | region/customer_id)" in check.message


def test_the_message_says_what_it_costs_and_what_to_add(alike: StudyFit) -> None:
    check = checks(alike)["design_effect[region, customer_id]"]
    assert check.message.startswith(
        "lines of one customer_id are alike: intervals of region are about 3 times too narrow; add (1 | region/customer_id)"
    )
    assert "from 200 values of customer_id" in check.message
    assert "add (1 | customer_id)" in checks(alike)["design_effect[category, customer_id]"].message
    assert alike.report["warnings"][0] == check.message


def test_the_term_that_is_named_mends_it(alike: StudyFit, tmp_path: Path) -> None:
    """The sums are asked for although the mended formula has the customers, so that the same check can be seen to pass."""
    rows, before = dependent_shop("gaussian", 1, sd=0.7).rows, checks(alike)
    after = checks(fitted(rows, "y ~ 1 + x + (1 | region/customer_id) + (1 | category)", "gaussian", tmp_path / "after"))
    for name in ("design_effect[region, customer_id]", "design_effect[category, customer_id]"):
        assert not before[name].passed and before[name].value > 1.5
        assert after[name].passed and after[name].value < 1.5


@pytest.mark.parametrize("kind", ["gaussian", pytest.param("binomial", marks=pytest.mark.parity)])
def test_independent_lines_pass(kind: str, tmp_path: Path) -> None:
    shop = dependent_shop(kind, 2, sd=0.0)
    found = checks(fitted(shop.rows, FORMULAS[kind], shop.family, tmp_path))
    check = found["design_effect[region, customer_id]"]
    assert check.passed and check.value == pytest.approx(1.0, abs=0.3)


@pytest.mark.calibration
def test_bayesian_engine_has_it_too(tmp_path: Path) -> None:
    shop = dependent_shop("gaussian", 1, sd=0.7)
    likelihood = checks(fitted(shop.rows, FORMULAS["gaussian"], "gaussian", tmp_path / "l"))
    bayesian = checks(fitted(shop.rows, FORMULAS["gaussian"], "gaussian", tmp_path / "b", engine="bayesian"))
    name = "design_effect[region, customer_id]"
    assert bayesian[name].value == pytest.approx(likelihood[name].value, rel=0.05)
    assert not bayesian[name].passed


def test_of_many_units_a_sample_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = dependent_shop("gaussian", 4, sd=0.5, n_customers=400, rows_each=10.0)
    whole = checks(fitted(shop.rows, FORMULAS["gaussian"], "gaussian", tmp_path / "all"))["design_effect[region, customer_id]"]
    monkeypatch.setattr(unit_query, "MOST_UNITS", 150)
    some = checks(fitted(shop.rows, FORMULAS["gaussian"], "gaussian", tmp_path / "some"))["design_effect[region, customer_id]"]
    assert "from 150 of 400 values of customer_id" in some.message
    assert some.value == pytest.approx(whole.value, rel=0.35)
    monkeypatch.setattr(unit_query, "MOST_PAIRS", 500)
    fewer = checks(fitted(shop.rows, FORMULAS["gaussian"], "gaussian", tmp_path / "few"))["design_effect[region, customer_id]"]
    assert " of 400 values of customer_id" in fewer.message and "150 of" not in fewer.message


def test_where_every_level_belongs_to_one_unit_the_column_still_fails(tmp_path: Path) -> None:
    shop = dependent_shop("gaussian", 6, sd=0.3, n_customers=40, rows_each=20.0)
    rows = shop.rows.assign(receipt=shop.rows.customer_id * 10 + np.arange(len(shop.rows)) % 4)
    found = checks(fitted(rows, "y ~ 1 + x + (1 | receipt)", "gaussian", tmp_path))
    assert not any(name.startswith("design_effect") for name in found)
    assert not found["sampled[customer_id]"].passed


@pytest.mark.parametrize("column", ["number", "place", "unit", "unit_number", "cell_key", "sampled_unit"])
def test_a_sampled_column_may_have_any_name(column: str, tmp_path: Path) -> None:
    rows = dependent_shop("gaussian", 1, sd=0.7, n_customers=60).rows
    parsed = parse_formula(FORMULAS["gaussian"])
    with duckdb.connect() as connection:
        connection.register("shop_rows", rows.rename(columns={"customer_id": column}))
        compress_rows(connection, "select * from shop_rows", parsed, "gaussian", tmp_path, units=[column])
    (sums,) = read_units(tmp_path / "cells.parquet", tmp_path / "cells.json")
    assert (sums.column, sums.n_units, sums.n.sum()) == (column, 60, len(rows))


def test_suppressed_levels_are_not_named_even_where_they_are_numbers(alike: StudyFit) -> None:
    message = checks(alike)["design_effect[region, customer_id]"].message
    level = message.split("in [")[1].split("]")[0]
    assert f"[{level}]" not in without_names(message, {level})


def test_weights_offsets_and_level_means(tmp_path: Path) -> None:
    """The pairs are matched to their cells also where a predictor is a mean of rows, and sums are weighted as the effects are."""
    shop = dependent_shop("gaussian", 7, sd=0.0, n_customers=100)
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.5, 2.0, len(shop.rows))
    rows = shop.rows.assign(w=weight, y=shop.rows.y + (1 / np.sqrt(weight) - 1) * rng.normal(size=len(weight)))
    formula = "y | weights(w) ~ 1 + within(x, region) + between(x, region) + (1 | region) + (1 | category)"
    found = checks(fitted(rows, formula, "gaussian", tmp_path / "w"))
    assert found["design_effect[region, customer_id]"].passed
    counts = dependent_shop("poisson", 7, sd=0.6, n_customers=100)
    rows = counts.rows.assign(hours=np.exp(rng.normal(size=len(counts.rows)).round(1)))
    rows["y"] = rng.poisson(rows.hours * np.exp(0.3 * rng.normal(size=100))[rows.customer_id])
    found = checks(fitted(rows, "y ~ 1 + offset(log(hours)) + (1 | region) + (1 | category)", "poisson", tmp_path / "o"))
    assert not found["design_effect[region, customer_id]"].passed


def test_rows_without_a_unit_belong_to_none(tmp_path: Path) -> None:
    shop = dependent_shop("gaussian", 8, sd=0.5, n_customers=60)
    rows = shop.rows.assign(customer_id=shop.rows.customer_id.astype("Int64").mask(shop.rows.customer_id < 5))
    check = checks(fitted(rows, FORMULAS["gaussian"], "gaussian", tmp_path))["design_effect[region, customer_id]"]
    assert "from 55 values of customer_id" in check.message
