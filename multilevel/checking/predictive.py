"""Posterior predictive checks from the cell statistics: would data from this model look like the data that there are?

The discrepancy is Pearson's chi-square over cells at each draw of the coefficients, for the observed statistics and for ones simulated
from the model (Gelman, Meng and Stern 1996). It serves both engines: draws come from ``Fit.joint``. Only what the statistics hold can be
checked: the spread between cells, and of counts the share of zeros; a cell's own rows are gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.checking.predictive_zeros import predictive_zeros
from multilevel.design.reduction import ReducedRows, coefficient_matrix, reduce_design, take_rows
from multilevel.errors import FitError
from multilevel.families.registry import family_named
from multilevel.fit.container import Check, Fit
from multilevel.fit.joint_draws import CHECK_DRAWS, MOST_VALUES

MOST_DISPERSION = 1.2
"""Threshold of the observed over the expected discrepancy: a check fails above it, unless chance explains the excess."""

CHANCE = 0.01

SMALLEST = 1e-12
"""Smallest probability or mean of a cell that is used: below it a variance would be zero."""

MOST_CELLS = 100_000
"""Cells that are looked at of a fit without posterior draws, chosen at random: simulating more takes longer than the fit."""


def predictive_checks(fit: Fit, seed: int = 0, omitted: Sequence[Check] = ()) -> tuple[Check, ...]:
    """Checks of a fit, reported and never gates.

    ``predictive_dispersion``: observed over simulated chi-square of the cells (of a linear model: of the cell means and slopes); fails
    above 1.2 where fewer than one in a hundred simulated data sets are as far out. ``predictive_zeros`` (counts): observed over expected
    zeros. Without a value where the draws do not fit into memory, or data cannot be simulated.
    A fit without posterior draws is looked at in at most ``MOST_CELLS`` cells. ``omitted`` : checks of terms that may be missing.
    """
    rows = reduce_design(fit.design)
    if not len(rows.outcome):
        return ()
    if not fit.has_draws and len(rows.outcome) > MOST_CELLS:
        rows = take_rows(rows, np.sort(np.random.default_rng(seed).choice(len(rows.outcome), MOST_CELLS, replace=False)))
    width = len(fit.design.population) + fit.design.n_effects
    if width * CHECK_DRAWS > MOST_VALUES:
        return (_nothing("predictive_dispersion", f"draws of {width:,} coefficients are too many to hold"),)
    matrix = coefficient_matrix(rows)
    simulation = _Simulation(fit, rows, matrix, fit.joint.draws(CHECK_DRAWS, seed if fit.has_draws else seed + 1))
    checks = (_dispersion(simulation, np.random.default_rng(seed)), predictive_zeros(fit, rows, matrix, simulation.predictors(), omitted))
    return tuple(check for check in checks if check is not None)


@dataclass(frozen=True)
class _Simulation:
    """A fit at draws (S, p + q) of its coefficients; linear predictors one draw at a time, since cells may be millions."""

    fit: Fit
    rows: ReducedRows
    matrix: csr_array
    draws: Floats

    def predictors(self) -> Iterator[tuple[Floats, float]]:
        """(R,) linear predictor and sigma, phi or shape, draw by draw."""
        scales = scale_draws(self.fit, len(self.draws))
        for draw, scale in zip(self.draws, scales, strict=True):
            yield np.asarray(self.rows.offset + self.matrix @ draw), float(scale)


def _nothing(name: str, why: str) -> Check:
    return Check(name, None, MOST_DISPERSION, True, f"not calculated: {why}")


def _dispersion(simulation: _Simulation, rng: np.random.Generator) -> Check:
    fit, rows = simulation.fit, simulation.rows
    observed, simulated = np.empty(len(simulation.draws)), np.empty(len(simulation.draws))
    try:
        for at, (eta, scale) in enumerate(simulation.predictors()):
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                mean, variance, sample = simulated_cells(fit, rows, eta, scale, rng)
                observed[at] = (((rows.outcome - mean) ** 2) / variance).sum()
                simulated[at] = (((sample - mean) ** 2) / variance).sum()
    except FitError as error:
        return _nothing("predictive_dispersion", str(error))
    # draws of the normal approximation have tails that the posterior has not, and exp() of them no mean
    ratio = float(observed.mean() / simulated.mean()) if fit.has_draws else float(np.median(observed / simulated))
    if not np.isfinite(ratio):
        return _nothing("predictive_dispersion", "outcomes simulated from the fit are not finite")
    tail = float(np.mean(simulated >= observed))
    passed = ratio <= MOST_DISPERSION or tail >= CHANCE
    what = "cell means" if fit.design.cells.has_moments else "cell totals"
    message = f"The {what} vary {ratio:.3g} times as much as the model expects; {tail:.0%} of simulated data sets vary as much."
    advice = family_named(fit.family).words.overdispersed
    return Check("predictive_dispersion", ratio, MOST_DISPERSION, passed, message if passed else f"{message} {advice}".rstrip())


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
