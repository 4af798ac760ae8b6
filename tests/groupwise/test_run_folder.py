"""Run ids, which callers of Prefect's API may choose, name folders and files."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from groupwise.run_folder import RUNS, RunFolder, make_run_folder, new_run_id
from multilevel.errors import StudyError

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


@contextmanager
def full_disk() -> Iterator[None]:
    """No byte can be written to a file by this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_the_disk_does_not_take_is_not_there_in_part(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(OSError, match="File too large"), full_disk():
        run.write_json("validation", {"rows": 1})
    assert list(tmp_path.iterdir()) == []
    assert run.read_json("validation") == {}


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_json("validation", {"rows": 1})
    with pytest.raises(OSError, match="File too large"), full_disk():
        run.write_json("validation", {"rows": 2})
    assert run.read_json("validation") == {"rows": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["validation.json"]
