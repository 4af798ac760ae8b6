"""Folders of runs stay for the days that their study says, none at work is touched, and privacy leaves nothing of rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from groupwise.commands.clean import clean_runs
from groupwise.retention import HELD, at_work, leftovers
from groupwise.run_folder import RUNS, RunFolder

NOW = datetime.now(UTC)
ROWS = ("cells.parquet", "rows.parquet", "quarantine/rows.parquet", "joint/core.parquet", "validation.json")

type Make = Callable[..., RunFolder]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A run's folder that is so many days old: ended ``well``, ``failed``, or killed (None)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GROUPWISE_SPILL", raising=False)

    def run(name: str, *, days: float = 0.0, how: str | None = "well", **study: object) -> RunFolder:
        folder = RUNS / name
        (folder / "quarantine").mkdir(parents=True)
        moment = (NOW - timedelta(days=days)).isoformat()
        (folder / "study.json").write_text(json.dumps({"name": "small", **study}))
        (folder / "start.json").write_text(json.dumps({"started_at": moment}))
        (folder / "run.log").write_text("a line\n")
        for row in ROWS:
            (folder / row).parent.mkdir(exist_ok=True)
            (folder / row).write_text("x" * 1000)
        if how is not None:
            (folder / "ended.json").write_text(json.dumps({"how": how, "ended_at": moment}))
        return RunFolder(folder.absolute())

    return run


def there() -> set[str]:
    return {path.name for path in RUNS.iterdir()}


def files(run: RunFolder) -> set[str]:
    return {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}


def test_a_week_for_runs_that_ended_well_and_a_month_for_the_others(make: Make) -> None:
    make("well-6", days=6.9)
    make("well-8", days=7.1)
    make("failed-29", days=29.9, how="failed")
    make("failed-31", days=30.1, how="failed")
    make("killed-29", days=29.9, how=None)
    make("killed-31", days=30.1, how=None)
    assert {old.run.run_id for old in leftovers(RUNS)} == {"well-8", "failed-31", "killed-31"}


def test_the_days_are_those_of_the_runs_own_study(make: Make) -> None:
    make("long", days=20, runs={"keep_days": 21})
    make("short", days=2, runs={"keep_days": 1})
    make("failed", days=2, how="failed", runs={"keep_days": 1, "keep_failed": 1})
    make("none", days=0, runs={"keep_days": 0})
    make("newer", days=8, runs={"keep_for_ever": True})
    assert {old.run.run_id for old in leftovers(RUNS)} == {"short", "failed", "none", "newer"}


def test_a_dry_run_says_what_clean_then_removes(make: Make) -> None:
    make("old", days=9)
    make("new")
    lines = list(clean_runs(dry_run=True))
    assert lines[0].startswith("would remove the folder of run old (small: ended well 9 days ago, 7 are kept; 0.0 MB)")
    assert there() == {"old", "new"}
    assert next(iter(clean_runs(dry_run=False))) == lines[0].replace("would remove", "removed")
    assert there() == {"new"}
    assert list(clean_runs(dry_run=False)) == [".groupwise/runs: removed 0.0 MB of 0 runs; 1 folders are there."]


def test_a_run_at_work_in_another_process_keeps_its_folder_whatever_its_age(make: Make) -> None:
    run = make("working", days=100, how=None, privacy={"of": "who", "k": 5})
    code = "import sys\nfrom filelock import FileLock\nwith FileLock(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    command = [sys.executable, "-c", code, str(run.path / HELD)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert list(leftovers(RUNS)) == []
        other.kill()
    assert [old.run.run_id for old in leftovers(RUNS)] == ["working"]


def test_a_folder_that_was_made_a_moment_ago_is_left(make: Make) -> None:
    make("begun", how=None, privacy={"of": "who", "k": 5}, runs={"keep_failed": 0})
    assert list(leftovers(RUNS, NOW)) == []


@pytest.mark.parametrize("how", ["failed", None])
def test_privacy_leaves_the_log_of_a_run_that_did_not_end_well(how: str | None, make: Make) -> None:
    run = make("private", days=1, how=how, privacy={"of": "who", "k": 5})
    assert next(iter(clean_runs(dry_run=False))).startswith("removed what must not stay of run private")
    assert files(run) == {"study.json", "start.json", "run.log"} | ({"ended.json"} if how else set())
    assert list(leftovers(RUNS)) == []
    [old] = leftovers(RUNS, NOW + timedelta(days=31))
    assert old.is_whole


def test_a_run_under_privacy_is_gone_as_it_ends(make: Make) -> None:
    make("old", days=9)
    run = make("private", how=None, privacy={"of": "who", "k": 5})
    with at_work(run):
        assert there() == {"private"}
        (run.path / "cells.parquet").write_text("rows")
    assert there() == set()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_fails_under_privacy_leaves_no_rows(error: type[BaseException], make: Make) -> None:
    run = make("private", how=None, privacy={"of": "who", "k": 5})
    with pytest.raises(error), at_work(run):
        raise error
    assert files(run) == {"study.json", "start.json", "ended.json", "run.log"} | ({HELD} if (run.path / HELD).exists() else set())


def test_a_run_that_ends_is_marked_and_stays(make: Make) -> None:
    run = make("good", how=None)
    with at_work(run):
        pass
    assert run.read_json("ended")["how"] == "well"
    with pytest.raises(ValueError, match="bad"), at_work(run):
        raise ValueError("bad")
    assert run.read_json("ended")["how"] == "failed"
    assert set(ROWS) <= files(run)


def test_what_a_killed_run_has_spilled_is_removed_and_nothing_else_there(make: Make, tmp_path: Path) -> None:
    spill = tmp_path / "disk"
    mine, others = spill / "groupwise-killed-duckdb-1-abc", spill / "groupwise-other-duckdb-1-abc"
    for folder in (mine, others, spill / "photos"):
        folder.mkdir(parents=True)
        (folder / "block").write_text("x")
    run = make("killed", days=1, how=None, resources={"spill": str(spill)})
    list(clean_runs(dry_run=False))
    assert {path.name for path in spill.iterdir()} == {others.name, "photos"}
    assert set(ROWS) <= files(run), "the run's own files stay for their days"


def test_links_and_strangers_in_the_folder_of_runs_are_left(make: Make, tmp_path: Path) -> None:
    make("old", days=9)
    (tmp_path / "elsewhere").mkdir()
    (RUNS / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (RUNS / "notes.txt").write_text("mine")
    list(clean_runs(dry_run=False))
    assert there() == {"link", "notes.txt"}
    assert (tmp_path / "elsewhere").is_dir()


def test_a_folder_whose_files_cannot_be_read_counts_as_a_failed_runs(make: Make) -> None:
    run = make("broken", days=9)
    for name in ("study", "start", "ended"):
        (run.path / f"{name}.json").write_text("{")
    old = (NOW - timedelta(days=29)).timestamp()
    os.utime(run.path, (old, old))
    assert list(leftovers(RUNS)) == []
    assert [found.run.run_id for found in leftovers(RUNS, NOW + timedelta(days=2))] == ["broken"]


def test_without_any_run_there_is_nothing_to_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(clean_runs(dry_run=True)) == [".groupwise/runs: would remove 0.0 MB of 0 runs; 0 folders are there."]
