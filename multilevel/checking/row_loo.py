"""Leave-one-row-out cross-validation from cells, for discrete outcomes.

All rows of a cell with the same outcome (and the same trials or exposure) have the same likelihood, so one importance ratio stands for all
of them: the sum over rows is the sum over (cell, outcome) by how many rows there are, exactly what the rows would give (Vehtari, Gelman
and Gabry 2017, section 2; smoothed as in Vehtari et al. 2024). Rows of the other families have densities, not probabilities, and their
cells keep moments: for them there is cross-validation over groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.cells.cell_plan import MOST_OUTCOMES
from multilevel.design.model import Design
from multilevel.design.reduction import coefficient_matrix, reduce_design
from multilevel.families.registry import family_named
from multilevel.fit.container import Check, Fit
from multilevel.fit.joint_draws import posterior_of

DRAWS = 1_000
AT_ONCE = 2_000

MOST_VALUES = 40_000_000
"""Draws times coefficients that are made for this alone (0.3 GB)."""

MOST_WITHOUT_DRAWS = 2_000
"""The same of fits without posterior draws: each costs a millisecond, more than the fit itself."""

TOO_MANY = 2.0
"""Threshold of effective parameters over coefficients: above it single rows vary far more than the family allows."""

RELIABLE = 0.7
"""Pareto k beyond which an estimate is not to be trusted."""


@dataclass(frozen=True)
class Patterns:
    """Rows that have the same likelihood: cell, outcome, trials or exposure (P,), and how many rows they are."""

    cell: Integers
    value: Floats
    size: Floats
    n: Floats


def row_loo(fit: Fit) -> tuple[Check, ...]:
    """``elpd_loo``, the expected log predictive density of a new row of each cell, summed over rows; empty for continuous outcomes.

    Larger is better; comparable between models of the same rows only. The message has the standard error, over rows, the effective number
    of parameters and the largest Pareto k. Without a value where more than ``MOST_OUTCOMES`` patterns (``MOST_WITHOUT_DRAWS`` without
    posterior draws) would have to be gone through, or where the normal approximation, which then stands for the posterior, is too far
    from it for some row. Never a gate.
    """
    if not family_named(fit.family).statistics.is_discrete:
        return ()
    patterns = patterns_of(fit.design)
    most = MOST_OUTCOMES if fit.has_draws else MOST_WITHOUT_DRAWS
    if patterns is None or len(patterns.n) > most:
        message = f"not calculated: the rows have more than {most:,} different combinations of cell and outcome"
        return (Check("elpd_loo", None, None, passed=True, message=message),)
    n_coefficients = len(fit.design.population) + fit.design.n_effects
    if not fit.has_draws and n_coefficients * DRAWS > MOST_VALUES:
        message = f"not calculated: draws of {n_coefficients:,} coefficients are too many to hold"
        return (Check("elpd_loo", None, None, passed=True, message=message),)
    elpd, full, k = _scores(fit, patterns)
    if fit.has_draws:
        return (_check(elpd, full, k, patterns.n, n_coefficients),)
    rough = ~(k < RELIABLE) | ~np.isfinite(elpd)
    if rough.any():
        message = f"not calculated: the normal approximation does not hold for {patterns.n[rough].sum():,.0f} rows; use engine: bayesian"
        return (Check("elpd_loo", None, None, passed=True, message=message),)
    found = _check(elpd, full, k, patterns.n, n_coefficients)
    return (replace(found, message=f"{found.message}; from the normal approximation at the estimated variances"),)


def patterns_of(design: Design) -> Patterns | None:
    """The rows' patterns: of true-or-false outcomes from the sums, of others as the cells keep them; None where they do not."""
    cells = design.cells
    single = family_named(cells.family).single_outcomes(cells.total, cells.size, cells.n.astype(np.float64))
    if single is not None:
        cell = np.tile(np.arange(cells.n_cells), len(single))
        n = np.concatenate([rows for _, rows in single])
        value = np.repeat([outcome for outcome, _ in single], cells.n_cells)
        used = n > 0
        return Patterns(cell[used], value[used], np.ones(int(used.sum())), n[used])
    kept = cells.outcomes
    return None if kept is None else Patterns(kept.cell.astype(np.int64), kept.value, kept.size, kept.n)


