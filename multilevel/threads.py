"""Work that lets go of the interpreter, at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from multilevel.machine import processors


def at_once(tasks: Sequence[Callable[[], object]]) -> None:
    """Run each task in a thread of its own, the first in this one, all in this one's context (``numpy.errstate``)."""
    if len(tasks) == 1:
        tasks[0]()
        return
    with ThreadPoolExecutor(len(tasks) - 1) as pool:
        others = [pool.submit(copy_context().run, task) for task in tasks[1:]]
        tasks[0]()
        for other in others:
            other.result()


def shared_out(tasks: Sequence[Callable[[], object]]) -> None:
    """Run many short tasks, as many at a time as there are processors."""
    threads = min(processors(), len(tasks))
    at_once([_every(tasks[at::threads]) for at in range(threads)])


def _every(tasks: Sequence[Callable[[], object]]) -> Callable[[], object]:
    return lambda: [task() for task in tasks]
