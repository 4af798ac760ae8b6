"""Small dispersions and large counts: the inner iterations end where rounding ends them, at the modes of the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import gammaln

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.reduction import outcome_of, reduce_design
from multilevel.errors import FitError
from multilevel.families.likelihood import Likelihood, rounding_of_value
from multilevel.families.log_gamma import digamma_gap, log_gamma_gap
from multilevel.families.registry import family_named
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear

# family, and the shape, mean or number of trials of a row
LARGE = [
    ("gamma", 500.0),
    ("gamma", 5_000.0),
    ("gamma", 1e8),
    ("negative_binomial", 1e6),
    ("negative_binomial", 1e7),
    ("poisson", 1e6),
    ("poisson", 1e9),
    ("binomial", 1e6),
]
TEXT = {"binomial": "p(y, t) ~ x + (1 | g)"}


def rows(family: str, size: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, x = np.arange(200) // 10, rng.integers(0, 2, 200)
    mean = np.exp(0.1 * x + 0.1 * rng.normal(size=20)[g])
    draw = {
        "gamma": lambda: rng.gamma(size, 6.0 * mean / size),
        "negative_binomial": lambda: rng.negative_binomial(20, 20 / (20 + size * mean)),
        "poisson": lambda: rng.poisson(size * mean),
        "binomial": lambda: rng.binomial(int(size), mean / (3.0 + mean)),
    }
    return pd.DataFrame({"y": draw[family]().astype(float), "x": x, "t": size, "g": [f"g{level}" for level in g]})


def fitted(family: str, frame: pd.DataFrame) -> Fit:
    formula = parse_formula(TEXT.get(family, "y ~ x + (1 | g)"))
    return fit_generalised(build_design(formula, cells_from_frame(formula, frame, family)), family)


def over_cells(family: str, frame: pd.DataFrame) -> tuple[Likelihood, int]:
    formula = parse_formula(TEXT.get(family, "y ~ x + (1 | g)"))
    cells = cells_from_frame(formula, frame, family)
    reduced = reduce_design(build_design(formula, cells))
    return family_named(family).likelihood(outcome_of(cells, reduced, family)), len(reduced.outcome)


@pytest.mark.parametrize(("family", "size"), LARGE)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.parity)])
def test_every_table_has_a_fit(family: str, size: float, seed: int) -> None:
    frame = rows(family, size, seed)
    fit = fitted(family, frame)
    assert all(check.passed for check in fit.checks)
    assert fit.components[0].estimate == pytest.approx(0.1, rel=0.7)
    assert fit.joint.mean[1] == pytest.approx(0.1, abs=0.1)


def test_a_gamma_of_shape_500_is_the_direct_maximum_over_its_rows() -> None:
    frame = rows("gamma", 500.0, 3)
    fit = fitted("gamma", frame)
    y, x, g = frame.y.to_numpy(), frame.x.to_numpy(), np.arange(200) // 10

    def deviance(v: np.ndarray) -> float:
        sd, shape = np.exp(v[2]), np.exp(v[3])
        u = np.zeros(20)
        for _ in range(30):
            ratio = y * np.exp(-(v[0] + v[1] * x + sd * u[g]))
            curvature = 1.0 + sd**2 * shape * np.bincount(g, ratio)
            u = u + (sd * shape * np.bincount(g, ratio - 1.0) - u) / curvature
        eta = v[0] + v[1] * x + sd * u[g]
        density = shape * (np.log(shape) - eta) - gammaln(shape) + (shape - 1.0) * np.log(y) - shape * y * np.exp(-eta)
        return float(-2.0 * density.sum() + u @ u + np.log(curvature).sum())

    best = minimize(
        deviance, [np.log(y.mean()), 0.0, -2.0, 6.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-8, "maxfev": 6_000}
    )
    assert -2.0 * fit.log_likelihood == pytest.approx(best.fun, abs=1e-4)
    assert fit.joint.mean[:2] == pytest.approx(best.x[:2], abs=1e-4)
    assert fit.components[0].estimate == pytest.approx(np.exp(best.x[2]), rel=1e-3)
    assert fit.dispersion == pytest.approx(np.exp(best.x[3]), rel=1e-3)


@pytest.mark.parametrize(("family", "size"), LARGE)
def test_differences_of_the_likelihood_are_not_lost_in_its_size(family: str, size: float) -> None:
    """A small step moves the value as its derivatives say, to far more digits than the summands y eta would leave."""
    likelihood, n = over_cells(family, rows(family, size, 4))
    log_dispersion = np.log(size) if family == "gamma" else np.log(20.0)
    eta = np.full(n, likelihood.typical_predictor())
    at = likelihood.curvature(eta, log_dispersion)
    step = 1e-3 / np.sqrt(at.weight)
    moved = float(np.sum(likelihood.terms(eta + step, log_dispersion) - likelihood.terms(eta, log_dispersion)))
    expected = float(np.sum(at.score * step - at.weight * step**2 / 2.0 - at.weight_slope * step**3 / 6.0))
    assert abs(moved - expected) < rounding_of_value(likelihood, eta, log_dispersion) + 1e-9 * abs(expected)


@pytest.mark.parametrize("log_shape", [6.0, np.log(1_000.0) - 1e-9, np.log(1_000.0) + 1e-9, 12.0])
def test_gaps_of_a_large_shape_do_not_cancel(log_shape: float) -> None:
    a = np.exp(log_shape)
    # Binet's series, three terms further than is used
    assert digamma_gap(log_shape) == pytest.approx(1 / (2 * a) + 1 / (12 * a**2) - 1 / (120 * a**4) + 1 / (252 * a**6), rel=1e-9)
    series = (log_shape - np.log(2 * np.pi)) / 2 - 1 / (12 * a) + 1 / (360 * a**3) - 1 / (1260 * a**5)
    assert log_gamma_gap(log_shape) == pytest.approx(series, rel=1e-10)


CROSSED = "{y} ~ x + (1 + x | g) + (1 | h)"


def crossed_rows(size: float, seed: int, shape: float | None = None) -> pd.DataFrame:
    """Slopes in eight groups and six others, crossed; means of ``size`` and more."""
    rng = np.random.default_rng(seed)
    g, h, x = np.arange(240) % 8, rng.integers(6, size=240), rng.choice([0.8, 1.2, 1.6, 2.0, 2.4], 240)
    eta = np.log(size) + 0.3 * x + rng.normal(0, 0.5, 8)[g] + rng.normal(0, 0.3, 8)[g] * x + rng.normal(0, 0.4, 6)[h]
    y = rng.poisson(np.exp(eta)) if shape is None else rng.gamma(shape, np.exp(eta) / shape)
    return pd.DataFrame({"y": y.astype(float), "x": x, "g": g.astype(str), "h": h.astype(str)})


@pytest.mark.parametrize(
    ("family", "size", "shape", "seed"),
    [("poisson", 1e8, None, 2), pytest.param("poisson", 1e9, None, 0, marks=pytest.mark.parity), ("gamma", 1.0, 4e9, 0)],
)
def test_slopes_and_a_second_factor_of_large_counts_are_those_of_the_logarithms(
    family: str, size: float, shape: float | None, seed: int
) -> None:
    """Outcomes known to a ten-thousandth have no noise beside the effects: the model of their logarithms, by code of another engine."""
    frame = crossed_rows(size, seed, shape)
    formula, of_logs = (parse_formula(CROSSED.format(y=y)) for y in ("y", "log(y)"))
    fit = fit_generalised(build_design(formula, cells_from_frame(formula, frame, family)), family)
    logs = fit_linear(build_design(of_logs, cells_from_frame(of_logs, frame, "gaussian")), method="ml")
    found, expected = ([one.estimate for one in each.components if one.block is not None] for each in (fit, logs))
    np.testing.assert_allclose(found, expected, rtol=5e-4)
    np.testing.assert_allclose(fit.joint.mean[:2], logs.joint.mean[:2], atol=5e-5)


@pytest.mark.parity
def test_counts_beyond_what_doubles_resolve_are_refused_with_what_to_write() -> None:
    frame = crossed_rows(1e12, 1)
    formula = parse_formula(CROSSED.format(y="y"))
    with pytest.raises(FitError, match=r"rounding hides the optimum.* write log\(outcome\) and family: gaussian"):
        fit_generalised(build_design(formula, cells_from_frame(formula, frame, "poisson")), "poisson")
