"""Links, folders, pipes and sockets where files of ours should be: said by name, never waited for, and nothing is written outside."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from groupwise.publishing import durable
from groupwise.publishing.folder.folder_versions import rollback, versions
from groupwise.publishing.layout import Layout, open_layout
from groupwise.publishing.publication import Publication
from groupwise.publishing.target import LocalFolder, open_target
from multilevel.errors import PublishError

type Make = Callable[..., Publication]

DAY = date(2026, 11, 1)
FILES = ("catalog.sql", ".catalog.lock", "index.html", "small/_latest.json", "small/.lock", "small/contract.odcs.yaml")
FOLDERS = ("versions", "manifests", "reports", "quarantine", "contracts", "joint")


def make(kind: str, path: Path, outside: Path) -> None:
    """Put something of this kind in the place of whatever is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.remove(path)
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("somebody's")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            back = Path.cwd()
            os.chdir(path.parent)  # a socket's path may have a hundred characters
            made.bind(path.name)
            os.chdir(back)
    elif kind == "link":
        path.symlink_to(outside)
    else:
        path.symlink_to(outside / "nowhere")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept.txt").write_text("kept")
    return folder


def untouched(outside: Path) -> bool:
    return {path.name: path.read_text() for path in outside.iterdir()} == {"kept.txt": "kept"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "kind", ["folder", "pipe", "dangling", *(pytest.param(kind, marks=pytest.mark.faults) for kind in ("socket", "link"))]
)
def test_what_is_no_file_in_the_place_of_a_file_is_named_before_a_run_spends_anything(
    version: Make, root: Path, outside: Path, tmp_path: Path, kind: str
):
    version("v1")
    for name in FILES:
        kept = tmp_path / "kept"
        if (root / name).exists():
            (root / name).rename(kept)
        make(kind, root / name, outside)
        for publish in (lambda: LocalFolder(open_layout(str(root), "small")).check(), lambda: version("v2")):
            with pytest.raises(PublishError) as refused:
                publish()
            assert str(root / name) in str(refused.value)
            assert "move it away" in str(refused.value)
        assert untouched(outside)
        assert not Layout(root, "small").version(DAY, "v2").exists()
        durable.remove(root / name)
        if kept.exists():
            kept.rename(root / name)
    assert version("v2").is_latest


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "link", "dangling"])
def test_what_is_no_folder_in_the_place_of_a_folder_or_of_a_day_is_named(
    version: Make, root: Path, outside: Path, tmp_path: Path, kind: str
):
    version("v1")
    for folder in FOLDERS:
        day = f"dt={DAY}" if folder == "versions" else str(DAY)
        for place in (root / "small" / folder / day, root / "small" / folder):
            place.rename(tmp_path / "kept")
            make(kind, place, outside)
            with pytest.raises(PublishError) as refused:
                version("v2")
            assert str(place) in str(refused.value)
            assert untouched(outside)
            place.unlink()
            (tmp_path / "kept").rename(place)
    assert version("v2").is_latest


@pytest.mark.parametrize("kind", ["folder", "file", "pipe"])
def test_what_is_no_link_in_the_place_of_current_is_named_and_readers_go_on(version: Make, root: Path, outside: Path, kind: str):
    version("v1")
    (root / "small" / "current").unlink()
    make(kind, root / "small" / "current", outside)
    with pytest.raises(PublishError, match=r"current is a .*, where groupwise keeps a link"):
        version("v2")
    target = open_target(str(root), "small")
    latest = target.latest()
    assert latest is not None
    assert target.tables(latest)["diagnostics"].num_rows == 3


@pytest.mark.parametrize("leads", ["outside", "nowhere"])
def test_a_current_that_leads_elsewhere_is_set_right_by_a_reader(version: Make, root: Path, outside: Path, leads: str):
    version("v1")
    current = root / "small" / "current"
    current.unlink()
    current.symlink_to(outside if leads == "outside" else outside / "nowhere")
    open_target(str(root), "small")
    assert current.resolve().name == "rev=v1"
    assert untouched(outside)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "link", "dangling"])
def test_readers_name_what_is_no_file_and_never_wait(
    version: Make, root: Path, outside: Path, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    version("v1")
    version("v2")
    layout = Layout(root, "small")
    target = LocalFolder(layout)
    latest = target.latest()
    assert latest is not None
    table, joint = layout.version(DAY, "v2") / "diagnostics.parquet", layout.joint_tables(DAY, "v2") / "core.parquet"
    make(kind, table, outside)
    make(kind, joint, outside)
    with pytest.raises(PublishError, match=r"diagnostics[.]parquet is a"):
        target.tables(latest)
    with pytest.raises(PublishError, match=r"core[.]parquet is a"):
        target.joint(latest, tmp_path)
    make(kind, layout.manifest(DAY, "v1"), outside)
    assert [found.run_id for found in versions(layout)] == ["v2"]
    assert "v1.json is a" in caplog.text
    make(kind, layout.pointer, outside)
    with pytest.raises(PublishError, match=r"_latest[.]json is a"):
        target.latest()


def test_a_link_between_two_days_does_not_have_the_clean_up_remove_a_version(version: Make, root: Path):
    version("v1")
    layout = Layout(root, "small")
    (layout.versions / "dt=2026-11-09").symlink_to(layout.version(DAY, "v1").parent)
    for work in (lambda: version("v2"), lambda: rollback(layout, "v1")):
        with pytest.raises(PublishError, match="dt=2026-11-09 is a link to"):
            work()
    assert (layout.version(DAY, "v1") / "diagnostics.parquet").is_file()


@pytest.mark.parametrize("left", ["small/.building-_latest.json", ".building-catalog.sql", "small/.building-current"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_lies_where_a_file_is_built_is_removed_and_not_written_through(version: Make, root: Path, outside: Path, left: str, kind: str):
    version("v1")
    make("pipe", root / left, outside) if kind == "pipe" else (root / left).symlink_to(outside / "kept.txt")
    assert version("v2").is_latest
    assert untouched(outside)


@pytest.mark.parametrize("kind", ["file", "pipe", "dangling"])
def test_something_else_than_a_folder_above_the_place_is_named(tmp_path: Path, outside: Path, kind: str):
    make(kind, tmp_path / "data", outside)
    with pytest.raises(PublishError, match=r"data is a .*; name a folder"):
        open_target(str(tmp_path / "data" / "published"), "small")


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["deep"] * 1_200), "loop/published"])
def test_a_place_that_nobody_can_look_at_is_said(tmp_path: Path, name: str):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(PublishError, match=r"cannot be looked at|is a link; name a folder"):
        open_target(str(tmp_path / name), "small")


def test_foreign_files_and_folders_do_no_harm(version: Make, root: Path):
    version("v1")
    for folder in ("", "versions", "manifests", "reports", "quarantine"):
        (root / "small" / folder / "README").write_text("read me")
        (root / "small" / folder / ".snapshots").mkdir()
    assert version("v2").is_latest
