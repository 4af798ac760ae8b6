"""Seconds: one evaluation timed here and now, those of a whole NUTS run, and their words."""

from __future__ import annotations

import time
from collections.abc import Callable

from multilevel.bayesian.sampling import Sampling

USUAL_STEPS = 15.0
"""Leapfrog steps of a draw in the pilot's coordinates; twice that where few coefficients call for short steps."""

PARALLEL = 0.8
"""Share of another thread that is gained."""

HOURS = 3600.0
"""Seconds from which a model is said to take hours."""


def duration(seconds: float) -> str:
    """Rounded as coarsely as it is known: 20 seconds, 3 minutes, 5 hours."""
    if seconds < 90:
        return f"{max(10 * round(seconds / 10), 10)} seconds"
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.0f} hours"


def nuts_seconds(gradient: float, sampling: Sampling, *, thin: int, steps: float = USUAL_STEPS) -> float:
    """Seconds of NUTS whose every gradient takes ``gradient`` seconds; every ``thin``-th draw is kept."""
    transitions = sampling.chains * (sampling.tune + sampling.draws * thin)
    return gradient * steps * transitions / speed(sampling.threads)


def speed(threads: int) -> float:
    """How many times one thread's work so many do."""
    return 1.0 + PARALLEL * (threads - 1)


def seconds_of(evaluate: Callable[[], object]) -> float:
    """The best of five, after one that compiles."""
    evaluate()
    found = []
    for _ in range(5):
        start = time.perf_counter()
        evaluate()
        found.append(time.perf_counter() - start)
    return min(found)
