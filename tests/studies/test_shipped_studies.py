"""The studies that come with the project read, and name only columns, suites and families that exist."""

from pathlib import Path

import duckdb
import pytest
import yaml

from groupwise.shop.shop_tables import TABLES
from groupwise.study.study_file import load_study
from multilevel.formula.columns import formula_columns
from sql import read_query

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "studies").glob("*.yaml")), ROOT / "docs" / "guide" / "without_households.yaml"]
SHOP = [file for file in FILES if not file.stem.startswith("simulated")]


def test_the_three_studies_of_the_demo_are_there():
    assert {"line_spend", "private_label", "basket_items"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_study_reads_and_is_named_like_its_file(file):
    assert load_study(file).name == file.stem


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_study_explains_itself_to_a_stranger(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert lines[0].endswith("?") or "?" in " ".join(lines[:4])
    assert sum("#" in line for line in lines) >= 8


@pytest.mark.parametrize("file", SHOP, ids=lambda file: file.stem)
def test_a_study_names_columns_of_its_relation(file):
    study = load_study(file)
    with duckdb.connect() as connection:
        for table in TABLES:
            connection.execute(table.statements()[0])
        query = read_query(Path(str(study.source.line_items)).stem)
        columns = {row[0] for row in connection.sql(f"describe select * from ({query})").fetchall()}
        if study.where:
            connection.sql(f"select 1 from ({query}) where {study.where}").fetchall()
    made = {f"{name}_missing" for name, rule in study.missing.items() if rule == "mean_and_indicator"}
    assert {*formula_columns(study.parsed_formula), *study.missing, *(study.cells or ())} <= columns | made
    assert study.window is not None
    assert study.window.column in columns


@pytest.mark.parametrize("file", SHOP, ids=lambda file: file.stem)
def test_missing_demographics_are_said_in_the_study(file):
    study = load_study(file)
    named = {"income_group", "household_size", "income"} & set(formula_columns(study.parsed_formula))
    assert named == set(study.missing)


def test_line_spend_has_its_households_and_predictors_of_both_trees():
    given = yaml.safe_load((ROOT / "studies" / "line_spend.yaml").read_text(encoding="utf-8"))
    wanted = {
        "formula": (
            "log(amount) ~ 1 + on_sale + coupon + log(income) + income_missing + within(store_brand, category_key) "
            "+ between(store_brand, category_key) + (1 | income_group/customer_id) + (1 + on_sale | department/category_key) "
            "+ (1 | customer_id:category_key)"
        ),
        "family": "gaussian",
        "source": {"database": "data/shop.duckdb", "line_items": "sql/line_items.sql"},
        "expectations": "line_items",
        "where": "amount > 0 and not is_fuel",
        "missing": {"income_group": "level", "income": "mean_and_indicator"},
        "sampled": ["customer_id"],
        "window": {"column": "ts", "days": 365},
        "as_of": "latest",
        "cells": ["income_group", "category_key"],
        "engine": "bayesian",
        "method": None,
        "interval": 0.95,
        "publish_to": "published",
    }
    assert {name: given[name] for name in wanted} == wanted
