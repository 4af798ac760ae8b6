"""Leave-one-row-out cross-validation from cells, for rows whose outcome is true or false.

All rows of a cell with the same outcome have the same likelihood, so one importance ratio stands for all of them: the sum over rows is the
sum over (cell, outcome) by how many rows there are, exactly what the rows would give (Vehtari, Gelman and Gabry 2017, section 2; smoothed
as in Vehtari et al. 2024). Cells of the other families keep sums, not the outcomes that a single row's likelihood needs.
"""

from __future__ import annotations

import numpy as np

from multilevel.cells import Floats
from multilevel.fit import Check, Fit
from multilevel.predictive import coefficient_matrix
from multilevel.reduction import reduce_design

DRAWS = 1_000
MOST_PATTERNS = 20_000
"""Each (cell, outcome) costs about half a millisecond."""

RELIABLE = 0.7
"""Pareto k beyond which an estimate is not to be trusted."""


def row_loo(fit: Fit) -> tuple[Check, ...]:
    """``elpd_loo``, the expected log predictive density of a new row of each cell, summed over rows; empty where it does not exist.

    Larger is better; comparable between models of the same rows only. The message has the standard error, over rows, the effective number
    of parameters and the largest Pareto k. Never a gate.
    """
    design = fit.design
    if fit.family != "binomial" or not np.array_equal(design.cells.size, design.cells.n):
        return ()
    rows = reduce_design(design)
    counts = np.concatenate([rows.outcome, rows.size - rows.outcome])
    used = counts > 0
    if used.sum() > MOST_PATTERNS:
        return ()
    draws = fit.joint.draws(DRAWS, 0)
    eta = rows.offset[:, None] + np.asarray(coefficient_matrix(rows) @ draws.T)
    log_likelihood = -np.logaddexp(0.0, np.concatenate([-eta, eta])[used])
    return (_check(log_likelihood, counts[used]),)


def _check(log_likelihood: Floats, counts: Floats) -> Check:
    elpd, k = leave_one_out(log_likelihood)
    total = float(counts @ elpd)
    n_rows = float(counts.sum())
    error = float(np.sqrt(n_rows * (counts @ (elpd - total / n_rows) ** 2) / max(n_rows - 1.0, 1.0)))
    full = np.logaddexp.reduce(log_likelihood, axis=1) - np.log(log_likelihood.shape[1])
    parameters = float(counts @ (full - elpd))
    message = f"standard error {error:,.4g} over {n_rows:,.0f} rows; {parameters:,.4g} effective parameters; largest Pareto k {k.max():.2f}"
    if k.max() >= RELIABLE:
        message += f": {counts[k >= RELIABLE].sum():,.0f} rows have one above {RELIABLE}, for them the estimate is rough"
    return Check("elpd_loo", total, None, passed=bool(k.max() < RELIABLE), message=message)


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
