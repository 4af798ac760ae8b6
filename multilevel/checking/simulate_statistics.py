"""Simulate the statistics themselves: from the prior for simulation-based calibration, from a fit for the parametric bootstrap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.parameters import Layout, sample_prior
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.design.reduction import ReducedRows, coefficient_matrix
from multilevel.families.outcome import Outcome
from multilevel.families.registry import family_named


@dataclass(frozen=True)
class Simulated:
    """Statistics drawn from the model at a truth drawn from the prior: theta (d,), values (p + q,)."""

    rows: ReducedRows
    outcome: Outcome
    theta: Floats
    values: Floats


def simulate_statistics(rows: ReducedRows, family: str, priors: ResolvedPriors, rng: np.random.Generator) -> Simulated:
    """New outcomes for the cells of ``rows``."""
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
    observed = Outcome(family_named(family), rows.outcome, rows.size, rows.n, rows.n_rows, rows.residual_ss)
    outcome = observed.family.draw(observed, eta, scale, rng)
    return Simulated(replace(rows, outcome=outcome.outcome, residual_ss=outcome.residual_ss), outcome, theta, values)
