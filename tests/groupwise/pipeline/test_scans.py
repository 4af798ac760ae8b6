"""How often a run reads its line items, up to the cells, counted in DuckDB's profile of every query."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from groupwise.compression import column_scan, unit_query
from groupwise.pipeline import line_items, steps
from groupwise.pipeline.steps import compress, extract, validate
from groupwise.run_folder import RunFolder
from groupwise.source.describe import extract as describe
from groupwise.source.fingerprint import fingerprint
from groupwise.statistics import first_look, gather, one_scan, scan_query
from groupwise.validation.validate import validate as check_rows
from groupwise.validation.window_counts import count_window, noted_counts
from multilevel.cells import column_facts
from multilevel.errors import GroupwiseError
from tests.changing_shop import Compressed, Shop, assert_same, study_of
from tests.counted_scans import counted_scans

RULE = {"severity": "warning", "meta": {"rule_id": "own", "why": "it is so."}}
BETWEEN = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "customer", "max_value": 9}, **RULE}
UNIQUE = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}, **RULE}
SUITE = {"expectations": "own", "quarantine_limit": 0.5}


@pytest.mark.parametrize(
    ("fields", "rules", "scans"),
    [
        # cells come from the scan that counts, for x has many values among the first line items
        ({"formula": "log(amount) ~ 1 + x + (1 + x | category) + (1 | region)", "where": "amount > 0"}, [], [1, 0, 0]),
        (
            {"formula": "amount ~ 1 + x + (1 | category)", **SUITE},
            [{**BETWEEN, "kwargs": {"column": "customer", "max_value": 99}}],
            [1, 0, 0],
        ),
        # how many values price has decides whether it joins the key, in which the scan has it anyway
        ({"formula": "amount ~ 1 + price + x + (1 | category)"}, [], [1, 0, 0]),
        # the rows that broke a rule are written by a scan of their own
        ({"formula": "amount ~ 1 + (1 | category)", **SUITE}, [BETWEEN], [1, 1, 0]),
        # no two line items are alike, which the scan finds too
        ({"formula": "amount ~ 1 + (1 | category)", **SUITE}, [UNIQUE], [1, 0, 0]),
        # where some are, they are counted in turn with all other line items, which DuckDB reads twice, and again to write them
        ({"formula": "amount ~ 1 + (1 | category)", **SUITE}, [{**UNIQUE, "kwargs": {"column": "x"}}], [2, 4, 2]),
        # the mean that is taken off has to be known before
        ({"formula": "amount ~ 1 + center(x) + (1 | category)"}, [], [1, 0, 2]),
        ({"formula": "amount ~ 1 + price + (1 | category)", "sampled": ["customer"]}, [], [1, 0, 0]),
        ({"formula": "amount ~ 1 + (1 | category)", "sampled": ["id", "customer"]}, [], [1, 0, 0]),
        ({"formula": "items ~ 1 + is_sold + price + (1 | category)", "family": "poisson"}, [], [1, 0, 0]),
        ({"formula": "items ~ 1 + (1 | category)", "family": "negative_binomial", "sampled": ["customer"]}, [], [1, 0, 0]),
        ({"formula": "p(hits, tries) ~ 1 + (1 | category)", "family": "binomial", "missing": {"region": "level"}}, [], [1, 0, 0]),
        ({"formula": "items ~ 1 + (1 | category)", "family": "hurdle_gamma"}, [], [1, 0, 0]),
        ({"formula": "amount ~ 1 + (1 | region)", "family": "gamma", "missing": {"region": "level"}}, [], [1, 0, 0]),
        # level means come from the cells; the mean that fills in missing values takes one more scan
        ({"formula": "amount ~ 1 + within(price, category) + between(price, category) + (1 | category)"}, [], [1, 0, 0]),
        ({"formula": "amount ~ 1 + x + (1 | category)", "missing": {"x": "mean_and_indicator"}}, [], [2, 0, 0]),
    ],
)
def test_a_run_reads_its_line_items_as_often_as_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], rules: list[dict[str, Any]], scans: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    # fewer than the shop has, so that a look at the first is no scan
    monkeypatch.setattr(first_look, "FIRST", 300)
    Shop().write("update lines set x = 0.5 where id in (7, 8)")
    Path("expectations").mkdir()
    Path("expectations/own.json").write_text(json.dumps({"expectations": rules}))
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_study(study_of(**{"statistics": None, "sampled": None, **fields}), "")
    run.write_json("start", {"force": True})
    found = []
    for step in (lambda: extract(str(run.path), None, date(2026, 1, 1)), lambda: validate(str(run.path)), lambda: compress(str(run.path))):
        with counted_scans(monkeypatch) as tables:
            step()
        found.append(tables.count("lines"))
    assert found == scans


def test_what_one_scan_counts_is_what_scans_of_their_own_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Shop()
    Path("expectations").mkdir()
    Path("expectations/own.json").write_text(json.dumps({"expectations": [BETWEEN]}))
    study = study_of(**{"statistics": None, "where": "x > -0.5", **SUITE})
    relations, counted = [], []
    for name, counts in (("one", count_window), ("two", fingerprint_alone)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "counts.json"

        def look(connection: Any, relation: Any, names: Any, check: Any, own: Any = counts, path: Path = path) -> Any:
            check(relation)
            return own(connection, study, relation, names, path)

        relations.append(describe(study, None, tmp_path / name, today=date(2026, 1, 1), survey=look))
        counted.append(check_rows(study, relations[-1], tmp_path / name, counted=noted_counts(tmp_path / name)))
    assert (relations[0].rows, relations[0].checksum) == (relations[1].rows, relations[1].checksum)
    assert noted_counts(tmp_path / "two") is None
    assert [replace(one, quarantine=None, record=Path()) for one in counted[:1]] == [
        replace(one, quarantine=None, record=Path()) for one in counted[1:]
    ]


LATE = "update lines set price = id % 90 where id > 400"
"""Price has few values among the first line items, and many among all."""
FAR = "update lines set amount = amount + case when category = 'C1' then 1e8 else 0 end"
"""In one category amounts are alike but for a ten-millionth."""
TWICE = "update lines set x = id % 7 + 1, price = id % 2 + 1"
"""Two predictors with few values."""


@pytest.mark.parametrize(
    ("fields", "change", "is_small"),
    [
        ({"formula": "log(amount) ~ 1 + price * x + C(items) + (1 + price | category/region)", "sampled": ["customer"]}, "", True),
        ({"formula": "log(amount) ~ 1 + price * x + C(items) + (1 + price | category/region)", "sampled": ["customer"]}, "", False),
        ({"formula": "amount ~ 1 + price * x + I(price ** 2) + (1 + price | category)", "sampled": ["customer"]}, LATE, True),
        ({"formula": "amount ~ 1 + price * x + offset(tries) + (1 + price:x | category)"}, TWICE, False),
        ({"formula": "amount ~ within(price, category) + between(price, category) + (1 | category)", "sampled": ["customer"]}, LATE, False),
        (
            {"formula": "log(amount) ~ x + x_missing + (1 | category)", "missing": {"x": "mean_and_indicator"}},
            "update lines set x = null where id > 500",
            True,
        ),
        ({"formula": "amount ~ 1 + price * x + (1 | category)", "sampled": ["customer"]}, FAR, True),
        (
            {"formula": "amount ~ within(price, category) + between(price, category) + x + (1 | category/region)"},
            f"{FAR}, price = price + id % 90 + 1e7",
            True,
        ),
        ({"formula": "items ~ 1 + price + offset(log(tries)) + (1 | category)", "family": "poisson", "sampled": ["customer"]}, LATE, True),
        ({"formula": "items ~ 1 + is_sold + (1 | category)", "family": "negative_binomial", "where": "x > -0.9"}, "", False),
        ({"formula": "is_sold ~ 1 + C(items) + (1 | region)", "family": "binomial", "missing": {"region": "level"}}, "", True),
        ({"formula": "p(hits, tries) ~ 1 + is_sold + (1 | category)", "family": "binomial", "sampled": ["customer", "items"]}, "", False),
        ({"formula": "p(I(hits / tries * tries), tries) ~ 1 + (1 | category)", "family": "binomial"}, "", True),
        ({"formula": "amount ~ 1 + is_sold + (1 | category)", "family": "gamma", "sampled": ["customer"]}, "", True),
        ({"formula": "items ~ 1 + price + (1 | category)", "family": "hurdle_lognormal", "sampled": ["customer"]}, "", False),
    ],
)
def test_what_one_scan_makes_is_what_a_scan_each_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], change: str, is_small: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(first_look, "FIRST", 300)
    if not is_small:
        # as of many cells, of which no predictor may make many of each
        monkeypatch.setattr(column_facts, "FEW_CELLS", 5)
        monkeypatch.setattr(column_scan, "FEW_CELLS", 5)
        monkeypatch.setattr(one_scan, "MOST_OUTCOMES", 10)
        monkeypatch.setattr(scan_query, "MOST_OUTCOMES", 10)
        monkeypatch.setattr(line_items, "cells_of", partial(line_items.cells_of, most_outcomes=10))
        monkeypatch.setattr(steps, "cells_of", partial(line_items.cells_of, most_outcomes=10))
        # the sums of some units are taken beyond those that are kept
        for module in (one_scan, unit_query):
            monkeypatch.setattr(module, "MOST_UNITS", 3)
    shop = Shop()
    if change:
        shop.write(change)
    fields = {"sampled": None, "window": {"column": "day", "days": 90}, **fields}
    assert_scans_agree(shop, monkeypatch, fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"formula": "log(amount) ~ 1 + x + (1 + x | category/region)", "where": "x > -0.9"},
        # rules that look at some line items, and that some break which stay: one cell has line items of several kinds
        {
            "formula": "amount ~ 1 + is_sold + x + (1 | category)",
            "rules": [
                {"check": "between", "column": "customer", "max": 9, "when": "tries > 3"},
                {"check": "between", "column": "items", "max": 3, "severity": "info"},
            ],
            "quarantine_limit": 1,
            "sampled": ["customer"],
        },
    ],
)
def test_cells_of_the_scan_that_counts_are_those_of_a_scan_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    shop = Shop()
    # a value that no logarithm has is among line items that are left out
    shop.write("update lines set region = null where id % 50 = 1", "update lines set amount = -1 where x <= -0.9")
    fields = {"sampled": None, "missing": {"region": "exclude"}, **fields}
    if "rules" in fields:
        fields["where"] = "amount > 0"
    assert assert_scans_agree(shop, monkeypatch, fields).counts["excluded_where"] > 0


def assert_scans_agree(shop: Shop, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]) -> Compressed:
    """A run with one scan for everything gives what a run with a scan for each question gives."""
    one = shop.run(keeps=False, **fields)
    assert list(Path("runs/r0").glob("scan.parquet"))
    with monkeypatch.context() as own:
        own.setattr(gather, "scan_window", lambda *arguments: None)
        two = shop.run(keeps=False, **fields)
    assert not list(Path("runs/r1").glob("scan.parquet"))
    assert_same(one, two)
    return one


def fingerprint_alone(connection: Any, study: Any, relation: Any, names: Any, path: Path) -> Any:
    return fingerprint(connection, relation, names)


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        # max_cells
        ({"formula": "items ~ 1 + (1 | category)", "family": "poisson", "max_cells": 3}, ""),
        # what missing: level would make of a line item is there already
        (
            {"missing": {"region": "level"}},
            "update lines set region = case when id % 9 = 1 then '(missing)' when id % 9 > 1 then region end",
        ),
        # needs
        ({"formula": "log(amount) ~ 1 + price + (1 | category)"}, "update lines set amount = -1 where id % 50 = 3"),
        ({"formula": "items ~ 1 + (1 | region)", "family": "poisson"}, "update lines set region = 'R0'"),
        ({"formula": "amount ~ 1 + price + (1 | region)"}, "update lines set amount = 0.1 + 0.2"),
        ({"formula": "amount ~ 1 + x + x_missing + (1 | category)", "missing": {"x": "mean_and_indicator"}}, "update lines set x = null"),
        # more digits than a double has
        ({"formula": "id ~ 1 + price + (1 | category)"}, "update lines set id = id + 9007199254740993"),
    ],
)
def test_one_scan_refuses_in_the_words_of_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], change: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shop = Shop()
    if change:
        shop.write(change)
    found = []
    for has_scan in (True, False):
        with monkeypatch.context() as own, pytest.raises(GroupwiseError) as refused:
            if not has_scan:
                own.setattr(gather, "scan_window", lambda *arguments: None)
            shop.run(keeps=False, sampled=None, **fields)
        found.append((type(refused.value), str(refused.value)))
    assert found[0] == found[1]


def test_lost_digits_take_one_more_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(first_look, "FIRST", 300)
    shop = Shop()
    shop.write(FAR)
    with counted_scans(monkeypatch) as tables:
        shop.run(keeps=False, sampled=["customer"], formula="amount ~ 1 + price + x + (1 | category)")
    assert tables.count("lines") == 2


def test_a_key_that_makes_far_more_cells_than_the_study_needs_is_not_scanned_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(first_look, "FIRST", 300)
    fields: dict[str, Any] = {"formula": "amount ~ 1 + price + items + (1 | category)", "sampled": ["customer"]}
    shop, found, made = Shop(), [], []
    for finest, finer in ((10, 1), (10, 100), (1000, 1)):
        monkeypatch.setattr(one_scan, "FINEST", finest)
        monkeypatch.setattr(one_scan, "MOST_FINER", finer)
        with counted_scans(monkeypatch) as tables:
            found.append(shop.run(keeps=False, **fields))
        made.append((len(list(Path(f"runs/r{len(found) - 1}").glob("scan*.parquet"))), tables.count("lines")))
    # neither, the cells and not the sums by customer, both
    assert made == [(0, 5), (1, 4), (2, 1)]
    assert_same(*found[:2])
    assert_same(*found[1:])
