"""``kill -9`` at any moment of publishing: a reader that polls all the time never finds anything but a whole version."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from groupwise.publishing import durable
from groupwise.publishing.folder import clean_up as remains
from groupwise.publishing.folder.folder_publish import locked
from groupwise.publishing.layout import Layout
from groupwise.publishing.publication import Publication

type Version = Callable[..., Publication]
type Latest = Callable[[], str | None]
type Whole = Callable[[], set[str]]

FEW, MANY = 8, 50
"""Publishers that must really die at a random moment; one that finishes first does not count."""
SEED = 20_261_101
NEVER = 10**9
POINTER = "rename published/small/_latest.json"


def in_child(work: Callable[[], None]) -> int:
    """Fork a process that does the work and exits 0, or 1 where it raises; returns its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001  the parent looks at the exit status
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def polling_reader(latest: Latest, folder: Path) -> Iterator[Path]:
    """A process that follows the pointer and checks every file, over and over; fails the test if it ever finds anything wrong."""
    stop, seen = folder / "stop", folder / "seen"

    def read() -> None:
        found: list[str] = []
        reads = 0
        while not stop.exists():
            run_id = latest()
            reads += 1
            if run_id is not None and run_id not in found:
                found.append(run_id)
        seen.write_text("\n".join([str(reads), *found]))

    reader = in_child(read)
    try:
        yield seen
    finally:
        stop.touch()
        code = exit_code(reader)
    assert code == 0, "the reader found a mixture, a missing table or a half-written file"


@pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=[pytest.mark.faults, pytest.mark.timeout(1_800)])])
def test_a_reader_sees_only_whole_versions_while_publishers_are_killed_at_random_moments(
    version: Version, latest: Latest, whole: Whole, tmp_path: Path, kills: int, figures: Callable[..., None]
):
    version("run-start")
    started = time.monotonic()
    version("run-again")
    usual = time.monotonic() - started
    rng = random.Random(SEED)
    outcomes: list[int] = []
    with polling_reader(latest, tmp_path) as seen:
        while outcomes.count(-signal.SIGKILL) < kills:
            assert len(outcomes) < 4 * kills, "the kills came too late to mean anything"
            child = in_child(lambda: version(f"run-{len(outcomes):03d}"))
            time.sleep(rng.uniform(0, 1.2 * usual))
            os.kill(child, signal.SIGKILL)
            outcomes.append(exit_code(child))
            assert latest() is not None
    assert set(outcomes) <= {0, -signal.SIGKILL}
    reads, *found = seen.read_text().splitlines()
    assert int(reads) > kills
    assert found[0] == "run-again"
    version("run-last")
    assert latest() == "run-last"
    assert {"run-start", "run-last"} <= whole()
    if kills == MANY:
        kind = "publishing killed at random moments, with a reader that polls"
        figures("publish-random", kind=kind, tried=len(outcomes), failed=kills, next_runs=1, lost=0, seed=SEED)


def publish_until(version: Version, run_id: str, at: int, record: Path) -> tuple[bool, list[str]]:
    """Publish in a child that kills itself before its step number ``at``: whether it did, and its steps, the last one not taken then."""
    record.unlink(missing_ok=True)

    def killing(step: str, path: Path) -> None:
        with record.open("a") as file:
            file.write(f"{step} {path.relative_to(record.parent)}\n".replace(run_id, "RUN"))
        if len(record.read_text().splitlines()) == at + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def publish() -> None:
        durable.announce = killing  # type: ignore[assignment]
        version(run_id)

    code = exit_code(in_child(publish))
    assert code in (0, -signal.SIGKILL)
    return code != 0, record.read_text().splitlines()


def clean_up(root: Path) -> None:
    """What the next run would do first; here between kills, so that every publication has the same steps."""
    layout = Layout(root, "small")
    with locked(layout):
        remains.clean_up(layout)


@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.faults)])
def test_a_reader_sees_only_whole_versions_when_a_publisher_is_killed_before_each_step(
    version: Version, latest: Latest, whole: Whole, root: Path, tmp_path: Path, every: int
):
    version("run-start")
    killed, steps = publish_until(version, "run-again", NEVER, tmp_path / "steps")
    assert not killed
    pointed = "run-again"
    with polling_reader(latest, tmp_path):
        for at in sorted({*range(0, len(steps), every), len(steps) - 1}):
            step = steps[at]
            killed, taken = publish_until(version, f"run-{at:03d}", at, tmp_path / "steps")
            assert (killed, taken) == (True, steps[: at + 1]), step
            # killed before a step: the pointer has moved where its rename was an earlier step
            pointed = f"run-{at:03d}" if POINTER in steps[:at] else pointed
            assert latest() == pointed, step
            clean_up(root)
            assert latest() == pointed, step
            assert (root / "small" / "current").resolve().name == f"rev={pointed}", step
    kinds = [step.split()[0] for step in steps]
    assert min(kinds.count("rename"), kinds.count("fsync")) >= 10
    version("run-last")
    assert latest() == "run-last"
    assert {"run-start", "run-last"} <= whole()


@pytest.mark.faults
def test_a_run_that_is_killed_while_it_cleans_up_what_another_left_does_no_harm(
    version: Version, latest: Latest, whole: Whole, root: Path, tmp_path: Path
):
    version("run-start")
    _, steps = publish_until(version, "run-again", NEVER, tmp_path / "steps")
    # everything of the version is in place but its manifest: as much as a run can leave that does not count
    before_manifest = steps.index("rename published/small/manifests/2026-11-01/RUN.json")
    with polling_reader(latest, tmp_path):
        left = True
        at = 0
        while left:
            killed, _ = publish_until(version, f"left-{at:03d}", before_manifest, tmp_path / "steps")
            assert killed
            killed, taken = publish_until(version, f"run-{at:03d}", at, tmp_path / "steps")
            assert killed
            assert latest() == "run-again", taken[-1]
            clean_up(root)
            # the clean-up is over once the run makes a folder of its own
            left = not any(step.startswith("mkdir") for step in taken)
            at += 1
    assert at > 5
    assert whole() == {"run-start", "run-again"}
