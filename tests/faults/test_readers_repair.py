"""A run that is killed between the link and the pointer, or before the index: the next reader brings all to the pointer's version."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from groupwise.publishing import durable
from groupwise.publishing.folder.lock import hold_lock
from groupwise.publishing.folder.repair import repair
from groupwise.publishing.folder.report_index import write_index
from groupwise.publishing.layout import Layout
from groupwise.publishing.publication import Publication
from groupwise.publishing.target import open_target

type Make = Callable[..., Publication]


def killed_before(step: str, name: str, work: Callable[[], object]) -> None:
    """Do the work in a child that kills itself before a step."""
    child = os.fork()
    if child == 0:

        def kill(taken: str, path: Path) -> None:
            if (taken, path.name) == (step, name):
                os.kill(os.getpid(), signal.SIGKILL)

        durable.announce = kill  # type: ignore[assignment]
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.fixture
def layout(version: Make, root: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """One version with an index; every version has a contract of its own."""
    contracts = iter(range(100))
    monkeypatch.setattr("groupwise.publishing.folder.folder_publish.contract_text", lambda *_: f"id: {next(contracts)}\n")
    version("v1")
    write_index(root)
    return Layout(root, "small")


def test_a_link_a_contract_and_an_index_ahead_of_the_pointer_are_set_back_by_a_reader(version: Make, layout: Layout):
    killed_before("rename", "_latest.json", lambda: version("v2"))
    assert layout.current.resolve().name == "rev=v2"
    ahead = layout.contract.read_text()
    target = open_target(str(layout.root), "small")
    latest = target.latest()
    assert latest is not None
    assert latest.run_id == "v1"
    assert layout.current.resolve().name == "rev=v1"
    assert layout.contract.read_text() == "id: 0\n" != ahead
    assert not list(layout.home.glob(f"{durable.BUILDING}current"))
    assert {found.run_id for found in target.versions()} == {"v1", "v2"}, "the version itself is whole"


def test_an_index_behind_the_pointer_is_written_by_a_reader(version: Make, layout: Layout):
    index = layout.root / "index.html"
    version("v2")
    assert "v2" not in index.read_text()
    open_target(str(layout.root), "small")
    assert "v2" in index.read_text()


def test_a_first_run_that_died_before_its_pointer_leaves_no_current(version: Make, root: Path):
    killed_before("rename", "_latest.json", lambda: version("v1"))
    layout = Layout(root, "small")
    assert layout.current.is_symlink()
    assert open_target(str(root), "small").latest() is None
    assert not layout.current.is_symlink()
    assert not layout.contract.exists()


def test_a_reader_leaves_everything_while_a_run_holds_the_lock(version: Make, layout: Layout):
    killed_before("rename", "_latest.json", lambda: version("v2"))
    with hold_lock(layout.lock, "small"):
        repair(layout)
        assert layout.current.resolve().name == "rev=v2"
    repair(layout)
    assert layout.current.resolve().name == "rev=v1"


def test_a_reader_that_may_not_write_reads_the_pointers_version(version: Make, layout: Layout, monkeypatch: pytest.MonkeyPatch):
    killed_before("rename", "_latest.json", lambda: version("v2"))

    def read_only(step: str, path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(durable, "announce", read_only)
    target = open_target(str(layout.root), "small")
    latest = target.latest()
    assert latest is not None
    assert set(target.tables(latest)["diagnostics"]["run_id"].to_pylist()) == {"v1"}


def test_where_all_agree_a_reader_writes_nothing(version: Make, layout: Layout, monkeypatch: pytest.MonkeyPatch):
    def never(step: str, path: Path) -> None:
        raise AssertionError(f"{step} {path}")

    monkeypatch.setattr(durable, "announce", never)
    open_target(str(layout.root), "small")
