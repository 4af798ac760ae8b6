"""What ``plan`` says of line items that are alike, before anything is fitted."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from groupwise.planning.dry_run import plan
from groupwise.planning.planned import Plan
from groupwise.source.relation import Relation
from groupwise.study.study import Study
from tests.dependent_shops import FORMULAS, dependent_shop


def plan_of(folder: Path, rows: pd.DataFrame, kind: str, **fields: object) -> Plan:
    path = folder / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.register("shop_rows", rows)
        connection.execute("create table lines as select * from shop_rows")
        columns = {row[0]: row[1] for row in connection.execute("describe lines").fetchall()}
    formula = FORMULAS[kind].replace(" + x", "")
    family = "gaussian" if kind == "lognormal" else kind
    plain = {"name": "s", "formula": formula, "family": family, "source": {"parquet": "unused.parquet"}, "engine": "likelihood"}
    study = Study.model_validate({**plain, **fields})
    relation = Relation("s", str(path), (), "select * from lines", date(2026, 1, 1), columns=columns)
    return plan(study, relation, "select * from lines")


@pytest.mark.parametrize("kind", ["gaussian", "lognormal", "poisson", "binomial", "gamma", "hurdle_gamma"])
def test_customers_who_are_alike_are_seen(kind: str, tmp_path: Path) -> None:
    found = plan_of(tmp_path, dependent_shop(kind, 1, sd=0.8).rows, kind, sampled=["customer_id"])
    assert not found.refusals
    assert [line.split(":")[0] for line in found.dependence] == ["customer_id, region", "customer_id, category"]
    assert found.dependence[0].endswith("intervals may be too narrow")


def test_independent_customers_are_not(tmp_path: Path) -> None:
    found = plan_of(tmp_path, dependent_shop("gaussian", 1, sd=0.0).rows, "gaussian", sampled=["customer_id"])
    assert len(found.dependence) == 2
    assert all(line.endswith("as independent ones would") for line in found.dependence)


def test_cells_of_one_row_tell_nothing(tmp_path: Path) -> None:
    rows = dependent_shop("poisson", 1, sd=0.8, n_customers=40).rows.reset_index(names="line")
    found = plan_of(tmp_path, rows, "poisson", formula="y ~ 1 + line + (1 | region)", sampled=["customer_id"])
    assert "nothing can be read before the fit" in found.dependence[0]


def test_an_id_that_nobody_named_is_told(tmp_path: Path) -> None:
    rows = dependent_shop("gaussian", 1, sd=0.0).rows
    rows = rows.assign(store_id=rows.customer_id % 30, line_id=range(len(rows)), shoe_key=rows.customer_id % 20)
    (sentence,) = plan_of(tmp_path, rows, "gaussian").dependence
    assert sentence.startswith("customer_id looks like an id") and "sampled: [customer_id]" in sentence


@pytest.mark.parametrize("columns", [["region", "category", "y"], ["region", "category", "y", "line_id"]])
def test_other_columns_are_not(columns: list[str], tmp_path: Path) -> None:
    rows = dependent_shop("gaussian", 1, sd=0.0).rows
    assert plan_of(tmp_path, rows.assign(line_id=range(len(rows)))[columns], "gaussian").dependence == ()
