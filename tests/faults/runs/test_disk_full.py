"""A real small file system that fills up under the run's folder or the place to publish: one message, and the version before stays."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1_800)]
FREE_KILOBYTES = (0, 4, 16, 64, 128, 256)
"""What is left of the file system when the run begins: each ends another step."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes; where none can be mounted the test fails, because nothing else is like a full disk."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"a small file system cannot be mounted ({done.stderr.strip()}); run this lane where mounting is allowed")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, leave_kilobytes: int) -> None:
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    space = os.statvfs(disk)
    filler.write_bytes(b"x" * (space.f_bavail * space.f_frsize - leave_kilobytes * 1_024))


def versions(place: Path) -> dict[str, str]:
    kept = (path for path in place.rglob("*") if path.is_file() and ".staging" not in path.parts and path.name not in (".lock", "filler"))
    return {path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


@pytest.mark.parametrize("full", ["the run's folder", "the place to publish"])
def test_a_full_disk_ends_the_run_with_one_message_and_loses_nothing(
    full: str,
    small_disk: Path,
    tmp_path: Path,
    study: Callable[..., Path],
    start: Any,
    prefect_server: dict[str, str],
    figures: Callable[..., None],
) -> None:
    work = study(small_disk / "work" if full == "the run's folder" else tmp_path / "work")
    place = tmp_path / "published"
    if full == "the place to publish":
        place.symlink_to(small_disk / "published")
        (small_disk / "published").mkdir()
    mark = f"{os.getpid()}-full-"
    good = start(work, f"{mark}good", prefect_server, "estimate", "study.yaml").end(None)
    assert good.code == 0, good.err
    faults, failed = [], 0
    for left in FREE_KILOBYTES:
        before = versions(place)
        fill(small_disk, left)
        ended = start(work, f"{mark}{left}", prefect_server, "estimate", "study.yaml").end(None)
        failed += ended.code != 0
        if ended.code not in (0, 1) or (ended.code and (ended.messages != 1 or "unexpected" in ended.err or "Traceback" in ended.err)):
            faults.append(f"{left} kB free in {full}: exit code {ended.code}: {ended.err}")
        if ended.code and versions(place) != before:
            faults.append(f"{left} kB free in {full}: the version before is not as it was")
        faults += [f"{left} kB free in {full}: left running: {ended.left}"] if ended.left else []
    (small_disk / "filler").unlink()
    following = start(work, f"{mark}after", prefect_server, "estimate", "study.yaml").end(None)
    assert following.code == 0, following.err
    kind = f"disk full under {full}"
    figures(f"disk-{full.rsplit(maxsplit=1)[-1]}", kind=kind, tried=len(FREE_KILOBYTES), failed=failed, next_runs=1, lost=len(faults))
    assert failed > 0, "no run met a full disk"
    assert not faults, "\n".join(faults)
