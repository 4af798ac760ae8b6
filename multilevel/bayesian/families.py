"""What the sampler needs of each family: weights and working response for the pilot, and the log-likelihood of the cells.

Every linear predictor has the canonical or log link. Log-likelihoods leave out what does not depend on the parameters; for negative
binomial and gamma the terms in the dispersion alone are the rows' own (their gamma functions of cell sums cancel).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln

from multilevel.cells.statistics import Floats
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows


@dataclass(frozen=True)
class Outcome:
    """The rows' side of the likelihood.

    outcome, size, n : (R,). residual_ss, n_rows : gaussian. histogram : (H, 2) values and counts (negative binomial).
    sum_log_outcome : over the rows (gamma).
    """

    family: str
    outcome: Floats
    size: Floats
    n: Floats
    n_rows: int
    residual_ss: float
    histogram: Floats
    sum_log_outcome: float


def outcome_of(design: Design, rows: ReducedRows, family: str) -> Outcome:
    """Collect the likelihood's data from a design and its reduced rows."""
    cells = design.cells
    histogram = cells.histogram if cells.histogram is not None else np.zeros((0, 2))
    once = float(cells.once.get("sum_log_outcome", 0.0))
    return Outcome(family, rows.outcome, rows.size, rows.n, rows.n_rows, rows.residual_ss, histogram, once)


def working(outcome: Outcome, eta: Floats, dispersion: float) -> tuple[Floats, Floats]:
    """Fisher weights W (R,) and W times the working residual, at a linear predictor ``eta`` (R,), offset included.

    ``dispersion`` is sigma (gaussian), phi, shape, or ignored (McCullagh and Nelder 1989, section 2.5).
    """
    if outcome.family == "gaussian":
        return np.full(len(eta), dispersion**-2), (outcome.outcome - eta) / dispersion**2
    if outcome.family == "binomial":
        p = 1.0 / (1.0 + np.exp(-eta))
        return outcome.size * p * (1.0 - p), outcome.outcome - outcome.size * p
    mu = np.exp(np.clip(eta, -300.0, 300.0))
    if outcome.family == "poisson":
        return outcome.size * mu, outcome.outcome - outcome.size * mu
    if outcome.family == "negative_binomial":
        damping = 1.0 / (1.0 + mu / dispersion)
        return outcome.n * mu * damping, (outcome.outcome - outcome.n * mu) * damping
    return outcome.n * dispersion, dispersion * (outcome.outcome / mu - outcome.n)


def log_likelihood(outcome: Outcome, eta: Any, dispersion: Any, xp: Any = np) -> Any:
    """Log-likelihood of all rows at ``eta``, up to a constant.

    ``xp`` is NumPy or ``pytensor.tensor``; the fields of ``outcome`` may then be symbolic too.
    """
    log_gamma = gammaln if xp is np else xp.gammaln
    y, size, n = outcome.outcome, outcome.size, outcome.n
    if outcome.family == "gaussian":
        return -0.5 * (((y - eta) ** 2).sum() + outcome.residual_ss) / dispersion**2 - outcome.n_rows * xp.log(dispersion)
    if outcome.family == "binomial":
        log_one_plus = np.logaddexp(0.0, eta) if xp is np else xp.softplus(eta)
        return (y * eta - size * log_one_plus).sum()
    if outcome.family == "poisson":
        return (y * eta - size * xp.exp(eta)).sum()
    if outcome.family == "negative_binomial":
        values, counts = outcome.histogram[:, 0], outcome.histogram[:, 1]
        rows_only = (counts * (log_gamma(values + dispersion) - log_gamma(dispersion))).sum()
        return rows_only + (y * eta - (y + n * dispersion) * xp.log(dispersion + xp.exp(eta)) + n * dispersion * xp.log(dispersion)).sum()
    shape = dispersion
    rows_only = (shape - 1.0) * outcome.sum_log_outcome - outcome.n_rows * log_gamma(shape)
    return rows_only + (n * shape * (xp.log(shape) - eta) - shape * y * xp.exp(-eta)).sum()
