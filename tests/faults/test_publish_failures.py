"""A failure at any step of publishing leaves what was published before, and only that."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from groupwise.publishing import durable
from groupwise.publishing.folder import lock as lock_module
from groupwise.publishing.publication import Publication
from multilevel.errors import PublishError

type Version = Callable[..., Publication]
type Latest = Callable[[], str | None]
type Whole = Callable[[], set[str]]

DAY = date(2026, 11, 1)
EVERY = [11, pytest.param(1, marks=pytest.mark.faults)]
"""Every so many-th step by default, every step in the lane."""


class Failing:
    """Stands in for ``durable.announce``: fails at the n-th step, and keeps the names of the steps."""

    def __init__(self, at: int, error: Callable[[], BaseException]) -> None:
        self.at, self.error = at, error
        self.steps: list[str] = []

    def __call__(self, step: str, path: Path) -> None:
        self.steps.append(f"{step} {path.name}")
        if len(self.steps) == self.at + 1:
            raise self.error()


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def steps_of_a_publication(version: Version, monkeypatch: pytest.MonkeyPatch, run_id: str) -> list[str]:
    counting = Failing(-2, disk_full)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "announce", counting)
        version(run_id)
    return counting.steps


def test_every_kind_of_step_is_announced(version: Version, monkeypatch: pytest.MonkeyPatch):
    steps = steps_of_a_publication(version, monkeypatch, "first")
    assert {step.split()[0] for step in steps} == {"mkdir", "fsync", "write", "rename", "link", "remove"}
    assert [step for step in steps if step.startswith("rename")][-1] == "rename _latest.json"
    assert len(steps) > 40


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("error", [disk_full, KeyboardInterrupt, lambda: PermissionError(errno.EACCES, "Permission denied")])
def test_a_failure_at_any_step_publishes_nothing_and_keeps_the_last_version(
    version: Version,
    latest: Latest,
    whole: Whole,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], BaseException],
    every: int,
):
    version("good")
    n_steps = len(steps_of_a_publication(version, monkeypatch, "second"))
    pointed = "second"
    for at in sorted({*range(0, n_steps, every), n_steps - 1}):
        failing = Failing(at, error)
        with monkeypatch.context() as patch:
            patch.setattr(durable, "announce", failing)
            with pytest.raises((PublishError, KeyboardInterrupt)):
                version(f"try-{at}")
        # the pointer's own rename is the last moment at which a run can still be taken back
        is_in_place = "rename _latest.json" in failing.steps[:at]
        pointed = f"try-{at}" if is_in_place else pointed
        assert latest() == pointed, failing.steps[at]
        assert (f"try-{at}" in whole()) == is_in_place, failing.steps[at]
        assert (root / "small" / "current").resolve().name == f"rev={pointed}"
        assert not list((root / "small" / "reports").glob(f"*/try-{at}.html")) or is_in_place
    version("last")
    assert latest() == "last"


STEPS = [at if at % 12 == 0 else pytest.param(at, marks=pytest.mark.faults) for at in range(0, 45, 4)]


@pytest.mark.parametrize("at", STEPS)
def test_a_first_publication_that_fails_anywhere_leaves_no_pointer(
    version: Version, latest: Latest, whole: Whole, root: Path, monkeypatch: pytest.MonkeyPatch, at: int
):
    with monkeypatch.context() as patch:
        patch.setattr(durable, "announce", Failing(at, disk_full))
        with pytest.raises(PublishError, match="No space left on device"):
            version("first")
    assert latest() is None
    assert whole() == set()
    assert not (root / "small" / "current").exists()
    version("second")
    assert latest() == "second"


@pytest.mark.parametrize("at", STEPS)
def test_a_disk_that_stays_broken_leaves_the_last_version_and_the_next_run_cleans_up(
    version: Version, latest: Latest, whole: Whole, monkeypatch: pytest.MonkeyPatch, at: int
):
    version("good")
    taken = []

    def broken(step: str, path: Path) -> None:
        taken.append(step)
        if len(taken) > at:
            raise disk_full()

    with monkeypatch.context() as patch:
        patch.setattr(durable, "announce", broken)
        with pytest.raises((PublishError, OSError)):
            version("bad")
    assert latest() == "good"
    version("next")
    assert latest() == "next"
    assert whole() >= {"good", "next"}


def test_the_message_of_a_full_disk_says_where_and_that_nothing_was_replaced(version: Version, root: Path, monkeypatch: pytest.MonkeyPatch):
    version("good")
    monkeypatch.setattr(durable, "announce", Failing(10, disk_full))
    with pytest.raises(PublishError) as refused:
        version("bad")
    assert str(root / "small") in str(refused.value)
    assert "No space left on device" in str(refused.value)
    assert "the last good version stands" in str(refused.value)


def test_a_file_that_is_cut_short_while_it_is_written_publishes_nothing(version: Version, latest: Latest, whole: Whole, root: Path):
    """A real failing write, in a child whose files may not grow beyond a few kilobytes."""
    version("good")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, 8_192))
            version("bad", DAY, 20_000)
        except PublishError:
            status = 42
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert latest() == "good"
    assert whole() == {"good"}


def test_a_file_that_reads_back_otherwise_publishes_nothing(version: Version, latest: Latest, monkeypatch: pytest.MonkeyPatch):
    version("good")
    write_table = durable.write_table

    def lossy(path: Path, table, **options: object) -> None:
        write_table(path, table.slice(0, max(table.num_rows - 1, 0)), **options)

    monkeypatch.setattr(durable, "write_table", lossy)
    with pytest.raises(PublishError, match="does not read back as it was written"):
        version("bad")
    assert latest() == "good"


def test_what_a_run_that_died_has_left_is_removed_by_the_next(version: Version, latest: Latest, whole: Whole, root: Path):
    version("good")
    home = root / "small"
    for left in (
        home / ".staging" / "dead" / "tables",
        home / "versions" / "dt=2026-11-01" / "rev=dead",
        home / "quarantine" / "2026-11-01" / "dead",
    ):
        left.mkdir(parents=True)
        (left / "diagnostics.parquet").write_bytes(b"half")
    (home / "reports" / "2026-11-01" / "dead.html").write_text("half")
    (home / f"{durable.BUILDING}_latest.json").write_text("{")
    version("next")
    assert whole() == {"good", "next"}
    assert latest() == "next"
    assert not [path for path in home.rglob("*") if "dead" in path.name or path.name.startswith(durable.BUILDING)]


def test_a_link_that_ran_ahead_of_the_pointer_is_set_back_even_by_a_backfill(version: Version, latest: Latest, root: Path):
    version("first")
    version("second")
    home = root / "small"
    durable.point_link(home / "current", home / "versions" / "dt=2026-11-01" / "rev=first")
    version("backfill", DAY - timedelta(days=30))
    assert latest() == "second"
    assert (home / "current").resolve().name == "rev=second"


def test_runs_of_one_study_take_turns_and_say_so(root: Path, version: Version, monkeypatch: pytest.MonkeyPatch):
    version("good")
    messages: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock_module.hold_lock(root / "small" / ".lock", "small"):
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)
    threading.Timer(0.3, leave.set).start()
    with lock_module.hold_lock(root / "small" / ".lock", "small", messages.append):
        assert leave.is_set()
    holder.join()
    assert len(messages) == 1
    assert "another run is publishing; waiting" in messages[0]


def test_a_lock_that_is_never_released_is_an_error_with_its_place(root: Path, version: Version, monkeypatch: pytest.MonkeyPatch):
    version("good")
    monkeypatch.setattr(lock_module, "LOCK_SECONDS", 0.1)
    lock = root / "small" / ".lock"
    with (
        lock_module.hold_lock(lock, "small"),
        pytest.raises(PublishError, match="look for a stuck run"),
        lock_module.hold_lock(lock, "small"),
    ):
        pass
