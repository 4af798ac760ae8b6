"""Rows and cells give the same likelihood up to a constant: every family, random data, random parameters.

The log-densities of the reduced rows are written out here as the docstrings of ``ReducedRows`` and ``CellStatistics`` state them; the
design matrix of the rows is built by hand, not by the code under test.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gammaln

from multilevel.arrays import Floats
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, reduce_design
from multilevel.formula.parse import parse_formula

FORMULAS = {
    "gaussian": "y ~ x*week + f + u + (1 + x | g) + (1 | h)",
    "lognormal": "log(y) ~ x + z + x:z + offset(e) + (1 | g)",
    "weighted": "y | weights(w) ~ x + z + week + (1 | g)",
    "known": "y | se(w) ~ x + (1 | g)",
    "binomial": "y ~ week*f + (1 | g) + (1 | h)",
    "trials": "p(y, n) ~ week*f + u + (1 | g) + (1 | h)",
    "poisson": "y ~ week*f + offset(e) + (1 | g) + (1 | h)",
    "negative_binomial": "y ~ f + week + (1 | g)",
    "gamma": "y ~ f + week + (1 | g)",
}
FAMILY = {"lognormal": "gaussian", "weighted": "gaussian", "known": "gaussian", "trials": "binomial"}


def make_rows(kind: str, seed: int, n: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = rng.integers(0, 3, n)
    frame = pd.DataFrame(
        {
            "g": np.array([f"G{i}" for i in g], dtype=object),
            "h": rng.integers(0, 2, n),
            "f": rng.choice(["a", "b"], n).astype(object),
            "week": rng.integers(0, 3, n),
            "x": rng.choice([rng.normal(size=n), rng.normal(size=n) + 1e4, rng.integers(0, 30, n) / 7.0]),
            "u": np.array([0.3, -1.0, 2.0])[g],
            "w": rng.uniform(0.3, 3, n),
            "e": rng.normal(size=n) * 0.3,
            "n": rng.integers(1, 6, n),
        }
    )
    # now and then one predictor is a function of another within some cells, so that their Gram matrices are singular
    frame["z"] = np.where(g == 0, 2 * frame["x"] - 1, rng.normal(size=n))
    family = FAMILY.get(kind, kind)
    if family == "gaussian":
        frame["y"] = np.exp(rng.normal(size=n)) + (0.0 if kind == "lognormal" else 1e3)
    elif kind == "binomial":
        frame["y"] = rng.random(n) < 0.6
    elif kind == "trials":
        frame["y"] = rng.binomial(frame["n"], 0.4)
    elif family == "gamma":
        frame["y"] = rng.gamma(1.5, 2.0, n)
    else:
        frame["y"] = rng.poisson(2.0, n)
    return frame


@dataclass(frozen=True)
class Parameters:
    """Coefficients by label, effects by (factor name, level, column label), and a dispersion."""

    design: Design
    beta: dict[str, float]
    effects: dict[tuple[str, str, str], float]
    dispersion: float


def draw(design: Design, rng: np.random.Generator) -> Parameters:
    scale = 0.3
    beta = {column.label: float(rng.normal()) * scale for column in design.population}
    effects = {
        (block.factor.name, level, column.label): float(rng.normal()) * scale
        for block in design.blocks
        for level in block.factor.levels
        for column in block.columns
    }
    return Parameters(design, beta, effects, float(rng.uniform(0.5, 2)))


def value_of(label: str, frame: pd.DataFrame) -> Floats:
    """A design column for the rows, from its label alone."""
    value = np.ones(len(frame))
    for part in label.split(":"):
        if "[" in part:
            column, level = part.rstrip("]").split("[")
            value = value * (frame[column].astype(str) == level).to_numpy()
        elif part != "Intercept":
            value = value * frame[part].to_numpy(dtype=float)
    return value


def predictor_of_rows(parameters: Parameters, frame: pd.DataFrame, *, offset: bool) -> Floats:
    eta = sum((value_of(label, frame) * b for label, b in parameters.beta.items()), np.zeros(len(frame)))
    for (factor, level, label), effect in parameters.effects.items():
        eta = eta + value_of(label, frame) * effect * (frame[factor].astype(str) == level).to_numpy()
    return eta + frame["e"].to_numpy() * offset


def predictor_of_cells(parameters: Parameters, rows: ReducedRows) -> Floats:
    eta = rows.offset + rows.X @ np.array(list(parameters.beta.values()))
    for block, reduced in zip(parameters.design.blocks, rows.blocks, strict=True):
        table = np.array([[parameters.effects[block.factor.name, v, c.label] for c in block.columns] for v in block.factor.levels])
        eta = eta + np.sum(reduced.values * table[reduced.codes], axis=1)
    return eta


def density_of_rows(kind: str, frame: pd.DataFrame, eta: Floats, dispersion: float) -> float:
    y, mu = frame["y"].to_numpy(dtype=float), np.exp(np.minimum(eta, 500))
    sd = {"weighted": dispersion / np.sqrt(frame["w"]), "known": frame["w"]}.get(kind, dispersion)
    densities: dict[str, Callable[[], Floats]] = {
        "gaussian": lambda: stats.norm.logpdf(y, eta, sd),
        "weighted": lambda: stats.norm.logpdf(y, eta, sd),
        "known": lambda: stats.norm.logpdf(y, eta, sd),
        "lognormal": lambda: stats.norm.logpdf(np.log(y), eta, sd),
        "binomial": lambda: stats.binom.logpmf(y, 1, 1 / (1 + 1 / mu)),
        "trials": lambda: stats.binom.logpmf(y, frame["n"], 1 / (1 + 1 / mu)),
        "poisson": lambda: stats.poisson.logpmf(y, mu),
        "negative_binomial": lambda: stats.nbinom.logpmf(y, dispersion, dispersion / (dispersion + mu)),
        "gamma": lambda: stats.gamma.logpdf(y, dispersion, scale=mu / dispersion),
    }
    return float(np.sum(densities[kind]()))


def density_of_cells(kind: str, design: Design, rows: ReducedRows, eta: Floats, dispersion: float) -> float:
    cells, y, mu = design.cells, rows.outcome, np.exp(np.minimum(eta, 500))
    family = FAMILY.get(kind, kind)
    if family == "gaussian":
        sigma = 1.0 if cells.known_sigma else dispersion
        left_over = rows.n_rows - len(rows.outcome)
        return float(np.sum(stats.norm.logpdf(y, eta, sigma)) - left_over * np.log(sigma) - rows.residual_ss / (2 * sigma**2))
    if family == "binomial":
        return float(np.sum(stats.binom.logpmf(y, rows.size, 1 / (1 + 1 / mu))))
    if family == "poisson":
        return float(np.sum(stats.poisson.logpmf(y, rows.size * mu)))
    if family == "negative_binomial":
        phi, n = dispersion, rows.n
        assert cells.histogram is not None
        values, counts = cells.histogram.T
        sums = np.sum(stats.nbinom.logpmf(y, n * phi, n * phi / (n * phi + n * mu)))
        correction = counts @ (gammaln(values + phi) - gammaln(phi)) - np.sum(gammaln(y + n * phi) - gammaln(n * phi))
        return float(sums + correction)
    a, n = dispersion, rows.n
    sums = np.sum(stats.gamma.logpdf(y, n * a, scale=n * mu / (n * a)))
    return float(
        sums + (a - 1) * cells.once["sum_log_outcome"] - rows.n_rows * gammaln(a) - np.sum((n * a - 1) * np.log(y) - gammaln(n * a))
    )


@pytest.mark.parametrize("kind", FORMULAS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60))
def test_rows_and_cells_differ_by_a_constant(kind: str, seed: int, n: int) -> None:
    frame = make_rows(kind, seed, n)
    formula = parse_formula(FORMULAS[kind])
    design = build_design(formula, cells_from_frame(formula, frame, FAMILY.get(kind, kind)))
    rows = reduce_design(design)
    rng = np.random.default_rng(seed)
    differences, sizes = [], []
    for _ in range(4):
        parameters = draw(design, rng)
        # predictors of size 1e4 would put exp(eta) out of range
        eta = predictor_of_rows(parameters, frame, offset=kind in {"lognormal", "poisson"})
        by_rows = density_of_rows(kind, frame, eta, parameters.dispersion)
        differences.append(by_rows - density_of_cells(kind, design, rows, predictor_of_cells(parameters, rows), parameters.dispersion))
        sizes.append(abs(by_rows))
    assert np.ptp(differences) <= 1e-10 * max(sizes)


@pytest.mark.parametrize("kind", ["gaussian", "weighted"])
def test_a_cell_gives_at_most_as_many_rows_as_it_has_columns_or_line_items(kind: str) -> None:
    frame = make_rows(kind, 5, 50)
    formula = parse_formula(FORMULAS[kind])
    cells = cells_from_frame(formula, frame, "gaussian")
    rows = reduce_design(build_design(formula, cells))
    per_cell = np.bincount(rows.cell, minlength=cells.n_cells)
    assert np.all(per_cell <= np.minimum(cells.n, 1 + len(cells.features)))
    assert rows.n.sum() == rows.n_rows == 50


def test_a_predictor_fixed_in_every_cell_costs_no_rows() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 40, 500)
    frame = pd.DataFrame({"g": group, "u": rng.normal(size=40)[group], "y": rng.normal(size=500)})
    formula = parse_formula("y ~ u + (1 | g)")
    assert len(reduce_design(build_design(formula, cells_from_frame(formula, frame, "gaussian"))).outcome) == 40


def test_least_squares_on_the_reduced_rows_is_least_squares_on_the_rows() -> None:
    frame = make_rows("gaussian", 11, 400).assign(y=lambda f: f["y"] - 1e3)
    formula = parse_formula("y ~ x + z + week + (1 | g)")
    rows = reduce_design(build_design(formula, cells_from_frame(formula, frame, "gaussian")))
    X = np.column_stack([np.ones(400), frame["x"], frame["z"], frame["week"]])
    expected, rss, *_ = np.linalg.lstsq(X, frame["y"].to_numpy())
    beta, reduced_rss, *_ = np.linalg.lstsq(rows.X[:, [0, 1, 2, 3]], rows.outcome)
    np.testing.assert_allclose(np.sort(beta), np.sort(expected), rtol=1e-7)
    assert reduced_rss[0] + rows.residual_ss == pytest.approx(rss[0], rel=1e-9)
