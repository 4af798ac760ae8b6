"""The rows' side of a likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from multilevel.arrays import Floats

if TYPE_CHECKING:
    from multilevel.families.family import Family


@dataclass(frozen=True)
class Outcome:
    """What a likelihood needs of R reduced rows besides their linear predictor.

    family : whose likelihood it is. outcome : (R,) summed outcomes. size : (R,) trials, exposure, or rows. n : (R,) rows.
    n_rows : line items. residual_ss : sum of squares that no coefficient explains, of families whose cells keep moments.
    once : constants over all rows. histogram : (H, 2) distinct outcomes and row counts, empty where they are not kept.
    """

    family: Family
    outcome: Floats
    size: Floats
    n: Floats
    n_rows: int
    residual_ss: float = 0.0
    once: Mapping[str, float] = field(default_factory=dict)
    histogram: Floats = field(default_factory=lambda: np.zeros((0, 2)))

    @property
    def sum_log_outcome(self) -> float:
        """Sum of log y over the rows."""
        return float(self.once.get("sum_log_outcome", 0.0))

    @property
    def numbers(self) -> Floats:
        """(3,) residual sum of squares, rows, and sum of log y: what compiled densities read of the constants."""
        return np.array([self.residual_ss, float(self.n_rows), self.sum_log_outcome])

    def log_likelihood(self, eta: Any, scale: Any, xp: Any = np) -> Any:
        """Of all rows at ``eta`` (R,), up to a constant; see ``Family.log_likelihood``."""
        return self.family.log_likelihood(self, eta, scale, xp)

    def working(self, eta: Floats, scale: float) -> tuple[Floats, Floats]:
        """Fisher weights and weighted working residual, each (R,); see ``Family.working``."""
        return self.family.working(self, eta, scale)

    def replaced(
        self, outcome: Floats, *, residual_ss: float | None = None, once: Mapping[str, float] | None = None, histogram: Floats | None = None
    ) -> Outcome:
        """The same rows with other outcomes."""
        return replace(
            self,
            outcome=outcome,
            residual_ss=self.residual_ss if residual_ss is None else residual_ss,
            once={**self.once, **(once or {})},
            histogram=self.histogram if histogram is None else histogram,
        )
