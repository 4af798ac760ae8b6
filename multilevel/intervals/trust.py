"""Where Wald's interval of a variance component cannot be trusted, a profile interval takes its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from multilevel.fit.container import Fit, VarianceComponent
from multilevel.intervals.profile import NUMERICAL
from multilevel.intervals.unfinished import notes_check, without_limits

LARGEST_ERROR = 0.5
"""Standard error on the interval's own scale (log, Fisher's z) above which the deviance is no parabola that far out."""

NOTHING = 2.0
"""Standard error on the interval's own scale (log, Fisher's z) above which it is not published."""

POSSIBLE = 0.7
"""Of 1 / sqrt(2 J), the standard error of the logarithm of a standard deviation of J effects that are known: less is lost digits."""


def with_trusted_intervals(fit: Fit, *, seed: int = 0) -> Fit:
    """The same fit of the likelihood engine, its Wald intervals replaced by profile intervals where they cannot be trusted."""
    fit = replace(
        fit, components=tuple(replace(found, std_error=None) if _is_impossible(found, fit) else found for found in fit.components)
    )
    places = [at for at, found in enumerate(fit.components) if not _is_trusted(found, fit.components)]
    if not places:
        return fit
    try:
        components = _profiled(fit, places, seed)
    except NUMERICAL as error:
        # the fit stands, whatever becomes of its profiles
        components = tuple(without_limits(found, error) if at in places else found for at, found in enumerate(fit.components))
    return without_wild_errors(replace(fit, components=components, checks=(*fit.checks, *notes_check(components))))


def _profiled(fit: Fit, places: list[int], seed: int) -> tuple[VarianceComponent, ...]:
    if fit.design.cells.has_moments:
        from multilevel.intervals.linear_profile import profiled_components

        return profiled_components(fit, places, seed=seed)
    from multilevel.intervals.laplace_profile import profiled_components as profiled_components_of_laplace

    return profiled_components_of_laplace(fit, places)


def without_wild_errors(fit: Fit) -> Fit:
    """No standard error of a quantity that may be anything as far as its own error goes: it says no more than one at the boundary would."""
    return replace(
        fit, components=tuple(replace(found, std_error=None) if _log_error(found) > NOTHING else found for found in fit.components)
    )


def _is_impossible(found: VarianceComponent, fit: Fit) -> bool:
    """Whether the error is less than it would be if the effects themselves had been observed, as under counts of 1e9."""
    if found.block is None or found.quantity != "sd":
        return False
    return _log_error(found) < POSSIBLE / math.sqrt(2.0 * fit.design.blocks[found.block].n_seen_levels)


def _is_trusted(found: VarianceComponent, components: Sequence[VarianceComponent]) -> bool:
    """A correlation only where the standard deviations of both its terms are."""
    if _log_error(found) > LARGEST_ERROR or found.lower is None or found.upper is None:
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
    if found.std_error is None or not math.isfinite(found.std_error):
        return math.inf
    scale = found.estimate if found.quantity == "sd" else 1.0 - found.estimate**2
    return found.std_error / scale if scale > 0 else math.inf
