"""Intervals of the next outcome: against closed forms, and in the lane against new outcomes of the same shops."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit, ndtri

from multilevel.cells.from_rows import cells_from_frame
from multilevel.errors import DataError
from multilevel.families.registry import family_named
from multilevel.formula.parse import parse_formula
from multilevel.prediction.prediction_rows import At
from multilevel.prediction.row_predictions import predict
from multilevel.prediction.save_model import save_model
from multilevel.prediction.saved_model import SavedModel
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options

GROUPS = 40


def models_of(formula: str, family: str, frame: pd.DataFrame, engine: str = "likelihood", **options: object) -> list[SavedModel]:
    parsed = parse_formula(formula)
    study = fit_study(parsed, cells_from_frame(parsed, frame, family), fit_options("s", date(2026, 1, 31), "r", engine, **options))
    return [model for part in study.parts if (model := save_model(part, formula, moments={}, fills={})) is not None]


def shop(seed: int, n: int = 1_200) -> tuple[pd.DataFrame, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    g = rng.integers(0, GROUPS, n)
    frame = pd.DataFrame({"g": [f"G{i}" for i in g], "trials": rng.integers(1, 9, n), "visits": rng.integers(1, 4, n)})
    return frame, 0.5 + 0.6 * rng.normal(size=GROUPS)[g], rng


def drawn(kind: str, frame: pd.DataFrame, eta: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # noqa: PLR0911
    """Outcomes; of the binomial counts of successes."""
    if kind == "gaussian":
        return rng.normal(eta, 0.8)
    if kind == "log(y)":
        return np.exp(rng.normal(eta, 0.7))
    if kind == "binomial":
        return rng.binomial(frame.trials, expit(eta)).astype(float)
    if kind == "poisson":
        return rng.poisson(frame.visits * np.exp(eta)).astype(float)
    if kind == "negative_binomial":
        mu = frame.visits.to_numpy() * np.exp(eta)
        return rng.poisson(mu * rng.gamma(2.0, 0.5, len(mu))).astype(float)
    if kind == "gamma":
        return rng.gamma(2.0, np.exp(eta) / 2.0)
    return np.where(rng.random(len(eta)) < expit(eta), rng.gamma(2.0, np.exp(eta) / 2.0), 0.0)


KINDS = {
    "gaussian": ("y ~ 1 + (1 | g)", "gaussian"),
    "log(y)": ("log(y) ~ 1 + (1 | g)", "gaussian"),
    "binomial": ("p(y, trials) ~ 1 + (1 | g)", "binomial"),
    "poisson": ("y ~ 1 + offset(log(visits)) + (1 | g)", "poisson"),
    "negative_binomial": ("y ~ 1 + offset(log(visits)) + (1 | g)", "negative_binomial"),
    "gamma": ("y ~ 1 + (1 | g)", "gamma"),
    "hurdle_gamma": ("y ~ 1 + (1 | g)", "hurdle_gamma"),
}


def at(frame: pd.DataFrame) -> At:
    numbers = {name: frame[name].to_numpy(np.float64) for name in frame.columns if name != "g"}
    return At(len(frame), {"g": list(frame.g)}, numbers)


def test_a_normal_outcome_has_the_variance_of_its_expectation_and_sigma_squared() -> None:
    frame, eta, rng = shop(1)
    frame["y"] = drawn("gaussian", frame, eta, rng)
    [model] = models_of("y ~ 1 + (1 | g)", "gaussian", frame)
    rows = At(2, {"g": ["G3", None]}, {})
    of_mean, of_next = predict([model], rows)[0], predict([model], rows, of_next=True)[0]
    assert model.scale is not None
    np.testing.assert_array_equal(of_next.estimate, of_mean.estimate)
    # E sigma^2 under a lognormal sigma: the nodes integrate it to 1e-10
    sigma2 = model.scale**2 * np.exp(2.0 * model.log_scale_error**2)
    np.testing.assert_allclose(of_next.std_error**2, of_mean.std_error**2 + sigma2, rtol=1e-6)
    # forty groups: the mixture over theta is normal to a thousandth of a standard deviation
    np.testing.assert_allclose(of_next.upper[0] - of_next.lower[0], 2.0 * ndtri(0.975) * of_next.std_error[0], rtol=2e-3)


def test_a_known_weight_divides_the_variance() -> None:
    frame, eta, rng = shop(2)
    frame["w"] = rng.choice([1.0, 4.0], len(frame))
    frame["y"] = rng.normal(eta, 0.8 / np.sqrt(frame.w))
    [model] = models_of("y | weights(w) ~ 1 + (1 | g)", "gaussian", frame)
    found = predict([model], At(2, {"g": ["G3"] * 2}, {"w": np.array([1.0, 4.0])}), of_next=True)[0]
    assert found.std_error[0] == pytest.approx(2.0 * found.std_error[1], rel=0.06)
    with pytest.raises(DataError, match="Row 1: `w` is 0; the next outcome needs one above zero"):
        predict([model], At(1, {"g": ["G3"]}, {"w": np.array([0.0])}), of_next=True)


@pytest.mark.parametrize("kind", ["binomial", "poisson", "gamma"])
def test_bounds_are_quantiles_of_the_integrated_distribution(kind: str) -> None:
    """P(y <= q), the family's own distribution function integrated over a normal linear predictor by quadrature."""
    frame, eta, rng = shop(3)
    frame["y"] = drawn(kind, frame, eta, rng)
    [model] = models_of(*KINDS[kind], frame)
    rows = pd.DataFrame({"g": ["G5"], "trials": [30.0], "visits": [2.0]})
    found = predict([model], at(rows), of_next=True)[0]
    family = family_named(model.family)
    centre = float(model.mean[0] + model.mean[1 + list(model.factors["g"].levels).index("G5")])
    picks = np.zeros((1, len(model.mean)))
    picks[0, [0, 1 + list(model.factors["g"].levels).index("G5")]] = 1.0
    from scipy.sparse import csr_array

    moments = model.conditional(csr_array(picks))
    assert moments.mean[:, 0] == pytest.approx(centre, rel=1e-6), "one normal distribution"
    spread = float(np.sqrt(moments.variance[0, 0]))
    offset, size = (np.log(2.0), 1.0) if kind == "poisson" else (0.0, 30.0 if kind == "binomial" else 1.0)
    scale = 1.0 if model.scale is None else model.scale

    def below(q: float) -> float:
        def inner(z: float) -> float:
            eta = np.array(centre + spread * z + offset)
            return float(family.below(np.array(q), np.array(size), eta, np.array(scale))) * stats.norm.pdf(z)

        return quad(inner, -8, 8, limit=200)[0]

    if kind == "gamma":
        # the shape's own error is integrated too: it is small
        assert below(found.lower[0]) == pytest.approx(0.025, abs=1e-3)
        assert below(found.upper[0]) == pytest.approx(0.975, abs=1e-3)
        return
    unit = size
    lower, upper = round(found.lower[0] * unit), round(found.upper[0] * unit)
    assert below(lower) >= 0.025 > below(lower - 1)
    assert below(upper) >= 0.975 > below(upper - 1)


