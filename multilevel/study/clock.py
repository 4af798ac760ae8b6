"""How long each step of a study's fit takes, and word of progress where somebody listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from multilevel.machine import give_back


@dataclass
class Clock:
    """``seconds`` by step; ``progress`` is called with the current step and the fraction of the run that is complete, 0 to 1."""

    progress: Callable[[str, float], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    done: float = 0.0

    @contextmanager
    def step(self, name: str, done: float) -> Iterator[Callable[[str, float], None] | None]:
        """Time the block, which gets a function to report what it is doing and the fraction of the step that is complete, 0 to 1.

        ``done`` is the fraction of the whole run that is complete when the block ends.
        """
        start, before = perf_counter(), self.done

        def told(doing: str, share: float) -> None:
            self.done = max(self.done, before + share * (done - before))
            if self.progress is not None:
                self.progress(f"{name}: {doing}" if doing else name, self.done)

        told("", 0.0)
        yield None if self.progress is None else told
        give_back()  # the next step holds other arrays
        self.seconds[name] = perf_counter() - start
        told("", 1.0)
