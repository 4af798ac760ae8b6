"""The profile interval of one variance component, whichever deviance is profiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from multilevel.cells.statistics import Floats
from multilevel.design.model import Design
from multilevel.design.unit_free import Maps
from multilevel.fit import VarianceComponent
from multilevel.intervals.profile import Profiler, Quantity
from multilevel.linear.parameters import mapped_lambdas
from multilevel.linear.uncertainty import block_quantities


@dataclass(frozen=True)
class Components:
    """How a parameter vector holds the variances.

    lambdas : the relative covariance factors, by block. sigma : what they are relative to. sizes : per block the first step (k,) of a
    standard deviation, dispersion : that of the last parameter's exponential relative to its estimate; where there is no Wald interval.
    maps : from the parameters' coordinates to the columns as written.
    """

    design: Design
    maps: Maps
    lambdas: Callable[[Floats], Sequence[Floats]]
    sigma: Callable[[Floats], float]
    sizes: Sequence[Floats]
    dispersion: float

    def profiled(self, found: VarianceComponent, profiler: Profiler, interval: float) -> VarianceComponent:
        """With its limits; a correlation that the fit does not determine has none."""
        if not math.isfinite(found.estimate) or self._is_extrapolated(found):
            return found
        lower, upper = profiler.limits(self._quantity(found), interval)
        return replace(found, lower=lower, upper=upper)

    def _written(self, values: Floats) -> Sequence[Floats]:
        return mapped_lambdas(self.lambdas(values), self.maps)

    def _is_extrapolated(self, found: VarianceComponent) -> bool:
        """A correlation of one because the intercepts lie far outside the data: it is one whatever the parameters are."""
        if found.quantity != "correlation" or found.block is None or not abs(found.estimate) >= 1.0 - 1e-9:
            return False
        own = self.maps.blocks[found.block]
        return not np.array_equal(own, np.diag(np.diagonal(own)))

    def _quantity(self, found: VarianceComponent) -> Quantity:
        if found.block is None:
            return Quantity(lambda values: math.exp(values[-1]), found.std_error or self.dispersion * found.estimate, lowest=0.0)
        labels = [column.label for column in self.design.blocks[found.block].columns]
        every = block_quantities(found.block, found.grouping_factor, labels, self._written, self.sigma)
        value = next(q.value for q in every if (q.term, q.other_term) == (found.term, found.other_term))
        if found.quantity == "correlation":
            return Quantity(value, found.std_error or 0.3, lowest=-1.0, highest=1.0)
        return Quantity(value, found.std_error or float(self.sizes[found.block][labels.index(found.term)]), lowest=0.0)
