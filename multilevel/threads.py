"""Work that lets go of the interpreter, at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from itertools import chain, islice

from multilevel.machine import processors

PIECES = 2
"""Pieces of large work that are in memory at once, whatever the machine has: the memory that a fit needs is told beforehand."""


def at_once(tasks: Sequence[Callable[[], object]]) -> None:
    """Run all tasks at the same time, the first in the calling thread. All see the caller's context, so its ``numpy.errstate`` holds."""
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
    threads = min(_processors(), len(tasks))
    at_once([_every(tasks[at::threads]) for at in range(threads)])


def piece_by_piece[C, T](work: Callable[[C], T], pieces: Iterable[C]) -> Iterator[T]:
    """Results for the pieces, in order, ``PIECES`` at a time; one alone is worked on in this thread."""
    coming = iter(pieces)
    first = list(islice(coming, 2))
    threads = min(PIECES, _processors())
    if len(first) < 2 or threads == 1:
        yield from map(work, chain(first, coming))
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[T]] = deque()
        for piece in chain(first, coming):
            if len(ahead) == threads:
                yield ahead.popleft().result()
            ahead.append(pool.submit(copy_context().run, work, piece))
        while ahead:
            yield ahead.popleft().result()


@cache
def _processors() -> int:
    return processors()


def _every(tasks: Sequence[Callable[[], object]]) -> Callable[[], object]:
    return lambda: [task() for task in tasks]
