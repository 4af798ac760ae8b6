"""Line items that are deleted from the source are in nothing that a run leaves but in what was published before, which a receipt lists."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import duckdb
import pytest

from groupwise.pipeline.own_process import run_here
from groupwise.pipeline.run_start import begin
from groupwise.progress import RunProgress
from groupwise.retention import NO_ROWS, at_work
from groupwise.run_folder import RUNS, RunFolder
from tests.changing_shop import Shop

STUDY = """
name: small
formula: amount ~ 1 + (1 | category)
source: {database: shop.duckdb}
window: {column: day, days: 70}
expectations: own
quarantine_limit: 0.5
engine: likelihood
sampled: [customer]
statistics: {partition: day, keep: kept}
"""
SUITE = {
    "expectations": [
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "customer", "max_value": 2_000},
            "severity": "warning",
            "meta": {"rule_id": "few", "why": "there are few."},
        }
    ]
}
ERASED = 7_654_321


def publish() -> RunFolder:
    run = RunFolder(Path(begin("study.yaml", engine=None, publish_to=None, settings=[], run_id=None)))
    with at_work(run):
        run_here(str(run.path), None, date(2026, 1, 1), RunProgress())
    return run


def holders(folder: str | Path) -> list[str]:
    """Parquet files in which a value of a row is the erased customer's."""
    found = []
    for path in Path(folder).rglob("*.parquet"):
        rows = duckdb.sql(f"select * from read_parquet('{path}')").fetchall()
        if any(ERASED in row or str(ERASED) in row for row in rows):
            found.append(path.name)
    return found


@pytest.mark.operations
def test_erased_line_items_leave_no_trace_but_in_what_was_published(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    Path("study.yaml").write_text(STUDY)
    Path("expectations").mkdir()
    Path("expectations/own.json").write_text(json.dumps(SUITE))
    shop.write(f"update lines set customer = {ERASED} where id % 50 = 3")
    first = publish()
    assert holders("kept")
    assert holders(first.path)
    shop.write(f"delete from lines where customer = {ERASED}")
    second = publish()
    assert not holders("kept")
    assert not holders(RUNS)
    assert {path.name for path in first.path.iterdir()} <= NO_ROWS
    receipt = second.read_json("receipt")
    assert [version["run_id"] for version in receipt["versions"]] == [first.run_id]
    assert any(file.endswith(".parquet") and "quarantine" in file for file in receipt["versions"][0]["files"])
    assert any("joint/" in file and first.run_id in file for file in receipt["versions"][0]["files"])
    assert receipt["remove"] == "groupwise prune study.yaml --keep 1"
    assert receipt["remove"] in caplog.text
    # the trend of every group is a view over what is published
    with duckdb.connect() as connection:
        for statement in Path("published/catalog.sql").read_text().split(";\n"):
            connection.execute(statement)
        rows = connection.execute("select distinct run_id from small.group_trend").fetchall()
    assert rows == [(second.run_id,)]
