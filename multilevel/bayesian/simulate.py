"""Simulate the statistics themselves: from the prior for simulation-based calibration, from a fit for the parametric bootstrap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from multilevel.bayesian.families import Outcome
from multilevel.bayesian.parameters import Layout, sample_prior
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.cells.statistics import Floats
from multilevel.checking.predictive import coefficient_matrix
from multilevel.design.reduction import ReducedRows
from multilevel.errors import FitError

LARGEST_COUNT = 1e18
"""Mean of counts that are drawn: a 64-bit whole number holds 9.2e18."""


@dataclass(frozen=True)
class Simulated:
    """Statistics drawn from the model at a truth drawn from the prior: theta (d,), values (p + q,)."""

    rows: ReducedRows
    outcome: Outcome
    theta: Floats
    values: Floats


def simulate_statistics(rows: ReducedRows, family: str, priors: ResolvedPriors, rng: np.random.Generator) -> Simulated:
    """New outcomes for the cells of ``rows``; negative binomial and gamma outcomes are drawn row by row and then added up.

    Their sufficient statistics are not those of any distribution of the sums alone, so the rows must be simulated.
    """
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), priors.sigma is not None or priors.dispersion is not None)
    theta = sample_prior(1, layout, priors, rng)[0]
    beta = rng.multivariate_normal(priors.beta_location, np.linalg.inv(priors.beta_precision))
    effects = [
        (rng.normal(size=(block.n_levels, block.values.shape[1])) @ layout.factor(theta, at).T).ravel()
        for at, block in enumerate(rows.blocks)
    ]
    values = np.concatenate([beta, *effects])
    eta = rows.offset + coefficient_matrix(rows) @ values
    scale = float(layout.scale(theta))
    drawn, outcome = draw_statistics(rows, family, eta, scale, rng)
    return Simulated(drawn, outcome, theta, values)


def draw_statistics(rows: ReducedRows, family: str, eta: Floats, scale: float, rng: np.random.Generator) -> tuple[ReducedRows, Outcome]:
    """New statistics of the same cells at a linear predictor ``eta`` (R,); ``scale`` is sigma, phi or shape."""
    histogram, sum_log = np.zeros((0, 2)), 0.0
    residual_ss = rows.residual_ss
    if family == "gaussian":
        y = rng.normal(eta, scale)
        residual_ss = float(scale**2 * rng.chisquare(rows.n_rows - len(eta))) if rows.n_rows > len(eta) else 0.0
    elif family == "binomial":
        y = rng.binomial(rows.size.astype(np.int64), 1.0 / (1.0 + np.exp(-eta))).astype(np.float64)
    elif family == "poisson":
        y = _counts(rows.size * np.exp(eta), rng)
    else:
        of_row = np.repeat(np.arange(len(eta)), rows.n.astype(np.int64))
        each = rng.gamma(scale, np.exp(eta[of_row]) / scale)
        if family == "negative_binomial":
            each = _counts(each, rng)
            histogram = np.column_stack(np.unique(each, return_counts=True)).astype(np.float64)
        else:
            sum_log = float(np.log(each).sum())
        y = np.bincount(of_row, each, minlength=len(eta))
    drawn = replace(rows, outcome=y, residual_ss=residual_ss)
    return drawn, Outcome(family, y, drawn.size, drawn.n, drawn.n_rows, residual_ss, histogram, sum_log)


def _counts(means: Floats, rng: np.random.Generator) -> Floats:
    """Poisson counts; FitError where a mean is beyond what can be counted."""
    if not (means <= LARGEST_COUNT).all():
        raise FitError(f"a mean of {float(np.max(means)):.3g} was drawn, more than counts can be")
    return np.asarray(rng.poisson(means), dtype=np.float64)
