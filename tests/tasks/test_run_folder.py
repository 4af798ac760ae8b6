"""Run ids, which callers of Prefect's API may choose, name folders and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from multilevel.errors import StudyError
from tasks.run_folder import RUNS, make_run_folder, new_run_id

OUTSIDE = ["../../outside", "/tmp/outside", "..", ".", "a/b", "", "a\n", "a\0b", "\u202ea", "-x", "a" * 101]


@pytest.mark.parametrize("run_id", OUTSIDE)
def test_a_run_id_that_is_no_plain_name_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=r"run_id .*write letters, digits"):
        make_run_folder(run_id)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("run_id", ["r1", "2026.01_a-B", "20261128T171016-c665f05a"])
def test_a_plain_name_is_a_run_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_run_folder(run_id).path == tmp_path / RUNS / run_id


def test_a_run_that_is_given_no_id_gets_a_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_run_folder(new_run_id()).path.parent == tmp_path / RUNS
