"""A run in its own process: the same steps, retries and time limits as a flow run, and no server."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from types import FrameType
from typing import Any

from groupwise.pipeline.order import Ended, run_steps
from groupwise.pipeline.step import Step
from groupwise.pipeline.steps import EXTRACT, FIT, PUBLISH
from groupwise.progress import RunProgress

logger = logging.getLogger("groupwise.run")


def nothing() -> None:
    """There is nothing to be done ahead."""


def run_here(
    folder: str,
    as_of: date | None,
    today: date,
    progress: RunProgress,
    *,
    ahead: Callable[[], None] = nothing,
    publish: Callable[[str], str] | None = None,
) -> Ended:
    """Run the steps of the run in ``folder`` in this process. Raises what a step raises.

    Parameters
    ----------
    progress : told of every step as it begins and ends.
    ahead : called once it is known that something has to be run.
    publish : runs the step that publishes, in another process; None for this one.
    """
    # one place, for the record beside the fit
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside") as beside:
        return run_steps(_Here(progress, beside, ahead, publish), folder, as_of, today)


@dataclass(frozen=True)
class _Pending:
    future: Future[Any]

    def wait(self) -> None:
        wait([self.future])

    def result(self) -> Any:
        return self.future.result()


class InTurn:
    """Calls a step for one argument after the other: DuckDB has threads of its own."""

    def map(self, step: Step, arguments: Sequence[Any]) -> list[Any]:
        """The results, in order."""
        return [attempts(step, argument) for argument in arguments]


@dataclass(frozen=True)
class _Here:
    progress: RunProgress
    beside: ThreadPoolExecutor
    ahead: Callable[[], None]
    publish: Callable[[str], str] | None

    def call(self, step: Step, *arguments: Any) -> Any:
        began = time.monotonic()
        if step.name == EXTRACT.name:
            self.ahead()
        self.progress.begin(step.name, step.title)
        if step.name == PUBLISH.name:
            result: Any = self._published(*arguments)
        else:
            result = attempts(step, *arguments, *((self.progress.share,) if step.name == FIT.name else ()))
        self.progress.end(step.name)
        logger.info("%s: done in %.1f s", step.title, time.monotonic() - began)
        return result

    def _published(self, folder: str) -> str:
        return str(attempts(PUBLISH, folder).folder) if self.publish is None else self.publish(folder)

    def map(self, step: Step, arguments: Sequence[Any]) -> list[Any]:
        """One after the other: DuckDB has threads of its own."""
        return [self.call(step, argument) for argument in arguments]

    def start(self, step: Step, *arguments: Any) -> _Pending:
        return _Pending(self.beside.submit(attempts, step, *arguments))


def attempts(step: Step, *arguments: Any) -> Any:
    """The step's result; tried again, after the step's waits, where its error may pass by itself."""
    for pause in step.waits:
        try:
            return _attempt(step, *arguments)
        except Exception as error:
            if not step.may_pass(error):
                raise
            logger.warning("%s: %s Trying again in %g seconds.", step.title, error, pause)
        time.sleep(pause)
    return _attempt(step, *arguments)


def _attempt(step: Step, *arguments: Any) -> Any:
    with _alarm(step):
        return step.function(*arguments)


@contextmanager
def _alarm(step: Step) -> Iterator[None]:
    """Raise TimeoutError in the block once the step's time is over: in the main thread, where there are signals of this kind.

    The record runs in another thread and hands its limit to its own process; queries have a limit of their own in every thread.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{step.title}: not done within {step.seconds:,g} seconds")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, step.seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
