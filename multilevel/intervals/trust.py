"""Where Wald's interval of a variance component cannot be trusted, a profile interval takes its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from multilevel.fit import Fit, VarianceComponent
from multilevel.intervals.unfinished import notes_check

LARGEST_ERROR = 0.5
"""Standard error on the interval's own scale (log, Fisher's z) above which the deviance is no parabola that far out."""

NOTHING = 2.0
"""Standard error, relative to the estimate, from which on it is not published."""


def with_trusted_intervals(fit: Fit, *, seed: int = 0) -> Fit:
    """The same fit of the likelihood engine, its Wald intervals replaced by profile intervals where they cannot be trusted."""
    places = [at for at, found in enumerate(fit.components) if not _is_trusted(found, fit.components)]
    if not places:
        return fit
    if fit.family == "gaussian":
        from multilevel.linear.profile import profiled_components

        components = profiled_components(fit, places, seed=seed)
    else:
        from multilevel.generalised.profile import profiled_components as profiled_components_of_laplace

        components = profiled_components_of_laplace(fit, places)
    components = tuple(_without_wild_error(found) for found in components)
    return replace(fit, components=components, checks=(*fit.checks, *notes_check(components)))


def _without_wild_error(found: VarianceComponent) -> VarianceComponent:
    """No standard error of a standard deviation that is zero as far as its own error goes: it says no more than one at zero would."""
    wild = found.quantity == "sd" and found.std_error is not None and found.std_error > NOTHING * found.estimate
    return replace(found, std_error=None) if wild else found


def _is_trusted(found: VarianceComponent, components: Sequence[VarianceComponent]) -> bool:
    """A correlation only where the standard deviations of both its terms are."""
    if _log_error(found) > LARGEST_ERROR:
        return False
    sds = [
        other
        for other in components
        if other.block is not None
        and other.block == found.block
        and other.quantity == "sd"
        and other.term in (found.term, found.other_term)
    ]
    return found.quantity == "sd" or all(_log_error(sd) <= LARGEST_ERROR for sd in sds)


def _log_error(found: VarianceComponent) -> float:
    """The standard error of the logarithm, or of Fisher's z; infinite where there is none."""
    error = found.std_error
    if error is None or not math.isfinite(error) or found.lower is None or found.upper is None:
        return math.inf
    scale = found.estimate if found.quantity == "sd" else 1.0 - found.estimate**2
    return error / scale if scale > 0 else math.inf
