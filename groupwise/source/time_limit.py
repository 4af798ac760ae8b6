"""How long the queries of a command or step may take: those that take longer are interrupted inside DuckDB.

A query on a user's data can be endless (a cross join, a range of 10^12 numbers, a recursion that a view hides), and a timeout in Python
does not reach DuckDB's own code.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import duckdb

from multilevel.errors import ResourceError

HOUR = 3_600.0
"""What each step of a run has for its queries, and a command that is told nothing else."""
MORE_TIME = "give them more time (--time-limit SECONDS)"
TABLE_FIRST = "make a table of the rows in the database first"
"""How a run's queries, whose limit nobody sets, take less time."""
AGAIN_SECONDS = 0.1
"""Between two interruptions: one that comes between two queries does not stop the second."""


class _Watch:
    """Interrupts the connections that are open when the time is over, and those that are opened afterwards."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._seconds = seconds
        self._done = threading.Event()
        self._open: list[duckdb.DuckDBPyConnection] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._interrupt, name="time-limit", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def add(self, connection: duckdb.DuckDBPyConnection) -> None:
        with self._lock:
            self._open.append(connection)

    def close(self, connection: duckdb.DuckDBPyConnection) -> None:
        # under the lock: a connection must not be interrupted while it is taken down
        with self._lock:
            self._open = [other for other in self._open if other is not connection]
            connection.close()

    def _interrupt(self) -> None:
        if self._done.wait(self._seconds):
            return
        self.is_over = True
        while not self._done.wait(AGAIN_SECONDS):
            with self._lock:
                for connection in self._open:
                    connection.interrupt()


_watch: ContextVar[_Watch | None] = ContextVar("_watch", default=None)


@contextmanager
def time_limit(seconds: float, subject: str, more_time: str) -> Iterator[None]:
    """Interrupt the queries on every ``watched`` connection of the block once so many seconds have passed.

    Parameters
    ----------
    subject : what begins the message: the study. more_time : how to get more time, as the end of the message.

    Raises
    ------
    ResourceError : a query was interrupted.
    """
    watch = _Watch(seconds)
    token = _watch.set(watch)
    watch.start()
    try:
        yield
    except Exception as error:
        if watch.is_over and _is_interrupted(error):
            raise ResourceError(
                f"{subject}: the queries on the source did not end within {seconds:,g} seconds. Look for a query without an end in "
                f"line_items, standardise_to or the views they read (a cross join, a long range, a recursion), take a shorter window, or "
                f"{more_time}."
            ) from error
        raise
    finally:
        _watch.reset(token)
        watch.stop()


def watched(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The connection, under the time limit that is in force; to be closed by ``close``."""
    watch = _watch.get()
    if watch is not None:
        watch.add(connection)
    return connection


def close(connection: duckdb.DuckDBPyConnection) -> None:
    """Close a connection, watched or not."""
    watch = _watch.get()
    if watch is None:
        connection.close()
    else:
        watch.close(connection)


def _is_interrupted(error: BaseException | None) -> bool:
    """Whether an interruption is behind the error."""
    while error is not None:
        if isinstance(error, duckdb.InterruptException):
            return True
        error = error.__cause__ or error.__context__
    return False
