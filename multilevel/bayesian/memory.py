"""What the draws of a posterior take, told before they are made: a study too large for the machine is refused, not killed half way."""

from __future__ import annotations

from multilevel.bayesian.sampling import Sampling
from multilevel.design.model import Design
from multilevel.errors import FitError
from multilevel.linear.footprint import surrounding_bytes
from multilevel.machine import memory_bytes

COPIES = 3
"""Of all draws at once: as sampled, as coefficients, while the tables are made."""

NUTS_THIN = 2

DRAW_SECONDS = 1.2e-7
"""Of one draw of one coefficient: sorting it for its quantiles, above all."""


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
    """Raise FitError where the draws alone would not fit into the machine's memory; names the widest factor and the ways out."""
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
