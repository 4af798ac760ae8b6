"""``groupwise backfill``: one version a day, oldest first; days that are published are skipped, and the pointer never goes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.flows.in_process import run_command

STUDY = """
name: spend
formula: amount ~ 1 + (1 | region)
source: {parquet: lines.parquet}
window: {column: day, days: 365}
engine: likelihood
"""

type Backfill = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def backfill(tmp_path: Path, lines: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Backfill:
    """Run ``groupwise backfill spend.yaml ...`` in a folder of its own; gives exit code, lines of stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    lines.to_parquet("lines.parquet")
    Path("spend.yaml").write_text(STUDY)

    def run(*arguments: str) -> tuple[int, list[str], str]:
        code, out, err = run_command(monkeypatch, capfd, "backfill", "spend.yaml", *arguments)
        return code, out.splitlines(), err

    return run


MONTHS = ("--from", "2024-07-01", "--to", "2024-08-31", "--every", "month-end")


def day_of(folder: str) -> str:
    return Path(folder).parent.name.removeprefix("dt=")


def latest() -> str:
    return str(json.loads(Path("published/spend/_latest.json").read_text())["as_of"])


@pytest.mark.operations
def test_days_are_published_oldest_first_and_the_second_time_skipped(backfill: Backfill) -> None:
    code, plan, _ = backfill(*MONTHS, "--dry-run")
    assert (code, [line.split()[0] for line in plan]) == (0, ["2024-07-31", "2024-08-31"])
    assert {line.partition(" ")[2] for line in plan} == {"would run"}
    assert not Path("published").exists()

    code, folders, err = backfill(*MONTHS)
    assert code == 0, err
    assert [day_of(folder) for folder in folders] == ["2024-07-31", "2024-08-31"]
    assert [line for line in err.splitlines() if line.startswith("as of")] == [
        "as of 2024-07-31 (1 of 2)",
        "as of 2024-08-31 (2 of 2)",
    ]
    assert latest() == "2024-08-31"
    for folder in folders:
        run = Path(folder).name.removeprefix("rev=")
        assert Path(".groupwise/runs", run, "run.log").read_text().count("fit the models: done in") == 1

    _, plan, _ = backfill(*MONTHS, "--dry-run")
    assert {line.partition(" ")[2] for line in plan} == {"is published from the same files, would be skipped"}
    code, again, err = backfill(*MONTHS)
    assert (code, again) == (0, folders)
    assert err.count("Unchanged") == 2

    code, earlier, err = backfill("--from", "2024-05-31", "--to", "2024-05-31", "--every", "month")
    assert code == 0, err
    assert day_of(earlier[0]) == "2024-05-31"
    assert latest() == "2024-08-31"


def variances(folder: str) -> pd.DataFrame:
    table = pd.read_parquet(f"{folder}/variance_components.parquet")
    return table.set_index(["grouping_factor", "quantity"])[["estimate", "std_error", "lower", "upper"]].astype(float)


def searched(folder: str) -> dict[str, int]:
    """Evaluations of the fit, and where it began."""
    run = Path(".groupwise/runs", Path(folder).name.removeprefix("rev="))
    near = json.loads((run / "near.json").read_text())
    report = json.loads((run / "report.json").read_text())
    return {"evaluations": report["fit_record"]["evaluations"], "near": len(near)}


def test_a_days_search_for_the_variances_begins_where_the_one_before_ended_and_finds_the_same(backfill: Backfill) -> None:
    code, folders, err = backfill(*MONTHS)
    assert code == 0, err
    alone = backfill("--from", "2024-08-31", "--to", "2024-08-31", "--every", "month", "--force")[1][0]
    assert [searched(folder)["near"] for folder in (*folders, alone)] == [0, 1, 0]
    assert searched(folders[1])["evaluations"] < searched(alone)["evaluations"]
    pd.testing.assert_frame_equal(variances(folders[1]), variances(alone), rtol=1e-5)


def test_a_day_that_is_refused_is_named_and_those_before_it_stay(backfill: Backfill, lines: pd.DataFrame) -> None:
    assert pd.Timestamp("2024-10-21") < lines["day"].max() < pd.Timestamp("2024-10-28")
    code, folders, err = backfill("--from", "2024-11-30", "--to", "2025-11-30", "--every", "week", "--set", "window.days=40")
    assert code == 1
    assert [day_of(folder) for folder in folders] == ["2024-11-30"]
    assert "groupwise: as of 2024-12-07 (2 of 53)" in err
    assert "no line items in the window" in err
    assert "The same command goes on with this day." in err


def test_without_a_window_there_is_nothing_to_go_back_to(backfill: Backfill) -> None:
    code, folders, err = backfill(*MONTHS, "--set", "window=null")
    assert (code, folders) == (1, [])
    assert "without a window every day has the same estimates" in err
