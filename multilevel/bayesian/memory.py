"""What the draws of a posterior take, told before they are made: a study too large for the machine is refused, not killed half way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from multilevel.bayesian.sampling import Sampling, read_sampling
from multilevel.design.model import Design
from multilevel.errors import FitError, StudyError
from multilevel.linear.footprint import refuse_beyond_memory, surrounding_bytes
from multilevel.machine import memory_bytes

COPIES = 3
"""Of all draws at once: as sampled, as coefficients, while the tables are made."""

NUTS_THIN = 2

DRAW_SECONDS = 1.2e-7
"""Of one draw of one coefficient: sorting it for its quantiles, above all."""


MOST_DRAWN = 2_000
"""Coefficients and effects up to which ``form: auto`` keeps draws: beyond, tables of every draw of every level take longer than all else,
and NUTS of a generalised model an hour."""


def is_by_points(design: Design, sampling: Sampling) -> bool:
    """Whether a posterior is kept as points of the variance parameters, and not as draws of every level."""
    if sampling.form != "auto":
        return sampling.form == "importance"
    return len(design.population) + design.n_effects > MOST_DRAWN


def with_draws(design: Design, written: Sampling | Mapping[str, object] | None) -> Sampling:
    """The sampling of one part of two, whose products are taken draw by draw: draws however many levels there are."""
    sampling = read_sampling(written)
    if sampling.form == "importance":
        raise StudyError("sampling: form: importance is of models of one part; leave form out.")
    if not is_by_points(design, sampling):
        return sampling
    return replace(sampling, form="collapsed" if design.cells.has_moments else "nuts")


def draws_bytes(n_coefficients: int, sampling: Sampling, *, thin: int = 1) -> int:
    """Bytes that the joint draws of ``n_coefficients`` take while a study is fitted."""
    return 8 * COPIES * sampling.chains * sampling.draws * thin * n_coefficients


def draws_seconds(n_coefficients: int, sampling: Sampling) -> float:
    """Seconds in which the tables summarise the joint draws."""
    return DRAW_SECONDS * sampling.chains * sampling.draws * n_coefficients


def machine_bytes() -> int:
    """The machine's memory, or the container's."""
    return memory_bytes()


def refuse_too_large(design: Design, sampling: Sampling) -> None:
    """Raise FitError where the draws alone would not fit into the machine's memory; names the widest factor and the ways out. Points of the
    variance parameters take what the likelihood engine takes, and are refused as it is."""
    if is_by_points(design, sampling):
        refuse_beyond_memory(design)
        return
    n_coefficients = len(design.population) + design.n_effects
    thin = 1 if design.cells.has_moments and sampling.form != "nuts" else NUTS_THIN
    of_draws, around, there = draws_bytes(n_coefficients, sampling, thin=thin), surrounding_bytes(design), machine_bytes()
    needed = of_draws + around
    if needed <= there:
        return
    widest = max(design.blocks, key=lambda block: block.n_effects)
    fewer = sampling.draws * max(there - around, 0) // (2 * of_draws)
    ways = f", or take fewer draws (sampling: {{draws: {fewer:,}}})." if fewer >= 100 else "."
    raise FitError(
        f"{n_coefficients:,} coefficients with {sampling.chains * sampling.draws:,} joint draws take about {needed / 1e9:,.0f} GB, this "
        f"machine has {there / 1e9:,.0f}. Most are levels of {widest.factor.name} ({widest.factor.n_levels:,}): leave it out of the "
        f"formula, write engine: likelihood, which eliminates it{ways}"
    )
