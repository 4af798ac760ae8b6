"""Waiting for a library that hears no signals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

GRACE_SECONDS = 0.3


def in_thread[T](work: Callable[[], T]) -> T:
    """The result of ``work``, waited for in a way that a signal ends: it would not end a call into the library, nor the call an exit."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised again by whoever waits
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return done.result()
    except KeyboardInterrupt:
        # what is under way shall not land after the withdrawal that follows
        wait([done], GRACE_SECONDS)
        raise
