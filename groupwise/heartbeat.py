"""A line every few seconds that says what a command is doing, where there is no terminal to draw a bar on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 9.0
"""Between two lines: at least one in ten seconds, late ones included."""


class Heartbeat:
    """What is being done, said again while it lasts."""

    def __init__(self, say: Callable[[str], None], every: float = SECONDS) -> None:
        self._say, self._every = say, every
        self._doing, self._since = "", time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """No line after this."""
        self._over.set()
        self._thread.join()

    def now(self, doing: str) -> None:
        """What is done from here on, its time counted anew."""
        self._doing, self._since = doing, time.monotonic()

    def detail(self, doing: str) -> None:
        """What is done, its time going on."""
        self._doing = doing

    def _beat(self) -> None:
        while not self._over.wait(self._every):
            if self._doing:
                self._say(f"{self._doing}: {time.monotonic() - self._since:,.0f} s so far")


@contextmanager
def heartbeat(say: Callable[[str], None]) -> Iterator[Heartbeat]:
    """A heartbeat for the time of the block."""
    beat = Heartbeat(say)
    beat.start()
    try:
        yield beat
    finally:
        beat.stop()
