"""One fitted part of a study, with what its response averages need."""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.design.model import Design
from multilevel.estimands.level_variance import LevelVariance
from multilevel.fit.container import Fit


@dataclass(frozen=True)
class FittedPart:
    """A partial-pooling fit; ``part`` None, or "occurrence" or "amount". ``design``: its columns over every cell, also those that this
    part has no rows in. ``variance``: of a ``log(y)`` outcome."""

    part: str | None
    fit: Fit
    design: Design
    variance: LevelVariance | None = None
