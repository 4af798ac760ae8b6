"""Simulation-based calibration in the space of the statistics (Talts et al. 2018; Modrak et al. 2023)."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kstest

from multilevel.bayesian.collapsed_fit import sample_collapsed
from multilevel.bayesian.distributions import Prior
from multilevel.bayesian.families import log_likelihood
from multilevel.bayesian.nuts_fit import sample_nuts
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.sampling import Sampling
from multilevel.bayesian.simulate import simulate_statistics
from multilevel.predictive import coefficient_matrix
from multilevel.reduction import ReducedBlock, ReducedRows

KEPT = 99
"""Draws that the truth is ranked among."""


def rows_of(shape: str, n: int, rng: np.random.Generator) -> ReducedRows:
    """Cells of a small shop: ``crossed`` (a slope on the second factor) or ``nested``."""
    x = rng.integers(2, size=n).astype(float)
    X = np.column_stack([np.ones(n), x])
    first, second = (4, 8) if shape == "crossed" else (3, 9)
    b = rng.integers(second, size=n)
    a = rng.integers(first, size=n) if shape == "crossed" else b // 3
    inner = X if shape == "crossed" else np.ones((n, 1))
    blocks = (ReducedBlock(a.astype(np.int32), np.ones((n, 1)), first), ReducedBlock(b.astype(np.int32), inner, second))
    size = rng.integers(1, 6, size=n).astype(float)
    return ReducedRows(X, blocks, np.zeros(n), size, np.zeros(n), size, np.arange(n, dtype=np.int32), int(size.sum()), 0.0)


def priors_of(rows: ReducedRows, family: str) -> ResolvedPriors:
    half, normal = Prior("half_normal", (0.7,)), Prior("normal", (0.0, 1.0))
    return ResolvedPriors(
        np.zeros(2),
        np.eye(2),
        (normal, normal),
        tuple((half,) * block.values.shape[1] for block in rows.blocks),
        (2.0, 2.0),
        Prior("exponential", (1.0,)) if family == "gaussian" else None,
        Prior("half_normal", (1.0,)) if family in ("negative_binomial", "gamma") else None,
    )


def ranks(family: str, shape: str, simulations: int, draws: int = 250, narrow: float = 1.0) -> dict[str, np.ndarray]:
    """(simulations,) rank of the truth among ``KEPT`` draws, per quantity; ``narrow`` spoils the draws to see that it shows."""
    rng = np.random.default_rng(20)
    found: dict[str, list[int]] = {}
    for seed in range(simulations):
        rows = rows_of(shape, 60, np.random.default_rng(seed % 5))
        priors = priors_of(rows, family)
        truth = simulate_statistics(rows, family, priors, rng)
        sampling = Sampling(draws=draws, tune=300, cores=2)
        if family == "gaussian":
            collapsed = sample_collapsed(truth.rows, priors, sampling, seed)
            thetas, values = collapsed.thetas, collapsed.values
        else:
            sampled = sample_nuts(truth.rows, truth.outcome, priors, sampling, seed=seed)
            thetas, values = sampled.thetas, sampled.values
        at = np.linspace(0, len(values) - 1, KEPT).astype(int)
        thetas, values = thetas.reshape(len(values), -1)[at], values[at]
        thetas = thetas.mean(axis=0) + narrow * (thetas - thetas.mean(axis=0))
        values = values.mean(axis=0) + narrow * (values - values.mean(axis=0))
        matrix = coefficient_matrix(rows)

        def likelihood(theta: np.ndarray, value: np.ndarray, truth=truth, matrix=matrix) -> float:
            scale = float(np.exp(theta[-1])) if family in ("gaussian", "negative_binomial", "gamma") else 1.0
            return float(log_likelihood(truth.outcome, matrix @ value, scale))

        quantities = {f"theta{i}": (truth.theta[i], thetas[:, i]) for i in range(len(truth.theta))}
        quantities |= {f"value{i}": (truth.values[i], values[:, i]) for i in (0, 1, 2, 5, 8, len(truth.values) - 1)}
        joint = np.array([likelihood(t, v) for t, v in zip(thetas, values, strict=True)])
        quantities["log_likelihood"] = (likelihood(truth.theta, truth.values), joint)
        for name, (true, sampled_values) in quantities.items():
            found.setdefault(name, []).append(int((sampled_values < true).sum()))
    return {name: np.array(value) for name, value in found.items()}


@pytest.fixture
def calibration() -> Callable[..., dict[str, np.ndarray]]:
    return ranks


def uneven(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Quantities whose ranks are not uniform: a Kolmogorov-Smirnov p below 0.001 over the number of quantities."""
    spread = np.random.default_rng(0)
    p = {name: float(kstest((rank + spread.uniform(size=len(rank))) / (KEPT + 1), "uniform").pvalue) for name, rank in found.items()}
    return {name: value for name, value in p.items() if value < 0.001 / len(p)}


@pytest.fixture
def not_uniform() -> Callable[[dict[str, np.ndarray]], dict[str, float]]:
    return uneven