@pytest.mark.parametrize("name", ["gaussian", "binomial", "poisson", "negative_binomial", "gamma"])
def test_every_family_knows_its_distribution(name: str) -> None:
    """Against scipy's, at outcomes below, inside and above the range."""
    y, eta, scale, size = np.array([-1.0, 0.0, 1.0, 3.0, 40.0]), np.float64(0.4), np.float64(1.7), np.float64(5.0)
    mu = np.exp(eta)
    one = np.float64(1.0)
    wanted = {
        "gaussian": stats.norm.cdf(y, eta, scale),
        "binomial": stats.binom.cdf(y, 5, expit(eta)),
        "poisson": stats.poisson.cdf(y, mu),
        "negative_binomial": stats.nbinom.cdf(y, scale, scale / (scale + mu)),
        "gamma": stats.gamma.cdf(y, scale, scale=mu / scale),
    }[name]
    found = family_named(name).below(np.maximum(y, 0.0) if name == "gamma" else y, size if name == "binomial" else one, eta, scale)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.calibration
@pytest.mark.parametrize("kind", KINDS)
def test_new_outcomes_lie_in_their_intervals_as_often_as_asked(kind: str) -> None:
    """Ten shops of 1,200 outcomes, 12,000 new ones: a share of 0.9 has a standard error of 0.003, shops differ by about as much again;
    intervals of whole numbers hold more, by less than the probability of a bound."""
    inside, shops = [], 10
    for seed in range(shops):
        frame, eta, rng = shop(100 + seed)
        frame["y"] = drawn(kind, frame, eta, rng)
        models = models_of(*KINDS[kind], frame)
        found = predict(models, at(frame), of_next=True, interval=0.9)[0]
        unit = frame.trials.to_numpy() if kind == "binomial" else 1.0
        new = drawn(kind, frame, eta, rng) / unit
        inside.append(np.mean((new >= found.lower - 1e-9) & (new <= found.upper + 1e-9)))
    share = np.mean(inside)
    if kind in {"gaussian", "log(y)", "gamma"}:
        assert share == pytest.approx(0.9, abs=0.015)
    else:
        assert 0.885 < share < 1.0


@pytest.mark.calibration
def test_posterior_draws_and_the_likelihood_engine_agree_on_the_next_outcome() -> None:
    frame, eta, rng = shop(4)
    frame["y"] = drawn("gaussian", frame, eta, rng)
    rows = At(2, {"g": ["G3", None]}, {})
    one, other = (
        predict(models_of("y ~ 1 + (1 | g)", "gaussian", frame, engine), rows, of_next=True)[0] for engine in ("likelihood", "bayesian")
    )
    np.testing.assert_allclose(one.lower, other.lower, atol=0.05)
    np.testing.assert_allclose(one.upper, other.upper, atol=0.05)
