"""The whole flow, from the command line: a good run publishes six tables; every bad input is one clear message and changes nothing."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import get_client

from flows.publish_group_estimates import TASKS
from groupwise.pipeline import order, steps
from groupwise.publishing import durable
from multilevel.catalogue.published_tables import EVERY_TABLE
from multilevel.errors import SourceError

TABLES = {f"{name}.parquet" for name in EVERY_TABLE if name != "draws"}
MOST_LINES = 6

type Estimate = Callable[..., tuple[int, str, str]]
type Published = Callable[[], dict[str, str]]


def test_a_good_run_prints_the_folder_of_its_six_tables(shop: Path, estimate: Estimate) -> None:
    code, out, _ = estimate()
    assert code == 0
    folder = shop / out.splitlines()[-1]
    assert folder.name.startswith("rev=")
    assert {path.name for path in folder.iterdir()} == TABLES
    count = f"select count(*) from '{folder}/group_estimates.parquet' where grouping_factor = 'region'"
    assert duckdb.sql(count).fetchall() == [(6,)]  # five regions and a new one


@pytest.mark.operations
def test_a_flow_run_leaves_its_summary_and_readable_names_in_prefect(estimate_flow: Estimate) -> None:
    code, _, err = estimate_flow()
    assert code == 0, err
    with get_client(sync_client=True) as client:
        [summary] = [found for found in client.read_artifacts() if found.key == "groupwise-spend"][:1]
        names = {run.name for run in client.read_task_runs()}
        flows = {run.name for run in client.read_flow_runs()}
    assert "group_estimates" in str(summary.data)
    assert "[report](file://" in str(summary.data)
    assert {"validate line items", "compress to cells", "fit the models", "publish the tables"} <= names
    assert "spend.yaml" in flows


def test_a_study_file_that_is_not_there(estimate: Estimate, published: Published) -> None:
    before = published()
    refused(*estimate(study="nowhere.yaml"), "nowhere.yaml: no such study file")
    assert published() == before


def test_a_place_to_publish_may_be_absolute(estimate: Estimate, tmp_path: Path) -> None:
    code, out, err = estimate("--publish-to", str(tmp_path / "elsewhere"))
    assert code == 0, err
    assert Path(out.splitlines()[-1]).is_relative_to(tmp_path / "elsewhere" / "spend" / "versions")


def test_a_study_folder_that_is_a_link_out_of_the_place_to_publish(estimate: Estimate, tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (inside / "spend").symlink_to(outside, target_is_directory=True)
    refused(*estimate("--publish-to", str(inside)), "link")
    assert not list(outside.iterdir())


READING = {"extract": "describe_relation", "validate": "validate_rows", "compress": "cells_of"}
"""Steps that read the source, and what each calls."""


@pytest.mark.parametrize("step", [step if step == "extract" else pytest.param(step, marks=pytest.mark.operations) for step in READING])
def test_a_source_that_a_writer_held_for_a_moment_is_read_again(step: str, estimate: Estimate, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing_once(monkeypatch, READING[step], "source.database shop.duckdb is locked by a process")
    change_step(monkeypatch, step, waits=(0.0, 0.0))
    code, _, err = estimate()
    assert code == 0, err
    assert len(calls) == 2
    assert "locked by a process. Trying again in 0 seconds" in err


@pytest.mark.operations
@pytest.mark.parametrize("step", READING)
def test_a_flow_run_reads_it_again(step: str, estimate_flow: Estimate, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing_once(monkeypatch, READING[step], "source.database shop.duckdb is locked by a process")
    monkeypatch.setattr(TASKS[step], "retry_delay_seconds", [0, 0])
    code, _, err = estimate_flow()
    assert code == 0, err
    assert len(calls) == 2


def test_what_does_not_pass_by_itself_is_not_tried_again(estimate: Estimate, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing_once(monkeypatch, "describe_relation", "source.database shop.duckdb cannot be read")
    refused(*estimate(), "cannot be read")
    assert len(calls) == 1


# pytest's own alarm, the default method, would take the place of the one that stops a step
@pytest.mark.timeout(120, method="thread")
def test_a_step_that_takes_too_long_is_stopped(estimate: Estimate, published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    before = published()
    change_step(monkeypatch, "fit", seconds=0.5)
    monkeypatch.setattr(steps, "fit_run", lambda *_: time.sleep(20))
    start = time.monotonic()
    refused(*estimate(), "fit the models: not done within 0.5 seconds")
    assert time.monotonic() - start < 15
    assert published() == before


@pytest.mark.operations
@pytest.mark.timeout(120, method="thread")
def test_a_step_of_a_flow_run_that_takes_too_long_is_stopped(
    estimate_flow: Estimate, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = published()
    monkeypatch.setattr(TASKS["fit"], "timeout_seconds", 0.5)
    monkeypatch.setattr(steps, "fit_run", lambda *_: time.sleep(20))
    refused(*estimate_flow(), "timed out after 0.5 second")
    assert published() == before


def test_a_fault_without_a_server_says_nothing_of_flow_runs(estimate: Estimate, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        try:
            raise SourceError("spend: refused.")
        except SourceError:
            raise OSError(errno.EIO, "Input/output error") from None

    monkeypatch.setattr(steps, "check_gates", breaks)
    code, _, err = estimate()
    assert code == 1
    assert "Input/output error" in err
    assert "flow run" not in err


def change_step(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """Change a step's policy for a run in this process."""
    monkeypatch.setattr(order, name.upper(), replace(getattr(order, name.upper()), **changes))


