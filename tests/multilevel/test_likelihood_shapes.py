"""What the engines evaluate on the cells is the rows' log-likelihood plus a constant: every family in every shape of model.

The linear predictor of the rows is built here by hand, and its density is SciPy's; the cells' densities are those that the samplers and the
likelihood engine use.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.design.reduction import coefficient_matrix, outcome_of, reduce_design
from multilevel.formula.parse import parse_formula

SHAPES = {
    "nested": "x + w + (1 | d/c)",
    "crossed": "x + w + (1 | d) + (1 | h)",
    "correlated": "x + w + (1 + x | d) + (1 + w | h)",
    "uncorrelated": "x + w + (1 + x + w || h)",
    "interaction": "x * w + (1 + x | h) + (1 | d:h)",
}
RESPONSES = {
    "gaussian": "y",
    "lognormal": "log(y)",
    "binomial": "y",
    "trials": "p(y, n)",
    "poisson": "y",
    "exposed": "y",
    "negative_binomial": "y",
    "gamma": "y",
}
FAMILY = {"lognormal": "gaussian", "trials": "binomial", "exposed": "poisson"}


def make_rows(kind: str, seed: int, n: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    c = rng.integers(0, 5, n)
    frame = pd.DataFrame({"c": [f"C{i}" for i in c], "d": [f"D{i}" for i in c // 2], "h": [f"H{i}" for i in rng.integers(0, 3, n)]})
    frame["w"] = rng.integers(0, 2, n).astype(float)
    # many values under gaussian, where the moments keep them; three elsewhere, where they join the key
    frame["x"] = rng.normal(3, 2, n) if FAMILY.get(kind, kind) == "gaussian" else rng.integers(0, 3, n).astype(float)
    frame["n"] = rng.integers(1, 6, n)
    frame["e"] = rng.normal(size=n) * 0.4
    draws: dict[str, Callable[[], np.ndarray]] = {
        "gaussian": lambda: rng.normal(2, 1, n),
        "lognormal": lambda: rng.lognormal(0, 1, n),
        "binomial": lambda: rng.binomial(1, 0.4, n),
        "trials": lambda: rng.binomial(frame["n"], 0.4),
        "gamma": lambda: rng.gamma(1.5, 2.0, n),
    }
    frame["y"] = draws.get(kind, lambda: rng.poisson(2.0, n))()
    return frame


def column(label: str, frame: pd.DataFrame) -> np.ndarray:
    parts = [np.ones(len(frame)) if part == "Intercept" else frame[part].to_numpy(dtype=float) for part in label.split(":")]
    return np.asarray(np.prod(parts, axis=0))


def predictor(design: Design, values: np.ndarray, frame: pd.DataFrame) -> np.ndarray:
    """Of every row, from coefficients and effects in the design's order."""
    p = len(design.population)
    eta = sum((column(c.label, frame) * value for c, value in zip(design.population, values, strict=False)), np.zeros(len(frame)))
    for start, block in zip(design.starts, design.blocks, strict=True):
        own = frame[list(block.factor.columns)].agg(":".join, axis=1)
        several = len(block.factor.columns) > 1
        parents = block.factor.parents if several else [None] * block.factor.n_levels
        assert parents is not None
        names = [f"{parent}:{level}" if several else level for parent, level in zip(parents, block.factor.levels, strict=True)]
        level = own.map({name: at for at, name in enumerate(names)}).to_numpy()
        for at, c in enumerate(block.columns):
            eta = eta + column(c.label, frame) * values[p + start + level * len(block.columns) + at]
    return eta


def density_of_rows(kind: str, frame: pd.DataFrame, eta: np.ndarray, scale: float) -> float:
    y, mu = frame["y"].to_numpy(dtype=float), np.exp(eta)
    densities: dict[str, Callable[[], np.ndarray]] = {
        "gaussian": lambda: stats.norm.logpdf(y, eta, scale),
        "lognormal": lambda: stats.lognorm.logpdf(y, scale, scale=mu),
        "binomial": lambda: stats.bernoulli.logpmf(y, expit(eta)),
        "trials": lambda: stats.binom.logpmf(y, frame["n"], expit(eta)),
        "poisson": lambda: stats.poisson.logpmf(y, mu),
        "exposed": lambda: stats.poisson.logpmf(y, mu * np.exp(frame["e"])),
        "negative_binomial": lambda: stats.nbinom.logpmf(y, scale, scale / (scale + mu)),
        "gamma": lambda: stats.gamma.logpdf(y, scale, scale=mu / scale),
    }
    return float(np.sum(densities[kind]()))


ALL = [(kind, shape) for kind in RESPONSES for shape in SHAPES]
"""Of every family two shapes, and of the moments' family all, are in the default tests."""


def is_in_a_lane(kind: str, shape: str) -> bool:
    return kind != "gaussian" and shape not in ("nested", "interaction")


@pytest.mark.parametrize(
    ("kind", "shape"), [pytest.param(*each, marks=pytest.mark.parity) if is_in_a_lane(*each) else each for each in ALL]
)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 70))
def test_the_engines_densities_are_the_rows_up_to_a_constant(kind: str, shape: str, seed: int, n: int) -> None:
    frame, family = make_rows(kind, seed, n), FAMILY.get(kind, kind)
    formula = parse_formula(f"{RESPONSES[kind]} ~ {SHAPES[shape]}{' + offset(e)' if kind == 'exposed' else ''}")
    design = build_design(formula, cells_from_frame(formula, frame, family))
    rows = reduce_design(design)
    outcome, matrix = outcome_of(design.cells, rows, family), coefficient_matrix(rows)
    rng = np.random.default_rng(seed)
    sampler, engine, sizes = [], [], []
    for _ in range(4):
        values, scale = rng.normal(size=matrix.shape[1]) * 0.3, float(rng.uniform(0.5, 2.0))
        direct = density_of_rows(kind, frame, predictor(design, values, frame), scale)
        eta = rows.offset + matrix @ values
        sampler.append(direct - float(outcome.log_likelihood(eta, scale)))
        if family != "gaussian":
            terms = outcome.family.likelihood(outcome)
            engine.append(direct - float(terms.terms(eta, np.log(scale)).sum()) - terms.constant(np.log(scale)))
        sizes.append(abs(direct))
    assert np.ptp(sampler) <= 1e-10 * max(sizes)
    # the likelihood engine publishes the rows' own log-likelihood: its constant is zero
    assert np.max(np.abs(engine), initial=0.0) <= 1e-9 * max(sizes)


@pytest.mark.parametrize("kind", ["gaussian", "negative_binomial"])
def test_another_effect_of_one_level_shows(kind: str) -> None:
    frame, family = make_rows(kind, 3, 60), FAMILY.get(kind, kind)
    formula = parse_formula(f"{RESPONSES[kind]} ~ {SHAPES['correlated']}")
    design = build_design(formula, cells_from_frame(formula, frame, family))
    rows = reduce_design(design)
    values = np.zeros(coefficient_matrix(rows).shape[1])
    wrong = values.copy()
    wrong[-1] = 0.1
    found = [float(outcome_of(design.cells, rows, family).log_likelihood(coefficient_matrix(rows) @ v, 1.0)) for v in (values, wrong)]
    same = density_of_rows(kind, frame, predictor(design, values, frame), 1.0)
    assert abs((same - found[0]) - (same - found[1])) > 1e-6 * abs(same)
