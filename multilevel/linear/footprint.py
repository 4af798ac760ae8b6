"""What the likelihood engine holds in memory, from counts alone: a fit too large for the machine is refused before it starts."""

from __future__ import annotations

from multilevel.design.model import Design
from multilevel.errors import FitError
from multilevel.fit.joint_draws import CHECK_DRAWS, MOST_VALUES
from multilevel.linear.assemble import dense_effects
from multilevel.machine import memory_bytes
from multilevel.threads import PIECES

DENSE_COPIES = 6
"""Square matrices of the dense factor's size at once: cross-products, what is left of them, the root, its inverse, two on the way."""

CELL_COPIES = 2
"""Of a cell's columns at once: as the design's, as reduced rows."""

TOUCHED_BYTES = 12
"""Of a column that a level of the eliminated factors touches: its number and a cross-product."""

JOINT_DRAWS = 10
"""Of all coefficients, for what fitting takes from cells' sums of squares."""

DRAW_COPIES = 3
"""Of the draws for the predictive checks at once: the rest's, those of the eliminated effects, all in their order."""

LEVEL_BYTES = 1_000
"""Of a level and group term in the tables and on the way there: its labels, some thirty columns of numbers, rows of coefficients for its
averages, what is kept of the joint distribution (with two terms a million levels took 1.7 GB at the peak, without cells, with four 5)."""

ROW_SECONDS, LEVEL_SECONDS = 12e-6, 5e-6
"""Of a reduced row, and of a level and pair of group terms, in everything around the search for the maximum: checks, no pooling, tables,
the joint distribution. Each level's averages go through all terms, and there is a fit for each. Solved for from whole runs of lme4's issue
635, of one and of ten million rows, and of a million pairs in customers; rough, and not scaled to the machine."""

PROCESS = 700_000_000
"""Bytes of Python and its libraries."""


def reduced_rows(design: Design) -> int:
    """About how many reduced rows a design has: as many a cell as directions in which its features vary, and one for its mean."""
    cells = design.cells
    return cells.n_cells * (max(cells.mean.shape[1], 1) if cells.has_moments else 1)


def surrounding_seconds(design: Design) -> float:
    """Seconds of all that is done around a fit's search or sampling, right to about a factor of two."""
    return ROW_SECONDS * reduced_rows(design) + LEVEL_SECONDS * _levels(design) * len(design.blocks) ** 2


def surrounding_bytes(design: Design) -> int:
    """Bytes of cells, reduced rows and tables at the peak, whichever engine made them."""
    cells = design.cells
    features = cells.mean.shape[1] if cells.has_moments else 2
    columns = len(design.population) + sum(len(block.columns) for block in design.blocks)
    per_row = 8 * (columns + 4) + 4 * len(design.blocks)
    of_cells = cells.n_cells * 8 * (features**2 + features + len(cells.groups) + columns)
    return of_cells + CELL_COPIES * reduced_rows(design) * per_row + LEVEL_BYTES * _levels(design) * len(design.blocks)


def _levels(design: Design) -> int:
    return sum(block.factor.n_levels for block in design.blocks)


def likelihood_bytes(design: Design) -> int:
    """Bytes at the peak of a likelihood fit with its tables, right to about a factor of two."""
    # every level of the eliminated factors touches the columns that its rows do
    touched = reduced_rows(design) * (len(design.population) + len(design.blocks) + 1) * TOUCHED_BYTES
    dense = dense_effects(design)
    n_coefficients = len(design.population) + design.n_effects
    # one fit more for each factor, its intercepts free: kept for the tables, or made again for those that are worked on
    factors = len({block.factor.name for block in design.blocks})
    free = (min(factors, PIECES) if design.cells.has_moments else factors) * touched
    values = CHECK_DRAWS * n_coefficients
    drawn = 8 * (JOINT_DRAWS * n_coefficients + DRAW_COPIES * values * (values <= MOST_VALUES))
    return PROCESS + surrounding_bytes(design) + touched + free + 8 * DENSE_COPIES * dense**2 + drawn


def refuse_beyond_memory(design: Design) -> None:
    """Raise FitError where a likelihood fit with its tables would not fit into the machine's memory; names the widest factor."""
    if not design.blocks:
        return
    needed, there = likelihood_bytes(design), memory_bytes()
    if needed <= there:
        return
    widest = max(design.blocks, key=lambda block: block.n_effects)
    raise FitError(
        f"{design.cells.n_cells:,} cells and {design.n_effects:,} group-level effects take about {needed / 1e9:,.0f} GB, this machine has "
        f"{there / 1e9:,.0f}. Most effects are of {widest.factor.name} ({widest.factor.n_levels:,} levels): use a coarser grouping, drop a "
        "slope, or leave predictors with many values out of the formula."
    )
