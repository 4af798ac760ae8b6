"""Counts that are drawn."""

from __future__ import annotations

import numpy as np

from multilevel.arrays import Floats
from multilevel.errors import FitError

LARGEST_COUNT = 1e18
"""Largest mean for which counts are drawn: a 64-bit whole number holds 9.2e18."""


def poisson_counts(means: Floats, rng: np.random.Generator) -> Floats:
    """Poisson counts of these means; FitError where a mean is beyond what can be counted."""
    if not (means <= LARGEST_COUNT).all():
        raise FitError(f"a mean of {float(np.max(means)):.3g} is too large to draw counts from")
    return np.asarray(rng.poisson(means), dtype=np.float64)
