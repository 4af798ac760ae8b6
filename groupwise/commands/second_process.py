"""A process beside a run's own: it loads what publishing needs while the first one reads and fits, and then publishes.

Half of a small run's time is the loading of libraries, and a thread cannot load one while another computes. Only what loads quickly is
imported here, so that the process starts before anything else does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from multilevel.errors import GroupwiseError, ResourceError


class SecondProcess:
    """A forked process that takes one call after another. Make it while this process has one thread, and end it with ``close``."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("fork"))
        self._number = self._pool.submit(os.getpid)
        # a library that cannot be loaded fails again, and is told, in the call that needs it
        self._pool.submit(_load)

    def log_to(self, path: Path, level: int) -> None:
        """What it logs goes to the run's log ``path``, and from ``level`` on to the person who waits."""
        with suppress(BrokenProcessPool):  # told when it is to publish
            self._pool.submit(_log_to, path, level)

    def publish(self, folder: str) -> str:
        """Publish the run in ``folder``; the published folder. Raises what the step raises, ResourceError where the process was killed."""
        try:
            return self._result(self._pool.submit(_publish, folder))
        except BrokenProcessPool as error:
            message = (
                "The process that publishes was killed (the system kills what takes too much memory); the version is published whole, or "
                "not at all: `groupwise show` tells which."
            )
            raise ResourceError(message) from error

    def _result(self, future: Future[str]) -> str:
        try:
            return future.result()
        except KeyboardInterrupt:
            # it tidies up too; whoever supervises this process does not wait long
            with suppress(ProcessLookupError):
                os.kill(self._number.result(), signal.SIGINT)
            raise

    def close(self, *, at_once: bool = False) -> None:
        """End it: after the calls that it has been given, or ``at_once``."""
        if at_once:
            with suppress(ProcessLookupError, BrokenProcessPool, CancelledError):
                os.kill(self._number.result(), signal.SIGKILL)
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def second_process(wanted: bool) -> Iterator[SecondProcess | None]:
    """A second process that lives as long as the block; None where it is not ``wanted``."""
    if not wanted:
        yield None
        return
    second = SecondProcess()
    try:
        yield second
    except GroupwiseError:
        # a refusal waits for nothing
        second.close(at_once=True)
        raise
    finally:
        second.close()


def _load() -> None:
    import groupwise.pipeline.own_process
    import groupwise.report  # noqa: F401


def _log_to(path: Path, level: int) -> None:
    from groupwise.commands.run_log import log_steps, say_on_stderr

    say_on_stderr(level)
    log_steps(path)


def _publish(folder: str) -> Any:
    from groupwise.pipeline.attempts import attempts
    from groupwise.pipeline.steps import PUBLISH

    return str(attempts(PUBLISH, folder).folder)
