"""Where a run's log lines go: into the run's file, and some of them to the person who waits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groupwise.printable import printable_lines


class PlainFormatter(logging.Formatter):
    """Log lines for a terminal, written out like everything else on it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return printable_lines(super().format(record))


def say_on_stderr(level: int) -> None:
    """What a run says of itself is for the person who waits."""
    told = logging.StreamHandler()
    told.setFormatter(PlainFormatter())
    told.setLevel(level)
    logging.getLogger("groupwise").addHandler(told)


class _RunLog(logging.FileHandler):
    """The run's log, which says nothing on the console when its disk is full: the step that the disk fails says so, once."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Leave the record out."""


def _log_file(path: Path) -> logging.Handler:
    handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    return handler


def log_steps(path: Path) -> None:
    """The run's own log lines in ``path``."""
    logger = logging.getLogger("groupwise")
    logger.setLevel(logging.INFO)
    logger.addHandler(_log_file(path))


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """The run's own log lines in ``path``, for the block: of one run among several in this process."""
    logger = logging.getLogger("groupwise")
    logger.setLevel(logging.INFO)
    handler = _log_file(path)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def log_consoles_to(path: Path) -> None:
    """Every console handler of Prefect's loggers writes to ``path`` instead."""
    handler: logging.Handler | None = None
    names = [name for name in logging.root.manager.loggerDict if name.startswith(("prefect", "uvicorn", "fastapi"))]
    for logger in [logging.getLogger(), *map(logging.getLogger, names)]:
        consoles = [own for own in logger.handlers if _is_console(own)]
        for console in consoles:
            logger.removeHandler(console)
        if consoles:
            handler = handler or _log_file(path)
            logger.addHandler(handler)


def _is_console(handler: logging.Handler) -> bool:
    is_stream = isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    return is_stream or type(handler).__name__ == "PrefectConsoleHandler"
