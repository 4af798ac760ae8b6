"""How long each step of a study's fit takes, and word of progress where somebody listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Clock:
    """``seconds`` by step; ``progress`` is called with a step's name and the share done."""

    progress: Callable[[str, float], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, done: float) -> Iterator[None]:
        """Time what is inside; ``done``: the share of the whole that is done after it."""
        start = perf_counter()
        yield
        self.seconds[name] = perf_counter() - start
        if self.progress is not None:
            self.progress(name, done)
