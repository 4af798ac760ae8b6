"""Work in threads has the results, the order and the errors of work in one."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from multilevel.threads import PIECES, at_once, piece_by_piece, shared_out


def test_pieces_come_back_in_their_order_and_few_are_taken_ahead() -> None:
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        for piece in range(12):
            taken.append(piece)
            yield piece

    found = piece_by_piece(lambda piece: piece**2, pieces())
    assert next(found) == 0
    assert len(taken) <= PIECES + 1
    assert list(found) == [piece**2 for piece in range(1, 12)]


@pytest.mark.parametrize("size", [0, 1])
def test_one_piece_needs_no_thread(size: int) -> None:
    here = threading.get_ident()
    assert list(piece_by_piece(lambda _: threading.get_ident(), range(size))) == [here] * size


def test_an_error_of_a_piece_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(piece_by_piece(lambda piece: 1 / piece, [2, 1, 0, 1]))


def test_every_task_is_run_in_the_context_of_the_caller() -> None:
    seen: list[str] = []
    with np.errstate(over="ignore"):
        at_once([lambda: seen.append(np.geterr()["over"])] * 3)
        shared_out([lambda: seen.append(np.geterr()["over"])] * 5)
    assert seen == ["ignore"] * 8
