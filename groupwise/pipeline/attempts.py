"""A step with its retries and its time limit, wherever it is called."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from groupwise.pipeline.step import Step

logger = logging.getLogger("groupwise.run")


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