def failing_once(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> list[None]:
    """Let a step's function fail the first time; gives its calls as they come."""
    real, calls = getattr(steps, name), []

    def once(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            raise SourceError(f"spend: {message}.")
        return real(*arguments, **options)

    monkeypatch.setattr(steps, name, once)
    return calls


def bad_lines(lines: pd.DataFrame, shop: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
    change(lines).to_parquet(shop / "bad.parquet")
    return "source.parquet=bad.parquet"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["source.parquet=nowhere.parquet"], "nowhere.parquet"),
        (["formula=amount ~ 1 + price + (1 | region)"], "price"),
        (["family=poison"], "did you mean poisson"),
        (["formula=amount ~ 1 + system(on_sale) + (1 | region)"], "system"),
        (['formula=amount ~ 1 + "on_sale; drop table lines" + (1 | region)'], "formula"),
        (["name=spend; drop table lines"], "name"),
        (["name=../spend"], "name"),
        (["publish_to=../elsewhere"], "without '..'"),
        (["window.days=1", "as_of=2020-01-01"], "2024"),
        (["formula=amount ~ 1 + (1 | chain)"], "one level"),
        (["family=binomial"], "amount"),
        (["engin=likelihood"], "did you mean engine"),
        (['window={column: "day; drop table lines", days: 365}'], "day; drop table lines"),
        (['cells=["region; drop table lines", category]'], "region; drop table lines"),
        (["where=amount > 0; drop table lines"], "where"),
        (["source={database: nowhere.duckdb, line_items: lines.sql}"], "nowhere.duckdb does not exist"),
    ],
)
def test_what_a_study_cannot_ask_for(settings: list[str], message: str, estimate: Estimate, published: Published) -> None:
    before = published()
    code, out, err = estimate(*[part for setting in settings for part in ("--set", setting)])
    refused(code, out, err, message)
    assert published() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_values_that_are_no_numbers_are_counted_and_shown(
    value: object, lines: pd.DataFrame, shop: Path, estimate: Estimate, published: Published
) -> None:
    before = published()
    setting = bad_lines(lines, shop, lambda rows: rows.assign(amount=rows["amount"].where(rows.index > 2, value)))
    code, out, err = estimate("--set", setting)
    refused(code, out, err, "3")
    assert "amount" in err
    assert published() == before


def test_everything_quarantined(lines: pd.DataFrame, shop: Path, estimate: Estimate, published: Published) -> None:
    before = published()
    rule = {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "amount", "min_value": 0},
        "severity": "warning",
        "meta": {"rule_id": "amount_positive", "why": "A price is positive."},
    }
    (shop / "expectations").mkdir()
    suite = {"name": "positive", "grain": "one row per line item", "expectations": [rule]}
    (shop / "expectations" / "positive.json").write_text(json.dumps(suite))
    setting = bad_lines(lines, shop, lambda rows: rows.assign(amount=-rows["amount"]))
    code, out, err = estimate("--set", setting, "--set", "expectations=positive", "--set", "quarantine_limit=1.0")
    refused(code, out, err, "quarantine")
    assert "2,000" in err
    assert published() == before


@pytest.mark.operations
def test_a_database_that_a_writer_holds(shop: Path, estimate: Estimate, published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    before = published()
    change_step(monkeypatch, "extract", waits=())
    with duckdb.connect(str(shop / "held.duckdb")) as connection:
        connection.execute(f"create table lines as select * from '{shop}/lines.parquet'")
    (shop / "lines.sql").write_text("select * from lines")
    hold = "import duckdb, sys, time; c = duckdb.connect('held.duckdb'); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], cwd=shop, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        try:
            code, out, err = estimate("--set", "source={database: held.duckdb, line_items: lines.sql}")
        finally:
            writer.kill()
    refused(code, out, err, "locked")
    assert published() == before


def test_a_disk_that_is_full_at_publishing(estimate: Estimate, published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    before = published()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "write_table", full)
    code, out, err = estimate()
    refused(code, out, err, "No space left on device")
    monkeypatch.undo()
    assert published() == before


def refused(code: int, out: str, err: str, message: str) -> None:
    """One clear message, no traceback, nothing on stdout that a script could take for a folder."""
    assert code != 0
    assert out.strip() == ""
    assert message in err
    said = [line for line in err.strip().splitlines() if ": done in " not in line]
    assert 0 < len(said) <= MOST_LINES, err
    assert "Traceback" not in err


def test_the_previous_version_is_still_read_after_all_of_this(shop: Path, published: Published) -> None:
    published()
    current = shop / "published" / "spend" / "current"
    assert {path.name for path in current.iterdir()} == TABLES
    assert duckdb.sql(f"select count(*) from '{current}/group_estimates.parquet' where grouping_factor = 'region'").fetchall() == [(6,)]
