"""Sums of squares of a gaussian fit's residuals, from the cells alone."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.design.effect_rows import effect_places
from multilevel.design.model import Design
from multilevel.fit.container import Joint
from multilevel.threads import piece_by_piece

_EXCESS_DRAWS, _EXCESS_VALUES = (10, 200), 20_000_000
"""Fewest and most draws for what fitting uses up of a cell's sum of squares, and the cells and coefficients worked on in all."""


def feature_coefficients(design: Design, coefficients: Floats) -> Floats:
    """(C, m + 1) what multiplies (1, features) in each cell's linear predictor at ``coefficients`` = (beta, b)."""
    cells = design.cells
    total = np.zeros((cells.n_cells, cells.mean.shape[1] if cells.mean.shape[1] else 1))
    for place, column in enumerate(design.population):
        total[:, column.feature] += column.multiplier * coefficients[place]
    for index, block in enumerate(design.blocks):
        for place, column in enumerate(block.columns):
            effects = coefficients[effect_places(design, index, place, block.factor.codes.astype(np.int64))]
            total[:, column.feature] += column.multiplier * effects
    return total


def linear_predictor(design: Design, coefficients: Floats) -> Floats:
    """(C,) mean linear predictor of each cell's rows, the offset of the key included."""
    parts = feature_coefficients(design, coefficients)
    features = np.hstack([np.ones((len(parts), 1)), design.cells.mean[:, :-1]]) if parts.shape[1] > 1 else np.ones((len(parts), 1))
    return np.asarray(np.sum(parts * features, axis=1) + design.cells.offset)


def predictor_variance(design: Design, coefficients: Floats) -> Floats:
    """(C,) variance of the linear predictor within each cell, from its continuous features."""
    slopes = feature_coefficients(design, coefficients)[:, 1:]
    if slopes.shape[1] == 0:
        return np.zeros(design.cells.n_cells)
    spread = design.cells.cross[:, :-1, :-1] / design.cells.weight[:, None, None]
    return np.asarray(np.einsum("ci,cij,cj->c", slopes, spread, slopes))


def cell_residual_ss(design: Design, coefficients: Floats) -> Floats:
    """(C,) weighted residual sum of squares of each cell's rows at ``coefficients`` = (beta, b); gaussian only."""
    cells = design.cells
    slopes = feature_coefficients(design, coefficients)[:, 1:]
    direction = np.hstack([-slopes, np.ones((cells.n_cells, 1))])
    within = np.einsum("ci,cij,cj->c", direction, cells.cross, direction)
    between = cells.mean[:, -1] - linear_predictor(design, coefficients)
    return np.asarray(within + cells.weight * between**2)


def expected_residual_ss(design: Design, joint: Joint) -> Floats:
    """(C,) posterior mean of each cell's residual sum of squares: that at the mean of (beta, b) is too small by what fitting used up.

    A cell's excess is the posterior mean of its fitted values' squared deviations, over evenly spaced draws.
    """
    cells, mean = design.cells, joint.mean
    total = np.zeros(cells.n_cells)
    size = int(np.clip(_EXCESS_VALUES // (cells.n_cells + len(mean)), *_EXCESS_DRAWS))

    def of_draw(drawn: Floats) -> Floats:
        deviation = feature_coefficients(design, drawn - mean)
        if deviation.shape[1] == 1:
            return np.asarray(cells.weight * deviation[:, 0] ** 2)
        level = deviation[:, 0] + np.einsum("ci,ci->c", deviation[:, 1:], cells.mean[:, :-1])
        within = np.einsum("ci,cij,cj->c", deviation[:, 1:], cells.cross[:, :-1, :-1], deviation[:, 1:])
        return np.asarray(within + cells.weight * level**2)

    for square in piece_by_piece(of_draw, joint.draws(size, 0)):
        total += square
    return cell_residual_ss(design, mean) + total / size


def outcome_variance(design: Design) -> float:
    """Weighted variance of the outcome over line items (N - 1); gaussian only."""
    cells = design.cells
    mean = np.average(cells.mean[:, -1], weights=cells.weight)
    total = np.sum(cells.cross[:, -1, -1] + cells.weight * (cells.mean[:, -1] - mean) ** 2)
    return float(total / (cells.n.sum() - 1))


def one_hot(design: Design, block: int) -> csr_array:
    """(C, L) which level of a block's factor each cell belongs to."""
    factor = design.blocks[block].factor
    shape = (len(factor.codes), factor.n_levels)
    return csr_array((np.ones(len(factor.codes)), (np.arange(len(factor.codes)), factor.codes)), shape=shape)
