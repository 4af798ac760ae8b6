"""The lock: one run at a time publishes a study. The operating system frees the lock of a run that dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from groupwise.publishing.folder.own_files import in_the_way, kind_of
from multilevel.errors import PublishError

LOCK_SECONDS = 3_600.0


@contextmanager
def turn_if_free(lock: Path) -> Iterator[bool]:
    """Hold ``lock`` if nobody does and this process may; False, and nothing is held, otherwise."""
    held = FileLock(lock)
    try:
        if kind_of(lock) in ("a file", None):
            held.acquire(timeout=0)
    except (Timeout, OSError):
        pass
    try:
        yield held.is_locked
    finally:
        held.release()


@contextmanager
def hold_lock(lock: Path, subject: str, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold ``lock`` for the length of the block.

    Parameters
    ----------
    lock : the lock file; it stays. subject : what is locked, for messages. waiting : told once when another run holds the lock.

    Raises
    ------
    PublishError : another run holds the lock for an hour, or something else than a file is in its place.
    """
    if kind_of(lock) not in ("a file", None):
        raise PublishError(f"{subject}: {in_the_way(lock, 'a file')}")
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        if waiting is not None:
            waiting(f"{subject}: another run is publishing; waiting for its lock {lock}")
        try:
            held.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise PublishError(
                f"{subject}: another run has held {lock} for {LOCK_SECONDS / 60:.0f} minutes; look for a stuck run."
            ) from error
    try:
        yield
    finally:
        held.release()
