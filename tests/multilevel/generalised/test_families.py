"""Rows and cells agree for every family, constants included, and every derivative is that of the log-likelihood."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.reduction import outcome_of, reduce_design
from multilevel.errors import StudyError
from multilevel.families.likelihood import Likelihood
from multilevel.families.log_gamma import rising_digamma, rising_log_gamma
from multilevel.families.registry import family_named
from multilevel.formula.parse import parse_formula

FORMULAS = {
    "binomial": "p(y, trials) ~ x + (1 | g)",
    "poisson": "y ~ x + offset(exposure) + (1 | g)",
    "negative_binomial": "y ~ x + offset(exposure) + (1 | g)",
    "gamma": "y ~ x + (1 | g)",
}


def line_items(family: str, seed: int, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.integers(0, 3, n), "g": rng.choice(list("abc"), n), "trials": rng.integers(1, 5, n)})
    frame["exposure"] = rng.choice([0.0, 0.7], n)
    if family == "binomial":
        frame["y"] = rng.binomial(frame.trials, 0.4)
    elif family == "gamma":
        frame["y"] = rng.gamma(2.0, 1.5, n)
    else:
        frame["y"] = rng.negative_binomial(2, 0.4, n)
    return frame


def over_cells(family: str, frame: pd.DataFrame) -> tuple[Likelihood, np.ndarray, np.ndarray]:
    """The family over cells, a linear predictor of the cells (offset included), and the same of the rows."""
    formula = parse_formula(FORMULAS[family])
    cells = cells_from_frame(formula, frame, family)
    rows = reduce_design(build_design(formula, cells))
    effect = {"a": 0.3, "b": -0.4, "c": 0.9}
    group = cells.groups["g"]
    label = group.values[group.codes]
    eta = 0.2 + 0.5 * rows.X[:, 1] + np.array([effect[g] for g in label]) + rows.offset
    by_row = 0.2 + 0.5 * frame.x + frame.g.map(effect) + (frame.exposure if family in ("poisson", "negative_binomial") else 0.0)
    return family_named(family).likelihood(outcome_of(cells, rows, family)), eta, by_row.to_numpy()


def log_density(family: str, frame: pd.DataFrame, eta: np.ndarray, dispersion: float) -> float:
    mean = np.exp(eta)
    if family == "binomial":
        return float(stats.binom.logpmf(frame.y, frame.trials, 1.0 / (1.0 + np.exp(-eta))).sum())
    if family == "poisson":
        return float(stats.poisson.logpmf(frame.y, mean).sum())
    if family == "negative_binomial":
        return float(stats.nbinom.logpmf(frame.y, dispersion, dispersion / (dispersion + mean)).sum())
    return float(stats.gamma.logpdf(frame.y, dispersion, scale=mean / dispersion).sum())


@pytest.mark.parametrize("family", FORMULAS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), log_dispersion=st.floats(-2.0, 9.0))
def test_cells_give_the_rows_log_likelihood_with_its_constants(family: str, seed: int, log_dispersion: float) -> None:
    frame = line_items(family, seed)
    cells, eta, by_row = over_cells(family, frame)
    found = cells.terms(eta, log_dispersion).sum() + cells.constant(log_dispersion)
    # scipy's own log-gamma differences cancel for a large dispersion, hence the absolute part
    assert found == pytest.approx(log_density(family, frame, by_row, np.exp(log_dispersion)), rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("family", FORMULAS)
@pytest.mark.parametrize("log_dispersion", [-1.3, 0.6, 8.0])
def test_derivatives_are_those_of_the_log_likelihood(family: str, log_dispersion: float) -> None:
    cells, eta, _ = over_cells(family, line_items(family, 3))
    h = 1e-5

    def central(function, at):  # type: ignore[no-untyped-def]
        return (function(at + h) - function(at - h)) / (2.0 * h)

    at = cells.curvature(eta, log_dispersion)
    scale = np.abs(at.weight).max() + 1.0
    np.testing.assert_allclose(at.score, central(lambda e: cells.terms(e, log_dispersion), eta), atol=1e-6 * scale)
    np.testing.assert_allclose(-at.weight, central(lambda e: cells.curvature(e, log_dispersion).score, eta), atol=1e-6 * scale)
    np.testing.assert_allclose(at.weight_slope, central(lambda e: cells.curvature(e, log_dispersion).weight, eta), atol=1e-6 * scale)
    assert (at.weight > 0).all(), "the families are log-concave"
    by = cells.by_dispersion(eta, log_dispersion)
    np.testing.assert_allclose(by.terms, central(lambda d: cells.terms(eta, d), log_dispersion), atol=1e-5 * scale)
    np.testing.assert_allclose(by.score, central(lambda d: cells.curvature(eta, d).score, log_dispersion), atol=1e-5 * scale)
    np.testing.assert_allclose(by.weight, central(lambda d: cells.curvature(eta, d).weight, log_dispersion), atol=1e-5 * scale)
    assert by.constant == pytest.approx(central(cells.constant, log_dispersion), rel=1e-5, abs=1e-4)


def test_differences_of_log_gamma_functions_do_not_cancel_for_a_large_phi() -> None:
    values = np.array([0.0, 1.0, 2.0, 40.0])
    below, above = rising_log_gamma(values, 999.999), rising_log_gamma(values, 1000.001)
    np.testing.assert_allclose(below, above, rtol=1e-6)
    np.testing.assert_allclose(rising_log_gamma(values, 1e9), values * np.log(1e9), rtol=1e-7)
    np.testing.assert_allclose(rising_digamma(values, 999.999), rising_digamma(values, 1000.001), rtol=1e-5)
    # psi(2 + phi) - psi(phi) = 1 / phi + 1 / (phi + 1), exactly
    assert rising_digamma(np.array([2.0]), 5e4)[0] == pytest.approx(1 / 5e4 + 1 / 50_001, rel=1e-12)


def test_probabilities_of_a_count_are_those_of_poisson_for_a_huge_phi() -> None:
    counts, poisson = family_named("negative_binomial"), family_named("poisson")
    y, eta, one, phi = np.arange(5.0), np.full(5, 0.3), np.ones(5), np.full(5, 4e10)
    np.testing.assert_allclose(counts.row_log_probability(eta, y, one, phi), poisson.row_log_probability(eta, y, one, phi), atol=1e-9)
    np.testing.assert_allclose(counts.zero_probability(np.exp(eta), 4e10), poisson.zero_probability(np.exp(eta), 4e10), rtol=1e-9)


def test_a_negative_binomial_with_a_huge_phi_is_poisson() -> None:
    frame = line_items("poisson", 5)
    negative_binomial, eta, _ = over_cells("negative_binomial", frame)
    poisson, eta_without_offset, _ = over_cells("poisson", frame)
    one = negative_binomial.terms(eta, np.log(1e10)).sum() + negative_binomial.constant(np.log(1e10))
    two = poisson.terms(eta_without_offset, 0.0).sum() + poisson.constant(0.0)
    assert one == pytest.approx(two, abs=1e-5)


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(StudyError, match="'tweedie' is not"):
        family_named("tweedie")
