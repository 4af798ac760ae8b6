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

from tasks import durable
from tasks.publish import Publication

type Version = Callable[..., Publication]
type Latest = Callable[[], str | None]
type Whole = Callable[[], set[str]]

KILLS = 50
SEED = 20_261_101


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


def test_a_reader_sees_only_whole_versions_while_publishers_are_killed_at_random_moments(
    version: Version, latest: Latest, whole: Whole, tmp_path: Path
):
    started = time.monotonic()
    version("run-start")
    usual = time.monotonic() - started
    rng = random.Random(SEED)
    outcomes = []
    with polling_reader(latest, tmp_path) as seen:
        for i in range(KILLS):
            child = in_child(lambda i=i: version(f"run-{i:02d}"))  # type: ignore[misc]
            time.sleep(rng.uniform(0, 2 * usual))
            os.kill(child, signal.SIGKILL)
            outcomes.append(exit_code(child))
            assert latest() is not None
    assert outcomes.count(-signal.SIGKILL) > KILLS / 5, "the kills came too late to mean anything"
    reads, *found = seen.read_text().splitlines()
    assert int(reads) > KILLS
    assert found[0] == "run-start"
    version("run-last")
    assert latest() == "run-last"
    assert {"run-start", "run-last"} <= whole()


def test_a_reader_sees_only_whole_versions_when_a_publisher_is_killed_before_each_step(
    version: Version, latest: Latest, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    version("run-start")
    pointed, at, killed = "run-start", 0, True
    with polling_reader(latest, tmp_path):
        while killed:
            steps = tmp_path / f"steps-{at}"

            def killing(step: str, path: Path, at: int = at, steps: Path = steps) -> None:
                with steps.open("a") as file:
                    file.write(f"{step} {path.name}\n")
                if len(steps.read_text().splitlines()) == at + 1:
                    os.kill(os.getpid(), signal.SIGKILL)

            def publish_until_killed(at: int = at, killing: Callable[..., None] = killing) -> None:
                durable.announce = killing  # type: ignore[assignment]
                version(f"run-{at:02d}")

            code = exit_code(in_child(publish_until_killed))
            killed = code == -signal.SIGKILL
            assert killed or code == 0
            taken = steps.read_text().splitlines()
            # killed before a step: the pointer has moved where its rename was an earlier step
            pointed = f"run-{at:02d}" if "rename _latest.json" in taken[:at] else pointed
            assert latest() == pointed, taken[-1]
            at += 1
    assert at > 40
    version("run-last")
    assert latest() == "run-last"
    assert {"run-start", "run-last"} <= whole()
