"""The practical threshold of a study: the change above which a group counts as moved."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PERCENT = re.compile(r"\+?(\d+(?:\.\d*)?|\.\d+)\s*%")
DEFAULT = "2 %"


@dataclass(frozen=True)
class Threshold:
    """``size`` in units of the outcome, or in percent of the earlier estimate."""

    size: float
    is_percent: bool

    def of(self, before: NDArray[np.float64]) -> NDArray[np.float64]:
        """(L,) the smallest change that counts, in units of the outcome, beside the earlier estimates (L,)."""
        # whoever only reads a study need not wait for it
        import numpy as np

        return np.abs(before) * self.size / 100.0 if self.is_percent else np.full(len(before), self.size)

    def __str__(self) -> str:
        return f"{self.size:g} %" if self.is_percent else f"{self.size:g}"


def read_threshold(value: object) -> Threshold:
    """``2 %`` or a number; ValueError for anything else, and for what is not above zero."""
    found = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is not None:
        threshold = Threshold(float(found[1]), True)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        threshold = Threshold(float(value), False)
    else:
        raise ValueError("write a percentage of the earlier estimate such as 2 %, or a number in the outcome's units")
    if not (math.isfinite(threshold.size) and threshold.size > 0):
        raise ValueError("write a percentage or a number above zero, such as 2 %")
    return threshold


def _checked(value: object) -> object:
    threshold = read_threshold(value)
    return str(threshold) if threshold.is_percent else threshold.size


type Moved = Annotated[str | float, BeforeValidator(_checked)]
