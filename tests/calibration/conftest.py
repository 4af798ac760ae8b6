"""Simulation-based calibration in the space of the statistics (Talts et al. 2018; Modrak et al. 2023).

Ranks are compared with uniform ones by the simultaneous envelope of their ECDF (Saeilynoja, Buerkner and Vehtari 2022, section 2.2).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from scipy.special import bdtr, expit

from multilevel.bayesian.collapsed_fit import sample_collapsed
from multilevel.bayesian.distributions import Prior
from multilevel.bayesian.nuts_fit import sample_nuts
from multilevel.bayesian.points_fit import sample_points
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.sampling import Sampling
from multilevel.checking.simulate_statistics import Simulated, simulate_statistics
from multilevel.design.reduction import ReducedBlock, ReducedRows, coefficient_matrix
from multilevel.families.registry import has_two_parts
from multilevel.families.two_part import TWO_PART
from multilevel.fit.theta_spread import points_by_turns

KEPT = 99
"""Draws that the truth is ranked among."""

FALSE_ALARMS = 0.005
"""Probability that a calibrated model is refused, all its quantities together (Bonferroni)."""

ENVELOPES = 50_000
"""Uniform samples that give the envelope's null distribution."""


def rows_of(shape: str, n: int, rng: np.random.Generator) -> ReducedRows:
    """Cells of a small shop: ``crossed`` (a slope on the second factor) or ``nested``.

    NUTS takes all coefficients of the first together, of the second the parents and beta, then child by child.
    """
    x = rng.integers(2, size=n).astype(float)
    X = np.column_stack([np.ones(n), x])
    first, second = (4, 8) if shape == "crossed" else (3, 30)
    b = rng.integers(second, size=n)
    a = rng.integers(first, size=n) if shape == "crossed" else b // 10
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


@dataclass(frozen=True)
class Drawn:
    """A truth and ``KEPT`` draws of its posterior: parameters, coefficients, log-likelihoods; ``eta`` the linear predictors (draws, R)."""

    truth: Simulated
    thetas: np.ndarray
    values: np.ndarray
    true_likelihood: float
    likelihoods: np.ndarray
    true_eta: np.ndarray
    eta: np.ndarray


def scale_of(family: str, theta: np.ndarray) -> float:
    return float(np.exp(theta[-1])) if family in ("gaussian", "negative_binomial", "gamma") else 1.0


def posterior(rows: ReducedRows, family: str, rng: np.random.Generator, seed: int, draws: int, narrow: float, form: str = "draws") -> Drawn:
    priors = priors_of(rows, family)
    truth = simulate_statistics(rows, family, priors, rng)
    sampling = Sampling(draws=draws, tune=300, cores=1)
    if form == "points":
        sample = sample_points(truth.rows, priors, sampling, seed)
        turns = points_by_turns(KEPT, sample.levels.weights, seed)
        thetas = sample.conditionals.thetas[turns]
        values = np.concatenate([sample.conditionals(int(point)).draws(1, KEPT * seed + at) for at, point in enumerate(turns)])
    elif family == "gaussian":
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

    def likelihood(theta: np.ndarray, value: np.ndarray) -> float:
        return float(truth.outcome.log_likelihood(matrix @ value, scale_of(family, theta)))

    joint = np.array([likelihood(t, v) for t, v in zip(thetas, values, strict=True)])
    eta = np.array([matrix @ value for value in values])
    return Drawn(truth, thetas, values, likelihood(truth.theta, truth.values), joint, matrix @ truth.values, eta)


def quantities_of(drawn: Drawn, prefix: str = "") -> dict[str, tuple[float, np.ndarray]]:
    """Every parameter, some coefficients and the joint log-likelihood: truth and draws."""
    truth = drawn.truth
    found = {f"{prefix}theta{i}": (truth.theta[i], drawn.thetas[:, i]) for i in range(len(truth.theta))}
    found |= {f"{prefix}value{i}": (truth.values[i], drawn.values[:, i]) for i in (0, 1, 2, 5, 8, len(truth.values) - 1)}
    return found | {f"{prefix}log_likelihood": (drawn.true_likelihood, drawn.likelihoods)}


def above_zero(rows: ReducedRows, positive: np.ndarray) -> ReducedRows:
    """The cells that have rows above zero, with those; levels without any keep their place."""
    keep = positive > 0
    return replace(
        rows,
        X=rows.X[keep],
        blocks=tuple(replace(block, codes=block.codes[keep], values=block.values[keep]) for block in rows.blocks),
        outcome=rows.outcome[keep],
        size=positive[keep],
        offset=rows.offset[keep],
        n=positive[keep],
        cell=rows.cell[keep],
        n_rows=int(positive.sum()),
    )


