"""Progress of a command: a rich bar or clock on a terminal; elsewhere a line at least every ten seconds."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from groupwise.heartbeat import Heartbeat, heartbeat
from groupwise.printable import printable

SHARES = {"extract": 0.05, "validate": 0.1, "compress": 0.15, "fit": 0.6, "check": 0.01, "publish": 0.09}
"""What each step of a run takes of the whole, roughly: for a bar that moves evenly."""


@contextmanager
def fitting_progress() -> Iterator[Callable[[str, float], None] | None]:
    """A ``progress(step, share done)`` that draws on stderr if that is a terminal, and says there every few seconds what it does if not."""
    if not sys.stderr.isatty():
        with heartbeat(_on_stderr) as beat:
            yield lambda step, done: beat.detail(f"fitting, {step}" if step else "fitting")
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("fitting"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda step, done: bar.update(task, description=step, completed=done)


@contextmanager
def reading_progress() -> Iterator[Callable[[str], None]]:
    """A ``tell(step)`` that shows on stderr what is being done and for how long: on a terminal always, elsewhere every few seconds."""
    if not sys.stderr.isatty():
        with heartbeat(_on_stderr) as beat:
            yield beat.now
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda step: shown.update(task, description=step)


def _on_stderr(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


class RunProgress:
    """Progress of a whole run. This one is silent."""

    def begin(self, name: str, title: str) -> None:
        """A step begins."""

    def share(self, doing: str, done: float) -> None:
        """How much of the step is done, 0 to 1, and what it does now."""

    def end(self, name: str) -> None:
        """A step has ended."""


class _Logged(RunProgress):
    """Log lines while a step runs. Its end is logged separately."""

    def __init__(self, beat: Heartbeat) -> None:
        self._beat, self._title = beat, ""

    def begin(self, name: str, title: str) -> None:
        self._title = title
        self._beat.now(title)

    def share(self, doing: str, done: float) -> None:
        self._beat.detail(f"{self._title}, {doing}, {done:.0%}")

    def end(self, name: str) -> None:
        self._beat.now("")


class _Drawn(RunProgress):
    """One bar for all steps."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=sum(SHARES.values()))
        self._title, self._before, self._own = "", 0.0, 0.0

    def begin(self, name: str, title: str) -> None:
        self._title, self._own = title, SHARES.get(name, 0.0)
        self._bar.update(self._task, description=title)

    def share(self, doing: str, done: float) -> None:
        self._bar.update(self._task, description=f"{self._title}: {doing}", completed=self._before + self._own * done)

    def end(self, name: str) -> None:
        self._before += self._own
        self._bar.update(self._task, completed=self._before)


@contextmanager
def run_progress() -> Iterator[RunProgress]:
    """Progress of a whole run: drawn on stderr if that is a terminal, lines of the log if it is not."""
    if not sys.stderr.isatty():
        with heartbeat(logging.getLogger("groupwise.run").info) as beat:
            yield _Logged(beat)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Drawn(bar)


type Progress = Callable[[str, int, int], None]


@contextmanager
def counting_progress(title: str) -> Iterator[Progress]:
    """A ``progress(step, done, total)`` that draws on stderr if that is a terminal, and does nothing if it is not."""
    if not sys.stderr.isatty():
        yield silent_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.fields[title]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, title=title)
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total)


def silent_progress(step: str, done: int, total: int) -> None:
    """No progress."""
