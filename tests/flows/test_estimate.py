"""The whole flow, from the command line: a good run publishes six tables; every bad input is one clear message and changes nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from prefect.testing.utilities import prefect_test_harness

from flows import command_line
from multilevel.tables.catalogue import EVERY_TABLE
from tasks import durable, steps

STUDY = """
name: spend
formula: amount ~ 1 + on_sale + (1 | region) + (1 | category)
source: {parquet: lines.parquet}
window: {column: day, days: 365}
engine: likelihood
cells: [region, category]
"""
TABLES = {f"{name}.parquet" for name in EVERY_TABLE if name != "draws"}
MOST_LINES = 6

type Estimate = Callable[..., tuple[int, str, str]]


def lines() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = 2_000
    region, category = rng.integers(5, size=n), rng.integers(8, size=n)
    return pd.DataFrame(
        {
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(300, size=n), unit="D"),
            "region": [f"R{i}" for i in region],
            "category": [f"C{i}" for i in category],
            "chain": "only",
            "on_sale": rng.random(n) < 0.3,
            "amount": np.exp(0.2 * region + 0.1 * category + rng.normal(size=n)),
            "is_kept": rng.random(n) < 0.8,
        }
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with the line items; a real Prefect server stands for all runs of this file."""
    folder = tmp_path_factory.mktemp("shop")
    back = Path.cwd()
    os.chdir(folder)
    try:
        lines().to_parquet("lines.parquet")
        Path("spend.yaml").write_text(STUDY)
        with prefect_test_harness(server_startup_timeout=120):
            yield folder
    finally:
        os.chdir(back)


@pytest.fixture
def estimate(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Estimate:
    """Run ``groupwise estimate spend.yaml ...``; gives exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["groupwise", "estimate", "spend.yaml", *arguments])
        capfd.readouterr()
        code = command_line._run()
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def published(place: Path, estimate: Estimate) -> Callable[[], dict[str, str]]:
    """What lies under the study's folder, by sha256; the first call makes a good version."""

    def look() -> dict[str, str]:
        if not (place / "published" / "spend" / "_latest.json").exists():
            assert estimate()[0] == 0
        files = (path for path in (place / "published").rglob("*") if path.is_file() and path.suffix != ".lock")
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return look


def test_a_good_run_prints_the_folder_of_its_six_tables(place: Path, estimate: Estimate) -> None:
    code, out, _ = estimate()
    assert code == 0
    folder = place / out.splitlines()[-1]
    assert folder.name.startswith("rev=")
    assert {path.name for path in folder.iterdir()} == TABLES
    count = f"select count(*) from '{folder}/group_estimates.parquet' where grouping_factor = 'region'"
    assert duckdb.sql(count).fetchall() == [(6,)]  # five regions and a new one


def bad_lines(place: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
    change(lines()).to_parquet(place / "bad.parquet")
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
    ],
)
def test_what_a_study_cannot_ask_for(settings: list[str], message: str, estimate: Estimate, published: Callable[[], object]) -> None:
    before = published()
    code, out, err = estimate(*[part for setting in settings for part in ("--set", setting)])
    refused(code, out, err, message)
    assert published() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_values_that_are_no_numbers_are_counted_and_shown(
    value: object, place: Path, estimate: Estimate, published: Callable[[], object]
) -> None:
    before = published()
    setting = bad_lines(place, lambda rows: rows.assign(amount=rows["amount"].where(rows.index > 2, value)))
    code, out, err = estimate("--set", setting)
    refused(code, out, err, "3")
    assert "amount" in err
    assert published() == before


def test_everything_quarantined(place: Path, estimate: Estimate, published: Callable[[], object]) -> None:
    before = published()
    rule = {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "amount", "min_value": 0},
        "severity": "warning",
        "meta": {"rule_id": "amount_positive", "why": "A price is positive."},
    }
    (place / "expectations").mkdir()
    suite = {"name": "positive", "grain": "one row per line item", "expectations": [rule]}
    (place / "expectations" / "positive.json").write_text(json.dumps(suite))
    setting = bad_lines(place, lambda rows: rows.assign(amount=-rows["amount"]))
    code, out, err = estimate("--set", setting, "--set", "expectations=positive", "--set", "quarantine_limit=1.0")
    refused(code, out, err, "quarantine")
    assert "2,000" in err
    assert published() == before


def test_a_database_that_a_writer_holds(
    place: Path, estimate: Estimate, published: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = published()
    monkeypatch.setattr(steps.extract, "retries", 0)
    with duckdb.connect(str(place / "held.duckdb")) as connection:
        connection.execute("create or replace table lines as select * from 'lines.parquet'")
    (place / "lines.sql").write_text("select * from lines")
    hold = "import duckdb, sys, time; c = duckdb.connect('held.duckdb'); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], cwd=place, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        try:
            code, out, err = estimate("--set", "source={database: held.duckdb, line_items: lines.sql}")
        finally:
            writer.kill()
    refused(code, out, err, "locked")
    assert published() == before


def test_a_disk_that_is_full_at_publishing(estimate: Estimate, published: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert 0 < len(err.strip().splitlines()) <= MOST_LINES, err
    assert "Traceback" not in err


def test_the_previous_version_is_still_read_after_all_of_this(place: Path, published: Callable[[], object]) -> None:
    published()
    tables = sorted(path.name for path in (place / "published" / "spend" / "current").iterdir())
    assert set(tables) == TABLES
    assert shutil.disk_usage(place).free > 0
