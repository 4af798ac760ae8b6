"""A real small file system that fills up under the run's folder or the place to publish: one message, and the version before stays."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3_600)]
RUN_FOLDER = "the run's folder"
PUBLISH_TO = "the place to publish"
FREE_KILOBYTES = {RUN_FOLDER: (0, 64, 1_030), PUBLISH_TO: (0, 16, 128, 512)}
"""What is left of the file system when the run begins: each ends another step, or another file of it."""
FILLED_AFTER = ("relation.json", "validation.json", "cells.parquet", "tables/group_estimates.parquet")
"""Another program takes the last byte when the run has left this in its folder."""
WITHOUT_RECORD = ("--set", "expectations=null")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of sixteen megabytes; where none can be mounted the test fails, because nothing else is like a full disk."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"a small file system cannot be mounted ({done.stderr.strip()}); run this lane where mounting is allowed")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, leave_kilobytes: int) -> None:
    """Take all room but so much; a run that writes meanwhile may have been faster."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    space = os.statvfs(disk)
    with suppress(OSError):
        filler.write_bytes(b"x" * (space.f_bavail * space.f_frsize - leave_kilobytes * 1_024))


def versions(place: Path) -> dict[str, str]:
    kept = (path for path in place.rglob("*") if path.is_file() and ".staging" not in path.parts and path.name not in (".lock", "filler"))
    return {path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


class Disk:
    """Runs of one study while a disk is full, and what was wrong with their ends."""

    def __init__(self, full: str, disk: Path, work: Path, place: Path, start: Callable[..., Any], env: dict[str, str]) -> None:
        self.full, self.disk, self.work, self.place = full, disk, work, place
        self.start, self.env = start, env
        self.tried = self.failed = 0
        self.faults: list[str] = []

    def begin(self, *more: str) -> Any:
        return self.start(self.work, f"{os.getpid()}-full-{self.tried}", self.env, "estimate", "study.yaml", "--force", *more)

    def runs_with(self, kilobytes: int) -> None:
        """A run that begins with so much room."""
        before = versions(self.place)
        fill(self.disk, kilobytes)
        self.judge(f"{kilobytes} kB free in {self.full}", before, self.begin(*WITHOUT_RECORD))

    def fills_up_after(self, left: str, more: Sequence[str]) -> None:
        """A run whose disk is filled by another program when it has left a file."""
        before = versions(self.place)
        (self.disk / "filler").unlink(missing_ok=True)
        runs = self.work / ".groupwise" / "runs"
        known = set(runs.iterdir())
        run = self.begin(*more)
        assert run.wait_for(lambda: any(path.joinpath(left).exists() for path in set(runs.iterdir()) - known)), left
        fill(self.disk, 0)
        self.judge(f"{self.full} filled after {left}", before, run)

    def judge(self, what: str, before: dict[str, str], run: Any) -> None:
        ended = run.end(None)
        self.tried += 1
        self.failed += ended.code != 0
        found = []
        if ended.code not in (0, 1):
            found.append("another exit code")
        if ended.code and (ended.messages != 1 or "Traceback" in ended.err or "fault in groupwise" in ended.err):
            found.append("not one clear message")
        if ended.code and "disk" not in ended.err:
            found.append("the message does not speak of the disk")
        if ended.code and versions(self.place) != before:
            found.append("the version before is not as it was")
        found += [f"left running: {ended.left}"] if ended.left else []
        self.faults += [f"{what}: {fault}; exit code {ended.code}: {ended.err}" for fault in found]


@pytest.mark.parametrize("full", [RUN_FOLDER, PUBLISH_TO])
def test_a_full_disk_ends_the_run_with_one_message_and_loses_nothing(
    full: str,
    small_disk: Path,
    tmp_path: Path,
    study: Callable[..., Path],
    start: Any,
    prefect_server: dict[str, str],
    figures: Callable[..., None],
) -> None:
    work = study(small_disk / "work" if full == RUN_FOLDER else tmp_path / "work")
    place = tmp_path / "published"
    if full == PUBLISH_TO:
        place.symlink_to(small_disk / "published")
        (small_disk / "published").mkdir()
    disk = Disk(full, small_disk, work, place, start, prefect_server)
    good = disk.begin().end(None)
    assert good.code == 0, good.err
    for kilobytes in FREE_KILOBYTES[full]:
        disk.runs_with(kilobytes)
    if full == RUN_FOLDER:
        for number, left in enumerate(FILLED_AFTER):
            # the record of Great Expectations is written beside the fit, by a process of its own
            disk.fills_up_after(left, () if number % 2 else WITHOUT_RECORD)
    (small_disk / "filler").unlink()
    following = disk.begin().end(None)
    assert following.code == 0, following.err
    name = f"disk-{full.rsplit(maxsplit=1)[-1]}"
    figures(name, kind=f"disk full under {full}", tried=disk.tried, failed=disk.failed, next_runs=1, lost=len(disk.faults))
    assert disk.failed > 0, "no run met a full disk"
    assert not disk.faults, "\n".join(disk.faults)
