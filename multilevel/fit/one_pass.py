"""Answer many questions about the points of theta in one pass over the points.

A point answers from its factorisation. With many levels the factorisations of all points do not fit into memory, so each pass computes them
again, and that costs more than most answers. What a table asks for one factor does not depend on another factor. So ``together`` runs the
factors as tasks: each runs until it asks, and once every task waits for an answer, one pass answers all of them.

Each task is a thread, so that the code that asks is the same inside a task and outside. One task runs at a time, or as many as the caller
says: what they need in memory adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from itertools import batched
from threading import Event, Thread, local
from typing import Any

type Pass = Callable[[Sequence[Question]], None]
"""Goes over the points once, in order: at each point it calls every question's ``ask``, and hands the answer to its ``take``."""

type Asked = tuple[object, Pass, Question]
"""The points, the pass that goes over them, and the question."""

_here = local()


@dataclass(frozen=True)
class Question:
    """``ask`` computes the answer from a point's conditional distribution, on any thread; ``take`` receives the point's number and it.

    points : the points that are asked; None for all of them.
    """

    ask: Callable[[Any], Any]
    take: Callable[[int, Any], None]
    points: Collection[int] | None = None

    def is_of(self, point: int) -> bool:
        """Whether the point is asked."""
        return self.points is None or point in self.points


@dataclass
class _Task:
    """One task on its own thread. ``stopped`` is set while it waits for an answer and once it has ended; ``resume`` lets it continue."""

    work: Callable[[], Any]
    resume: Event = field(default_factory=Event)
    stopped: Event = field(default_factory=Event)
    questions: list[Asked] = field(default_factory=list)
    refused: Exception | None = None
    result: Any = None
    error: BaseException | None = None

    def start(self) -> None:
        """Start the thread."""
        # the caller's context variables hold in the task too, such as numpy's error handling
        Thread(target=copy_context().run, args=(self._run,), name="one pass", daemon=True).start()

    def turn(self, refused: Exception | None) -> None:
        """Continue with the answers, or raise ``refused`` in the task."""
        self.questions, self.refused = [], refused
        self.stopped.clear()
        self.resume.set()

    def wait(self) -> None:
        """Return once the task waits for an answer or has ended."""
        self.stopped.wait()

    def ask(self, questions: list[Asked]) -> None:
        """Called on the task's own thread: wait for the answers; raises the error of the pass if it failed."""
        self.questions = questions
        self.resume.clear()
        self.stopped.set()
        self.resume.wait()
        if self.refused is not None:
            raise self.refused

    def _run(self) -> None:
        _here.task = self
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001 - raised again by ``together``, on the thread of its caller
            self.error = error
        finally:
            self.stopped.set()


def asked(points: object, answer: Pass, question: Question) -> None:
    """Put the question to ``points``: at once, or, in a task of ``together``, in one pass with the questions of the other tasks."""
    _put([(points, answer, question)])


def together[T](tasks: Sequence[Callable[[], T]], at_once: int = 1) -> list[T]:
    """Run the tasks, ``at_once`` at a time, and return their results, in order; questions to the same points share a pass.

    Tasks must not depend on one another; they may call ``together`` themselves. If a task fails, the others still end before its error is
    raised. If a pass fails, its error is raised in every task that asked.
    """
    if len(tasks) < 2:
        return [task() for task in tasks]
    running = [_Task(work) for work in tasks]
    _in_batches(running, at_once, lambda task: task.start())
    while waiting := [task for task in running if task.questions]:
        refused = None
        try:
            _put([question for task in waiting for question in task.questions])
        except Exception as error:  # noqa: BLE001 - raised in every task that asked, which may know what to do
            refused = error
        _in_batches(waiting, at_once, partial(_turn, refused))
    for task in running:
        if task.error is not None:
            raise task.error
    return [task.result for task in running]


def _turn(refused: Exception | None, task: _Task) -> None:
    task.turn(refused)


def _in_batches(tasks: Sequence[_Task], at_once: int, go: Callable[[_Task], None]) -> None:
    """Let the tasks run until each waits or has ended."""
    for some in batched(tasks, at_once):
        for task in some:
            go(task)
        for task in some:
            task.wait()


def _put(questions: list[Asked]) -> None:
    """Hand the questions to the task that this thread runs; outside of tasks, answer them, one pass for each set of points."""
    task: _Task | None = getattr(_here, "task", None)
    if task is not None:
        task.ask(questions)
        return
    by_points: dict[int, list[Asked]] = {}
    for question in questions:
        by_points.setdefault(id(question[0]), []).append(question)
    for own in by_points.values():
        own[0][1]([question for _, _, question in own])