def _scores(fit: Fit, patterns: Patterns) -> tuple[Floats, Floats, Floats]:
    """(P,) each: log predictive density with the row left out, the same with it, and Pareto k; ``AT_ONCE`` patterns in memory."""
    rows, draws, phi = reduce_design(fit.design), fit.joint.draws(DRAWS, 0), dispersions(fit)
    matrix, place = coefficient_matrix(rows), np.empty(fit.design.cells.n_cells, dtype=np.int64)
    place[rows.cell] = np.arange(len(rows.cell))
    pieces, family = [], family_named(fit.family)
    for start in range(0, len(patterns.n), AT_ONCE):
        here = slice(start, start + AT_ONCE)
        own = place[patterns.cell[here]]
        eta = rows.offset[own, None] + np.asarray(matrix[own] @ draws.T)
        found = family.row_log_probability(eta, patterns.value[here, None], patterns.size[here, None], phi)
        elpd, k = leave_one_out(found)
        pieces.append((elpd, np.logaddexp.reduce(found, axis=1) - np.log(found.shape[1]), k))
    elpd, full, k = (np.concatenate(each) for each in zip(*pieces, strict=True))
    return elpd, full, k


def dispersions(fit: Fit) -> Floats:
    """(S,) phi of each of the draws, or (1,) the likelihood engine's estimate."""
    posterior = posterior_of(fit)
    if fit.dispersion_draws is None or posterior is None:
        return np.array([float(fit.dispersion or np.nan)])
    kept = posterior.kept(DRAWS)
    if posterior.n_draws < DRAWS:  # drawn again with replacement, as the joint does
        kept = np.random.default_rng(0).integers(posterior.n_draws, size=DRAWS)
    return fit.dispersion_draws[kept]


def _check(elpd: Floats, full: Floats, k: Floats, counts: Floats, n_coefficients: int) -> Check:
    total = float(counts @ elpd)
    n_rows = float(counts.sum())
    error = float(np.sqrt(n_rows * (counts @ (elpd - total / n_rows) ** 2) / max(n_rows - 1.0, 1.0)))
    parameters = float(counts @ (full - elpd))
    message = f"standard error {error:,.4g} over {n_rows:,.0f} rows; {parameters:,.4g} effective parameters; largest Pareto k {k.max():.2f}"
    if parameters > TOO_MANY * n_coefficients:
        message += f"; the model has {n_coefficients:,} coefficients, so single rows vary far more than its family allows"
    rough = ~(k < RELIABLE)
    if rough.any():
        message += f"; {counts[rough].sum():,.0f} rows have one above {RELIABLE}: of them this score is rough, not the estimates"
    return Check("elpd_loo", total, None, passed=not rough.any(), message=message)


def cell_log_likelihood(fit: Fit) -> Floats | None:
    """(S, C) log-likelihood of each cell's rows together at every posterior draw; None where cells do not keep single rows' outcomes.

    Of discrete families only: the sum over a cell's rows of the log probability of each (Vehtari, Gelman and Gabry 2017, section 2).
    """
    posterior, family = posterior_of(fit), family_named(fit.family)
    patterns = patterns_of(fit.design) if family.statistics.is_discrete else None
    if posterior is None or patterns is None:
        return None
    rows = reduce_design(fit.design)
    matrix, place = coefficient_matrix(rows), np.empty(fit.design.cells.n_cells, dtype=np.int64)
    place[rows.cell] = np.arange(len(rows.cell))
    phi = np.full(1, np.nan) if fit.dispersion_draws is None else fit.dispersion_draws
    found = np.zeros((posterior.n_draws, fit.design.cells.n_cells))
    for start in range(0, len(patterns.n), AT_ONCE):
        here = slice(start, start + AT_ONCE)
        own = place[patterns.cell[here]]
        eta = rows.offset[own, None] + np.asarray(matrix[own] @ posterior.values.T)
        of_row = family.row_log_probability(eta, patterns.value[here, None], patterns.size[here, None], phi)
        np.add.at(found.T, patterns.cell[here], patterns.n[here, None] * of_row)
    return found


def leave_one_out(log_likelihood: Floats) -> tuple[Floats, Floats]:
    """(P,) log predictive density of each pattern's row with that row left out, and Pareto k (P,), of (P, S) log-likelihoods."""
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    elpd, k = np.empty(len(log_likelihood)), np.empty(len(log_likelihood))
    for at, row in enumerate(log_likelihood):
        if np.ptp(row) < 1e-12:  # the same in every draw: leaving the row out changes nothing
            elpd[at], k[at] = row.mean(), -np.inf
            continue
        weights, k[at] = array_stats.psislw(row)
        elpd[at] = np.logaddexp.reduce(weights + row) - np.logaddexp.reduce(weights)
    return elpd, k
