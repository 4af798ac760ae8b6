"""Places where nothing can be published are found out before a run spends anything, and nothing is left there."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.commands.plan import show_plan
from groupwise.pipeline.run_start import begin
from groupwise.publishing import durable
from groupwise.publishing.publication import Publication
from groupwise.publishing.target import open_target
from multilevel.errors import PublishError

NOBODY = 65_534
SYSTEM = ("/proc/published", "/proc/self/fd/published", "/sys/published", "/sys/kernel/published", "/dev/published")


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def refusal(place: object) -> str:
    with pytest.raises(PublishError) as refused:
        open_target(str(place), "small").check()
    return str(refused.value)


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user whom file modes concern."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def small_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a study of a few rows, for a place to publish to; gives its file."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"amount": [1.0, 2.0, 4.0] * 8, "category": ["a", "b", "c", "d"] * 6}), "lines.parquet")

    def write(place: str) -> str:
        text = "name: small\nformula: amount ~ 1 + (1 | category)\nsource: {parquet: lines.parquet}\nengine: likelihood\n"
        Path("study.yaml").write_text(text + f"publish_to: {place}\n")
        return "study.yaml"

    return write


@pytest.mark.parametrize("place", SYSTEM)
def test_a_plan_and_a_run_refuse_what_is_no_place_for_files(small_study: Callable[[str], str], place: str) -> None:
    file = small_study(place)
    for command in (
        lambda: show_plan(file, as_of=None, settings=[]),
        lambda: begin(file, engine=None, publish_to=None, settings=[], run_id="r1"),
    ):
        with pytest.raises(PublishError, match=rf"small: cannot publish to {place}/small: .*; .*name a folder on a disk that takes files"):
            command()
    assert not list(Path(place).parent.glob(".groupwise*"))
    assert not Path(".groupwise").exists()


def test_a_run_that_plans_to_publish_leaves_nothing_where_it_tried(small_study: Callable[[str], str], tmp_path: Path) -> None:
    file = small_study("deep/published")
    before = tree(tmp_path)
    show_plan(file, as_of=None, settings=[])
    assert tree(tmp_path) == before


def test_a_published_folder_is_as_it_was(version: Callable[..., Publication], root: Path) -> None:
    version("v1")
    target = open_target(str(root), "small")  # which writes the index, as every reader does
    before = tree(root)
    target.check()
    open_target(str(root), "other").check()
    assert tree(root) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EDQUOT])
@pytest.mark.parametrize("step", ["mkdir", "write", "fsync", "rename", "link"])
def test_each_step_that_a_file_system_refuses_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    def refuse(name: str, path: Path) -> None:
        if name == step:
            raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(durable, "announce", refuse)
    said = refusal(tmp_path / "published")
    assert (
        f"small: cannot publish to {tmp_path}/published/small: {tmp_path} refuses what publishing needs ({os.strerror(number)}); " in said
    )
    assert tree(tmp_path) == []


@pytest.mark.parametrize("closed", ["", "small", "small/versions", "small/reports", "small/.lock"])
def test_what_another_user_owns_is_named(closed: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        root = Path(made) / "published"
        (root / "small" / "versions").mkdir(parents=True)
        (root / "small" / "reports").mkdir()
        (root / "small" / ".lock").touch()
        for path in (Path(made), root, *root.rglob("*")):
            path.chmod(0o777)
        (root / closed).chmod(0o555)
        with as_nobody():
            assert f"{root / closed}" in refusal(root)
        (root / closed).chmod(0o777)
        with as_nobody():
            open_target(str(root), "small").check()


@pytest.mark.faults
def test_a_read_only_mount_is_named(tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(place)], check=True)
    try:
        assert f"{place} refuses what publishing needs (Read-only file system)" in refusal(place / "published")
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
