"""How often a run reads its line items, up to the cells, counted in DuckDB's profile of every query."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from groupwise.pipeline.steps import compress, extract, validate
from groupwise.run_folder import RunFolder
from groupwise.source.describe import extract as describe
from groupwise.source.fingerprint import fingerprint
from groupwise.statistics import gather, one_scan
from groupwise.validation.validate import validate as check_rows
from groupwise.validation.window_counts import count_window, noted_counts
from tests.changing_shop import Shop, assert_same, study_of
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
        # how many values price has decides whether it joins the key
        ({"formula": "amount ~ 1 + price + x + (1 | category)"}, [], [1, 0, 1]),
        # the rows that broke a rule are written by a scan of their own
        ({"formula": "amount ~ 1 + (1 | category)", **SUITE}, [BETWEEN], [1, 1, 0]),
        # rules that compare line items are counted once the fingerprint says that something is new; DuckDB reads them twice
        ({"formula": "amount ~ 1 + (1 | category)", **SUITE}, [UNIQUE], [1, 2, 1]),
        # the mean that is taken off has to be known before
        ({"formula": "amount ~ 1 + center(x) + (1 | category)"}, [], [1, 0, 2]),
        # how many units and pairs there are, the units, their sums
        ({"formula": "amount ~ 1 + (1 | category)", "sampled": ["customer"]}, [], [1, 0, 3]),
        # how many cells and outcomes there are, the cells (twice, for single rows' outcomes beside sums), the distinct outcomes
        ({"formula": "items ~ 1 + is_sold + (1 | category)", "family": "poisson"}, [], [1, 0, 4]),
    ],
)
def test_a_run_reads_its_line_items_as_often_as_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], rules: list[dict[str, Any]], scans: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    # fewer than the shop has, so that a look at the first is no scan
    monkeypatch.setattr(one_scan, "FIRST", 300)
    Shop()
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
    one = shop.run(keeps=False, **fields)
    assert list(Path("runs/r0").glob("scan.parquet"))
    with monkeypatch.context() as own:
        own.setattr(gather, "scan_window", lambda *arguments: None)
        two = shop.run(keeps=False, **fields)
    assert not list(Path("runs/r1").glob("scan.parquet"))
    assert one.counts["excluded_where"] > 0
    assert_same(one, two)


def fingerprint_alone(connection: Any, study: Any, relation: Any, names: Any, path: Path) -> Any:
    return fingerprint(connection, relation, names)
