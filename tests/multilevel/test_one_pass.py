"""Tasks that ask the same points share a pass, and get the answers that each would get alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from multilevel.fit.one_pass import Question, asked, together


class Counted:
    """Three points that hold a number; how many questions each pass over them had."""

    def __init__(self, refuses: bool = False) -> None:
        self.passes: list[int] = []
        self.refuses = refuses

    def go(self, questions: Sequence[Question]) -> None:
        self.passes.append(len(questions))
        if self.refuses:
            raise ValueError("no factorisation")
        for point, value in enumerate((2.0, 3.0, 5.0)):
            for question in questions:
                question.take(point, question.ask(value))

    def times(self, factor: float) -> list[float]:
        found: list[float] = []
        asked(self, self.go, Question(lambda value: factor * value, lambda point, answer: found.append(answer)))
        return found

    def chain(self, factor: float, length: int) -> Callable[[], float]:
        return lambda: sum(sum(self.times(factor)) for _ in range(length))


def test_a_question_alone_is_asked_at_once() -> None:
    points = Counted()
    assert points.times(2.0) == [4.0, 6.0, 10.0]
    assert points.passes == [1]


def test_tasks_share_a_pass_as_long_as_they_ask() -> None:
    points = Counted()
    assert together([points.chain(1.0, 1), points.chain(2.0, 3), lambda: 7.0]) == [10.0, 60.0, 7.0]
    assert points.passes == [2, 1, 1]


def test_tasks_of_tasks_share_it_too() -> None:
    points = Counted()

    def outer(factor: float) -> list[float]:
        return together([points.chain(factor, 1), points.chain(10.0 * factor, 2)])

    assert together([lambda: outer(1.0), lambda: outer(2.0), lambda: [points.chain(0.0, 2)()]]) == [[10.0, 200.0], [20.0, 400.0], [0.0]]
    assert points.passes == [5, 3]


def test_other_points_have_their_own_pass() -> None:
    points, others = Counted(), Counted()
    assert together([points.chain(1.0, 1), others.chain(1.0, 1)]) == [10.0, 10.0]
    assert points.passes == others.passes == [1]


def test_an_error_of_a_task_is_raised_when_the_others_have_ended() -> None:
    points, ended = Counted(), []

    def fails() -> float:
        points.times(1.0)
        raise KeyError("level")

    def ends() -> float:
        points.chain(1.0, 2)()
        ended.append(True)
        return 1.0

    with pytest.raises(KeyError, match="level"):
        together([fails, ends])
    assert ended == [True]


def test_an_error_of_a_pass_is_raised_in_the_tasks_that_asked() -> None:
    points, caught = Counted(refuses=True), []

    def knows_what_to_do() -> str:
        try:
            points.times(1.0)
        except ValueError as error:
            caught.append(str(error))
        return "done"

    assert together([knows_what_to_do, lambda: "other"]) == ["done", "other"]
    with pytest.raises(ValueError, match="no factorisation"):
        together([knows_what_to_do, lambda: str(points.times(1.0))])
    assert caught == ["no factorisation"] * 2


def test_what_is_set_for_a_thread_holds_in_its_tasks() -> None:
    def task() -> str:
        Counted().times(1.0)
        return str(np.geterr()["divide"])

    with np.errstate(divide="raise"):
        assert together([task, task]) == ["raise", "raise"]
