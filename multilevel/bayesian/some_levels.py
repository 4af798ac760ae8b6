"""A search for the variance parameters that begins with some of the levels of a factor that has very many.

The mode of a twentieth of the households is near that of all, and every step to it costs a twentieth. Only where the search for the whole
begins depends on it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.importance_points import curvature, near_mode, search_mode
from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed
from multilevel.bayesian.level_integrals import LevelFactor
from multilevel.bayesian.parameters import Layout
from multilevel.design.reduction import ReducedBlock, ReducedRows
from multilevel.families.outcome import Outcome

ENOUGH = 5_000
"""Levels of the largest factor that a search begins with."""

WORTHWHILE = 4
"""Times as many, below which it begins with all."""


def some_levels(rows: ReducedRows, outcome: Outcome, leaves: LevelFactor, every: int) -> tuple[ReducedRows, Outcome]:
    """The rows of every so many-th level of ``leaves``; what an outcome has of all its rows together is shared out."""
    kept = leaves.codes % every == 0

    def part(at: int, block: ReducedBlock) -> ReducedBlock:
        own = replace(block, codes=block.codes[kept], values=block.values[kept])
        if at not in leaves.blocks:
            return own
        return replace(own, codes=(own.codes // every).astype(own.codes.dtype), n_levels=-(-leaves.n_levels // every))

    n, y, size = rows.n[kept], rows.outcome[kept], rows.size[kept]
    share, n_rows = float(n.sum() / rows.n.sum()), int(n.sum())
    blocks = tuple(part(at, block) for at, block in enumerate(rows.blocks))
    found = ReducedRows(rows.X[kept], blocks, y, size, rows.offset[kept], n, rows.cell[kept], n_rows, share * rows.residual_ss)
    once = {name: share * value for name, value in outcome.once.items()}
    histogram = outcome.histogram * np.array([1.0, share])
    told = (outcome.outcome[kept], outcome.size[kept], outcome.n[kept])
    return found, Outcome(outcome.family, *told, n_rows, share * outcome.residual_ss, once, histogram)


def laplace_mode(
    density: LaplaceCollapsed, rows: ReducedRows, outcome: Outcome, leaves: LevelFactor, start: Floats, units: Floats
) -> tuple[Floats, Floats]:
    """About the mode (d,) of ``density``, which is of ``rows``, and the curvature's covariance (d, d) there."""
    every = leaves.n_levels // ENOUGH
    if every < WORTHWHILE:
        mode = search_mode(density.value_and_gradient, start, units)
        return mode, curvature(density.value_and_gradient, mode)
    few = LaplaceCollapsed(*some_levels(rows, outcome, leaves, every), density.layout, density.priors)
    scales = _scales(density.layout, leaves, every)
    nearby = search_mode(few.value_and_gradient, start, units / scales)
    covariance = curvature(few.value_and_gradient, nearby) * np.outer(scales, scales)
    mode, _ = near_mode(density.value_and_gradient, nearby, covariance)
    return mode, curvature(density.value_and_gradient, mode)


def _scales(layout: Layout, leaves: LevelFactor, every: int) -> Floats:
    """(d,) how much better each parameter is known from all levels than from every so many-th."""
    scales = np.ones(layout.size)
    for at in leaves.blocks:
        k = layout.widths[at]
        scales[layout.starts[at] : layout.starts[at] + k * (k + 1) // 2] = every**-0.5
    if layout.with_scale:
        scales[-1] = every**-0.5
    return scales
