"""A step of a run: what it does, how often it is tried, and how long it may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from groupwise.source.time_limit import HOUR


def never(error: BaseException) -> bool:
    """No error passes by itself."""
    return False


@dataclass(frozen=True)
class Step:
    """One step, whoever runs it.

    ``name`` is its name in logs and messages, ``title`` says what it does. ``function`` takes the path of the run's folder first and leaves
    its results there. ``waits`` are the seconds before each further attempt, which is made where ``may_pass`` says of the error that it may
    pass by itself. ``seconds`` is how long one attempt may take.
    """

    name: str
    title: str
    function: Callable[..., Any]
    seconds: float = HOUR
    waits: tuple[float, ...] = ()
    may_pass: Callable[[BaseException], bool] = never
