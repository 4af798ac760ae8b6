"""One fitted part of a study, with what its response averages need, and the expected outcome of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from multilevel.design.model import Design
from multilevel.estimands.expected_outcome import ExpectedOutcome, PartFit
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.one_response import OneResponse
from multilevel.estimands.product import ResponseProduct
from multilevel.fit.container import Fit


@dataclass(frozen=True)
class FittedPart:
    """A partial-pooling fit; ``part`` None, or "occurrence" or "amount". ``design``: its columns over every cell, also those that this
    part has no rows in. ``variance``: of a ``log(y)`` outcome."""

    part: str | None
    fit: Fit
    design: Design
    variance: LevelVariance | None = None


def expected_outcome(parts: Sequence[FittedPart]) -> ExpectedOutcome:
    """What is expected of the outcome: the one part's response, or the product of occurrence and amount."""
    fits = [PartFit(part.fit) for part in parts]
    whole = parts[0].design
    return OneResponse(fits[0], whole) if len(fits) == 1 else ResponseProduct(fits[0], fits[1], whole)
