"""Prefect's folder is full, locked or read-only: a run says so with what to do, or publishes and says what Prefect could not record."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1_200)]
REFUSED_SECONDS = 60.0
"""A folder that cannot be used is found out before Prefect's server is waited for (which may take 240 seconds)."""
LOCKED_SECONDS = 360.0
"""With a database that stays locked: the question whether the run is still wanted, then the flow run's end."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """PREFECT_HOME on a small file system."""
    place = tmp_path / "home"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def full(home: Path) -> Iterator[None]:
    space = os.statvfs(home)
    with suppress(OSError):
        (home / "filler").write_bytes(b"x" * (space.f_bavail * space.f_frsize))
    yield
    (home / "filler").unlink()


@contextmanager
def locked(home: Path) -> Iterator[None]:
    holder = sqlite3.connect(home / "prefect.db", timeout=60, isolation_level=None)
    holder.execute("begin exclusive")
    yield
    holder.close()


@contextmanager
def read_only(home: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(home)], check=True)


@pytest.fixture
def runs(study: Callable[..., Path], home: Path, start: Any, env: Callable[..., dict[str, str]]) -> Callable[[], Any]:
    """Start a run with a server of its own; one has been before, so that Prefect's folder is as it mostly is."""
    work = study()

    def begin() -> Any:
        return start(
            work, f"{os.getpid()}-home", env(PREFECT_HOME=str(home)), "estimate", "study.yaml", "--force", "--flow", *WITHOUT_RECORD
        )

    good = begin().end(None)
    assert good.code == 0, good.err
    return begin


WITHOUT_RECORD = ("--set", "expectations=null")


@pytest.mark.parametrize("state", [full, locked, read_only])
def test_a_folder_that_cannot_be_used_is_named_at_once_and_the_next_run_publishes(
    home: Path, runs: Callable[[], Any], state: Callable[[Path], Any]
) -> None:
    with state(home):
        ended = runs().end(None)
    assert (ended.code, ended.messages, ended.left) == (1, 1, [])
    assert f"Prefect's folder {home} (PREFECT_HOME) cannot be used" in ended.err
    assert "Traceback" not in ended.err
    assert ended.seconds < REFUSED_SECONDS
    following = runs().end(None)
    assert following.code == 0, following.err


@pytest.mark.parametrize(("state", "most_seconds"), [(full, 120.0), (locked, LOCKED_SECONDS)])
def test_a_folder_that_fails_while_a_run_goes_on_ends_in_words_and_the_next_run_publishes(
    tmp_path: Path, home: Path, runs: Callable[[], Any], state: Callable[[Path], Any], most_seconds: float
) -> None:
    folder = tmp_path / ".groupwise" / "runs"
    known = set(folder.iterdir())
    run = runs()
    assert run.wait_for(lambda: any((path / "relation.json").exists() for path in set(folder.iterdir()) - known))
    with state(home):
        ended = run.end(None)
    assert "Traceback" not in ended.err
    assert "Error logging to API" not in ended.err
    assert "PREFECT_HOME" in ended.err
    assert (ended.messages, ended.left) == (ended.code, [])
    published = Path(ended.out.strip() or "nowhere")
    assert published.is_dir() == (ended.code == 0)
    assert ended.seconds < most_seconds
    following = runs().end(None)
    assert following.code == 0, following.err
