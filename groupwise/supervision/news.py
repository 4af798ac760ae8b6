"""What a command tells the process that supervises it: how far it is, and where its flow run is kept.

Standard library only: the supervisor reads it before anything else is imported.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

_channel: int | None = None
_told: dict[str, Any] = {}


@dataclass
class News:
    """The latest of every fact that a command has told.

    ``step`` is what it does, ``published`` the folder that it has published, ``run_id`` the run, ``temporary`` the folder of its working
    files. ``api`` and the rest are how Prefect's API is reached: address, headers, and the file of trusted certificates (None: no check,
    as the user's settings say).
    """

    step: str | None = None
    run_id: str | None = None
    published: str | None = None
    temporary: str | None = None
    api: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    certificates: str | None = None

    def take(self, line: bytes) -> None:
        """Take in one line as ``tell`` writes it."""
        for name, value in json.loads(line).items():
            setattr(self, name, value)


class Reader:
    """Reads news from a pipe that does not block."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self.pipe = pipe
        self.news = News()
        self._rest = b""

    def read(self) -> bool:
        """Take in all that is there; False once nobody can write any more."""
        while True:
            try:
                data = os.read(self.pipe, 65_536)
            except BlockingIOError:
                return True
            if not data:
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self.news.take(line)


def tell_through(pipe: int) -> None:
    """From now on ``tell`` writes to ``pipe``."""
    global _channel  # noqa: PLW0603  a process has one supervisor
    _channel = pipe


def is_supervised() -> bool:
    """Whether a supervisor listens."""
    return _channel is not None


def told_last(fact: str) -> Any:
    """What this process has told of a fact; None where it has not."""
    return _told.get(fact)


def tell(**facts: Any) -> None:
    """Tell the supervisor, if there is one, and keep it for ``told_last``."""
    _told.update(facts)
    if _channel is not None:
        os.write(_channel, json.dumps(facts).encode() + b"\n")
