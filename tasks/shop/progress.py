"""Progress of loading and simulating: a rich bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

type Progress = Callable[[str, int, int], None]


@contextmanager
def terminal_progress(title: str) -> Iterator[Progress]:
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
