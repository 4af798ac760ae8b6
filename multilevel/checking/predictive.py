"""Posterior predictive checks from the cell statistics: would data from this model look like the data that there are?

The discrepancy is Pearson's chi-square over cells at each draw of the coefficients, for the observed statistics and for ones simulated
from the model (Gelman, Meng and Stern 1996). It serves both engines: draws come from ``Fit.joint``. Only what the statistics hold can be
checked: the spread between cells, and for negative binomial outcomes the share of zeros; a cell's own rows are gone.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, hstack

from multilevel.arrays import Floats
from multilevel.design.reduction import ReducedBlock, ReducedRows, reduce_design
from multilevel.families.registry import family_named
from multilevel.fit import Check, Fit

MOST_DISPERSION = 1.2
"""Threshold of the observed over the expected discrepancy: a check fails above it, unless chance explains the excess."""

CHANCE = 0.01

SMALLEST = 1e-12
"""Probability or mean below which a cell's expectation is taken as that: its variance would be zero."""

DRAWS = 100

MOST_VALUES = 40_000_000
"""Draws times coefficients that are held at once (0.3 GB)."""

FEWEST_DRAWS = 20


def predictive_checks(fit: Fit, seed: int = 0) -> tuple[Check, ...]:
    """Checks of a fit, reported and never gates.

    ``predictive_dispersion``: observed over simulated chi-square of the cells (gaussian: of the cell means and slopes); fails above 1.2
    where fewer than one in a hundred simulated data sets are as far out. ``predictive_zeros`` (negative binomial): observed over expected
    share of zeros.
    """
    rows = reduce_design(fit.design)
    if not len(rows.outcome):
        return ()
    matrix = coefficient_matrix(rows)
    n_draws = min(DRAWS, MOST_VALUES // max(matrix.shape[1], 1))
    if n_draws < FEWEST_DRAWS:
        message = f"not calculated: draws of {matrix.shape[1]:,} coefficients are too many to hold"
        return (Check("predictive_dispersion", None, MOST_DISPERSION, True, message),)
    rng = np.random.default_rng(seed)
    eta = rows.offset[:, None] + matrix @ fit.joint.draws(n_draws, seed).T
    checks = [_dispersion(fit, rows, np.asarray(eta), rng)]
    zeros = _zeros(fit, rows, np.asarray(eta))
    checks += [] if zeros is None else [zeros]
    return tuple(checks)


def coefficient_matrix(rows: ReducedRows) -> csr_array:
    """(R, p + q) sparse [X Z] of reduced rows."""
    return csr_array(hstack([csr_array(rows.X), *(_indicator(block) for block in rows.blocks)], format="csr"))


def _indicator(block: ReducedBlock) -> csr_array:
    n_rows, k = block.values.shape
    columns = (block.codes.astype(np.int64)[:, None] * k + np.arange(k)).ravel()
    return csr_array((block.values.ravel(), columns, np.arange(0, n_rows * k + 1, k)), shape=(n_rows, block.n_levels * k))


def _dispersion(fit: Fit, rows: ReducedRows, eta: Floats, rng: np.random.Generator) -> Check:
    scale = scale_draws(fit, eta.shape[1])
    observed, simulated = np.empty(eta.shape[1]), np.empty(eta.shape[1])
    for draw in range(eta.shape[1]):
        mean, variance, sample = simulated_cells(fit, rows, eta[:, draw], float(scale[draw]), rng)
        observed[draw] = (((rows.outcome - mean) ** 2) / variance).sum()
        simulated[draw] = (((sample - mean) ** 2) / variance).sum()
    ratio = float(observed.mean() / simulated.mean())
    tail = float(np.mean(simulated >= observed))
    passed = ratio <= MOST_DISPERSION or tail >= CHANCE
    what = "cell means" if fit.design.cells.has_moments else "cell totals"
    message = f"The {what} vary {ratio:.3g} times as much as the model expects; {tail:.0%} of simulated data sets vary as much."
    advice = family_named(fit.family).words.overdispersed
    return Check("predictive_dispersion", ratio, MOST_DISPERSION, passed, message if passed else f"{message} {advice}".rstrip())


def _zeros(fit: Fit, rows: ReducedRows, eta: Floats) -> Check | None:
    histogram, family = fit.design.cells.histogram, family_named(fit.family)
    probability = family.zero_probability(family.link.mean(eta), scale_draws(fit, eta.shape[1]))
    if histogram is None or probability is None:
        return None
    observed = float(histogram[histogram[:, 0] == 0, 1].sum())
    expected = (rows.n[:, None] * probability).sum(axis=0)
    ratio = observed / max(float(expected.mean()), 1e-9)
    spread = 3.0 * (np.sqrt(expected.mean()) + expected.std())
    passed = abs(observed - float(expected.mean())) <= spread or 1 / MOST_DISPERSION <= ratio <= MOST_DISPERSION
    message = f"{observed:,.0f} of {rows.n.sum():,.0f} counts are zero; the model expects {expected.mean():,.0f}."
    return Check("predictive_zeros", ratio, MOST_DISPERSION, bool(passed), message)


def scale_draws(fit: Fit, size: int) -> Floats:
    """(size,) sigma, phi or shape, in step with evenly spaced draws of the coefficients."""
    draws = fit.dispersion_draws if fit.sigma is None else fit.sigma_draws
    point = fit.dispersion if fit.sigma is None else fit.sigma
    if draws is None or len(draws) < size:
        return np.full(size, 1.0 if point is None else point)
    return np.asarray(draws[np.floor((np.arange(size) + 0.5) * len(draws) / size).astype(np.int64)])


def simulated_cells(fit: Fit, rows: ReducedRows, eta: Floats, scale: float, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Mean, variance and one simulated data set (R,) of the rows at a linear predictor, kept off the boundary."""
    family = family_named(fit.family)
    mean, variance = family.moments(rows.size, eta, scale, floor=SMALLEST)
    return mean, variance, family.draw_sums(rows.size, eta, scale, rng, floor=SMALLEST)
