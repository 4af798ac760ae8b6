"""The picture behind the predictive checks: how far cells lie from where the model puts them, and how far simulated ones would.

A cell's distance is (observed - expected) / sd under the model, at a draw of the coefficients; the band is that of data simulated from the
same draws (Gelman, Carlin et al. 2013, section 6.3). Distances of few counts are coarse, but then the simulated ones are coarse as well.
"""

from __future__ import annotations

import numpy as np

from multilevel.arrays import Floats
from multilevel.checking.predictive import scale_draws, simulated_cells
from multilevel.design.reduction import ReducedRows, coefficient_matrix, reduce_design, take_rows
from multilevel.errors import FitError
from multilevel.fit.container import Fit

EDGES = np.linspace(-4.5, 4.5, 19)
"""Bins of half a standard deviation; what lies beyond the ends is counted in the last ones."""

FAR = 2.0
REPLICATES = 100
MOST_CELLS = 20_000
FEWEST_CELLS = 20
MOST_VALUES = 20_000_000


def predictive_picture(fit: Fit, seed: int = 0) -> dict[str, object] | None:
    """Shares of cells by distance: observed, and the central 95 % of simulated data sets; None for fewer than ``FEWEST_CELLS`` cells.

    ``bins`` has from, to (standard deviations), observed, lower, upper (shares); ``far`` the same of cells beyond two standard deviations.
    At most ``MOST_CELLS`` cells, chosen at random, are looked at.
    """
    rows = reduce_design(fit.design)
    rng = np.random.default_rng(seed)
    if len(rows.outcome) > MOST_CELLS:
        rows = take_rows(rows, np.sort(rng.choice(len(rows.outcome), MOST_CELLS, replace=False)))
    if len(rows.outcome) < FEWEST_CELLS:
        return None
    try:
        observed, simulated = _distances(fit, rows, rng, seed)
    except FitError:  # the checks say that data cannot be simulated
        return None
    shares = np.array([_histogram(distance) for distance in observed]).mean(axis=0)
    lower, upper = np.quantile([_histogram(distance) for distance in simulated], [0.025, 0.975], axis=0)
    far = np.mean(np.abs(simulated) > FAR, axis=1)
    bins = [
        {"from": float(start), "to": float(end), "observed": float(share), "lower": float(low), "upper": float(high)}
        for start, end, share, low, high in zip(EDGES[:-1], EDGES[1:], shares, lower, upper, strict=True)
    ]
    low, high = np.quantile(far, [0.025, 0.975])
    return {"bins": bins, "far": {"observed": float(np.mean(np.abs(observed) > FAR)), "lower": float(low), "upper": float(high)}}


def _distances(fit: Fit, rows: ReducedRows, rng: np.random.Generator, seed: int) -> tuple[Floats, Floats]:
    """(R, C) of the data and of as many simulated data sets; at the estimates where draws of all coefficients are too many."""
    matrix = coefficient_matrix(rows)
    has_draws = matrix.shape[1] * REPLICATES <= MOST_VALUES
    values = fit.joint.draws(REPLICATES, seed).T if has_draws else fit.joint.mean[:, None]
    eta = rows.offset[:, None] + np.asarray(matrix @ values)
    scale = scale_draws(fit, REPLICATES)
    observed, simulated = [], []
    for draw in range(REPLICATES):
        mean, variance, sample = simulated_cells(fit, rows, eta[:, draw if has_draws else 0], float(scale[draw]), rng)
        sd = np.sqrt(variance)
        observed.append((rows.outcome - mean) / sd)
        simulated.append((sample - mean) / sd)
    return np.array(observed), np.array(simulated)


def _histogram(distance: Floats) -> Floats:
    inside = np.clip(distance, EDGES[0], np.nextafter(EDGES[-1], 0.0))
    return np.histogram(inside, EDGES)[0] / len(distance)
