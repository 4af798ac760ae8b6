"""What every way of sampling keeps an eye on: seconds by step, and threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Note the seconds since the last call under ``step``."""
        now = time.perf_counter()
        self.seconds[step] = round(now - self._last, 3)
        self._last = now


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread: the chains have the cores, and its own threads cost more than they give on small matrices."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        yield
