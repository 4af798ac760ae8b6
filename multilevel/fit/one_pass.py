"""Questions to every point of theta, asked in one pass over the points.

A point answers from its factorisation. Where those of all points do not fit into memory, each pass makes them again, which costs more than
most answers. Tables ask for one factor after the other; none waits for another's answer. Here such tasks run by turns, each up to its next
question, and the questions of all are put to a point while its factorisation is there.

Tasks are threads, so that what asks needs no other form than where it is asked alone; one of them runs at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Event, Thread, local
from typing import Any

type Pass = Callable[[Sequence[Question]], None]
"""Goes over the points once: every question's ``ask`` at each of them, its answers to ``take``, in the order of the points."""

type Asked = tuple[object, Pass, Question]
"""The points, who goes over them, and what is asked of them."""

_here = local()


@dataclass(frozen=True)
class Question:
    """``ask`` of a point's conditional distribution, on whatever thread; ``take`` gets the number of the point and the answer."""

    ask: Callable[[Any], Any]
    take: Callable[[int, Any], None]


@dataclass
class _Task:
    """A task by turns: ``resume`` lets it run on, ``stopped`` is set once it asks or ends."""

    work: Callable[[], Any]
    resume: Event = field(default_factory=Event)
    stopped: Event = field(default_factory=Event)
    questions: list[Asked] = field(default_factory=list)
    refused: Exception | None = None
    result: Any = None
    error: BaseException | None = None

    def start(self) -> None:
        """Run until it asks or ends."""
        # with what is set for this thread, such as numpy's errors
        Thread(target=copy_context().run, args=(self._run,), name="one pass", daemon=True).start()
        self.stopped.wait()

    def turn(self, refused: Exception | None) -> None:
        """The answers are there, or the error that came in their place: run on until it asks again or ends."""
        self.questions, self.refused = [], refused
        self.stopped.clear()
        self.resume.set()
        self.stopped.wait()

    def ask(self, questions: list[Asked]) -> None:
        """On the task's own thread: wait for the answers."""
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
    """Have ``answer`` go over ``points`` for the question: at once, or, inside a task of ``together``, beside those of the other tasks."""
    _put([(points, answer, question)])


def together[T](tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Results of the tasks, in order; what they ask of the same points is asked in one pass.

    Tasks must not depend on one another; they may have tasks of their own. The first error of any is raised once all have ended.
    """
    if len(tasks) < 2:
        return [task() for task in tasks]
    running = [_Task(work) for work in tasks]
    for task in running:
        task.start()
    while waiting := [task for task in running if task.questions]:
        refused = None
        try:
            _put([question for task in waiting for question in task.questions])
        except Exception as error:  # noqa: BLE001 - raised in every task that asked, which may know what to do
            refused = error
        for task in waiting:
            task.turn(refused)
    for task in running:
        if task.error is not None:
            raise task.error
    return [task.result for task in running]


def _put(questions: list[Asked]) -> None:
    """To whoever gathers questions on this thread, else a pass for each set of points."""
    task: _Task | None = getattr(_here, "task", None)
    if task is not None:
        task.ask(questions)
        return
    by_points: dict[int, list[Asked]] = {}
    for question in questions:
        by_points.setdefault(id(question[0]), []).append(question)
    for own in by_points.values():
        own[0][1]([question for _, _, question in own])