def two_part_quantities(
    rows: ReducedRows, family: str, rng: np.random.Generator, seed: int, draws: int, narrow: float
) -> dict[str, tuple[float, np.ndarray]]:
    """Both parts' quantities, the log-likelihood of the whole, and the expected value of two cells."""
    own = TWO_PART[family].amount.name
    occurrence = posterior(rows, "binomial", rng, seed, draws, narrow)
    positive = occurrence.truth.outcome.outcome
    amount = posterior(above_zero(rows, positive), own, rng, seed + 10_000, draws, narrow)
    found = quantities_of(occurrence, "occurrence_") | quantities_of(amount, "amount_")
    joint = occurrence.likelihoods + amount.likelihoods
    found["log_likelihood"] = (occurrence.true_likelihood + amount.true_likelihood, joint)
    place = np.flatnonzero(positive > 0)
    for name, cell in (("expected_first", 0), ("expected_last", len(place) - 1)):
        spreads = [scale_of(own, theta) ** 2 / 2 if own == "gaussian" else 0.0 for theta in (amount.truth.theta, *amount.thetas)]
        true = expit(occurrence.true_eta[place[cell]]) * np.exp(amount.true_eta[cell] + spreads[0])
        draws_of = expit(occurrence.eta[:, place[cell]]) * np.exp(amount.eta[:, cell] + np.array(spreads[1:]))
        found[name] = (float(true), draws_of)
    return found


def ranks(family: str, shape: str, simulations: int, draws: int = 250, narrow: float = 1.0, form: str = "draws") -> dict[str, np.ndarray]:
    """(simulations,) rank of the truth among ``KEPT`` draws, per quantity; ``narrow`` spoils the draws to see that it shows; ``form``
    "points" draws from importance points of the variance parameters."""
    rng = np.random.default_rng(20)
    found: dict[str, list[int]] = {}
    for seed in range(simulations):
        rows = rows_of(shape, 60, np.random.default_rng(seed % 5))
        if has_two_parts(family):
            quantities = two_part_quantities(rows, family, rng, seed, draws, narrow)
        else:
            quantities = quantities_of(posterior(rows, family, rng, seed, draws, narrow, form))
        for name, (true, drawn) in quantities.items():
            found.setdefault(name, []).append(int((drawn < true).sum()))
    return {name: np.array(value) for name, value in found.items()}


@pytest.fixture
def calibration() -> Callable[..., dict[str, np.ndarray]]:
    return ranks


@dataclass(frozen=True)
class Evenness:
    """How far a quantity's ranks are from uniform: ``p`` of the simultaneous envelope, ``deviation`` the largest of ECDF minus uniform."""

    p: float
    deviation: float


@cache
def envelope(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(n + 1, n - 1) smaller tail probability of each count at the points k / n, and (M,) its sorted minimum over uniform samples."""
    points = np.arange(1, n) / n
    counts = np.arange(n + 1)[:, None]
    above = np.where(counts > 0, 1.0 - bdtr(np.maximum(counts - 1, 0), n, points), 1.0)
    tails = np.minimum(bdtr(counts, n, points), above)
    drawn = np.cumsum(np.random.default_rng(1).multinomial(n, np.full(n, 1.0 / n), size=ENVELOPES), axis=1)[:, :-1]
    return tails, np.sort(np.min(tails[drawn, np.arange(n - 1)], axis=1))


def evenness(rank: np.ndarray, spread: np.random.Generator) -> Evenness:
    """Of one quantity's ranks; spread evenly over their steps, they are uniform on (0, 1) where the posterior is calibrated."""
    n = len(rank)
    place = (rank + spread.uniform(size=n)) / (KEPT + 1)
    tails, null = envelope(n)
    count = np.searchsorted(np.sort(place), np.arange(1, n) / n, side="right")
    smallest = np.min(tails[count, np.arange(n - 1)])
    p = (1 + np.searchsorted(null, smallest, side="right")) / (ENVELOPES + 1)
    return Evenness(float(p), float(np.max(np.abs(count / n - np.arange(1, n) / n))))


def measure(found: dict[str, np.ndarray]) -> dict[str, Evenness]:
    spread = np.random.default_rng(0)
    return {name: evenness(rank, spread) for name, rank in found.items()}


@pytest.fixture
def evenness_of() -> Callable[[dict[str, np.ndarray]], dict[str, Evenness]]:
    """As ``measured``, for modules that have a function of that name."""
    return measure


@pytest.fixture
def measured() -> Callable[[dict[str, np.ndarray]], dict[str, Evenness]]:
    """Evenness of every quantity's ranks."""
    return measure


def uneven(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Quantities whose ranks leave the envelope, with their p."""
    return {name: each.p for name, each in measure(found).items() if each.p < FALSE_ALARMS / len(found)}


@pytest.fixture
def not_uniform() -> Callable[[dict[str, np.ndarray]], dict[str, float]]:
    return uneven


@pytest.fixture
def null_minima() -> Callable[[int], np.ndarray]:
    """The envelope's null distribution for so many simulations."""
    return lambda n: envelope(n)[1]
