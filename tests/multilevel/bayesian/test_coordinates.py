"""The sampler's coordinates: an exact change of variables, standard normal where the likelihood is quadratic."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import digamma
from scipy.stats import multivariate_normal

from multilevel.bayesian.coordinates import build_coordinates, coefficients
from multilevel.bayesian.distributions import POSITIVE, Prior, parse_prior
from multilevel.bayesian.kernel import _log_prior, stretch
from multilevel.bayesian.nuts_fit import starting_covariances, starting_dispersion, stretched, unstretched
from multilevel.bayesian.nuts_model import build_model, compiled_density, model_data, pack, prior_table
from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.pilot import block_values, fit_pilot
from multilevel.bayesian.priors import Priors, ResolvedPriors, resolve_priors
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.reduction import outcome_of, reduce_design
from multilevel.families.compiled import compiled
from multilevel.families.log_gamma import digamma as own_digamma
from multilevel.formula.parse import parse_formula

JOINT = {"all": 32, "some": 13, "only beta": 2}
"""How many coefficients may be joint: beta, both blocks; beta and the first block; beta alone."""

RESPONSE = {"gaussian": "y", "binomial": "k", "poisson": "c", "negative_binomial": "c", "gamma": "e"}


def setting(family: str, groups: str = "(1 + x | a) + (1 | b)") -> tuple:
    rng = np.random.default_rng(8)
    n = 250
    a, b, x = rng.integers(4, size=n), rng.integers(9, size=n), rng.integers(3, size=n)
    eta = 0.3 + 0.2 * x + rng.normal(0, 0.5, 4)[a] + rng.normal(0, 0.5, 9)[b]
    frame = pd.DataFrame({"a": a.astype(str), "b": b.astype(str), "x": x, "y": eta + rng.normal(0, 1, n)})
    frame = frame.assign(
        k=rng.binomial(1, 1 / (1 + np.exp(-eta))), c=rng.negative_binomial(3, 3 / (3 + np.exp(eta))), e=rng.gamma(2.0, np.exp(eta) / 2)
    )
    formula = parse_formula(f"{RESPONSE[family]} ~ 1 + x + {groups}")
    design = build_design(formula, cells_from_frame(formula, frame, family))
    priors = resolve_priors(design, family, Priors())
    rows = reduce_design(design)
    outcome = outcome_of(design.cells, rows, family)
    layout = Layout(tuple(len(block.columns) for block in design.blocks), priors.sigma is not None or priors.dispersion is not None)
    pilot = fit_pilot(rows, outcome, priors, starting_covariances(priors), starting_dispersion(priors))
    return rows, outcome, layout, priors, pilot, build_coordinates(rows, pilot)


def with_joint(*others: tuple) -> list:
    """Each of ``others`` where all coefficients are joint, the first also where fewer are; the rest of those have a lane."""
    rest = [(joint, *other) for joint in JOINT for other in others]
    return [each if each[0] == "all" or each[1:] == others[0] else pytest.param(*each, marks=pytest.mark.parity) for each in rest]


@pytest.fixture(params=list(JOINT))
def joint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for module in ("pilot", "coordinates"):
        monkeypatch.setattr(f"multilevel.bayesian.{module}.MOST_JOINT", JOINT[request.param])
    return str(request.param)


def test_few_coefficients_are_joint(joint: str) -> None:
    coordinates = setting("binomial")[-1]
    wanted = {"all": (2, 0, False), "some": (1, 0, True), "only beta": (0, 1, True)}
    assert (len(coordinates.joint.blocks), len(coordinates.coarse), coordinates.fine is not None) == wanted[joint]
    assert sorted(coordinates.order) == [0, 1]


def log_posterior(model: tuple, theta: np.ndarray, beta: np.ndarray, effects: list[np.ndarray]) -> float:
    rows, outcome, layout, priors = model[:4]
    eta = rows.offset + rows.X @ beta + sum(block_values(block) @ b for block, b in zip(rows.blocks, effects, strict=True))
    value = float(outcome.log_likelihood(eta, float(layout.scale(theta)))) + float(log_prior(theta, layout, priors))
    value += multivariate_normal(priors.beta_location, np.linalg.inv(priors.beta_precision)).logpdf(beta)
    for f, b in enumerate(effects):
        factor = layout.factor(theta, f)
        value += multivariate_normal(np.zeros(len(factor)), factor @ factor.T).logpdf(b.reshape(-1, len(factor))).sum()
    return float(value)


@pytest.mark.parametrize(
    ("joint", "family", "distortion"), with_joint(("poisson", 1.7), *((family, 1.0) for family in RESPONSE)), indirect=["joint"]
)
def test_the_models_density_is_the_posterior_times_the_jacobian_for_a_good_and_a_bad_pilot(
    joint: str, family: str, distortion: float
) -> None:
    rows, outcome, layout, priors, pilot, coordinates = setting(family)
    if distortion != 1.0:
        pilot = replace(pilot, weights=pilot.weights * distortion, schur=pilot.schur * 0.6)
        coordinates = build_coordinates(rows, pilot)
    data = model_data(rows, outcome, coordinates, layout, priors, pilot=pilot)
    size = rows.X.shape[1] + sum(block.n_levels * block.values.shape[1] for block in rows.blocks)
    compiled = build_model(pack(data), outcome.family, layout.size, size).compile_logp(mode="FAST_COMPILE")
    rng = np.random.default_rng(1)
    centre = layout.pack(pilot.covariances, pilot.dispersion)

    def place(theta: np.ndarray, w: np.ndarray) -> np.ndarray:
        beta, effects = coefficients(coordinates, layout, theta[None], w[None])
        return np.concatenate([beta[0], *(effect[0] for effect in effects)])

    difference = []
    for _ in range(4):
        x, w = unstretched(centre, data["units"]) + rng.normal(0, 0.8, layout.size), rng.normal(size=size)
        theta, _, log_slope, _ = stretch(x, data["units"])
        np.testing.assert_allclose(theta, stretched(x, data["units"]))
        beta, effects = coefficients(coordinates, layout, theta[None], w[None])
        jacobian = np.stack([(place(theta, w + step) - place(theta, w - step)) / 2e-5 for step in 1e-5 * np.eye(size)], axis=1)
        direct = log_posterior((rows, outcome, layout, priors), theta, beta[0], [effect[0] for effect in effects])
        difference.append(float(compiled({"x": x, "w": w})) - direct - log_slope - np.linalg.slogdet(jacobian)[1])
    np.testing.assert_allclose(difference, difference[0], atol=1e-5)


def test_coefficients_are_standard_normal_whatever_their_variance(joint: str) -> None:
    """Gaussian, sigma held: w enters the log posterior as -w'w / 2 at any covariance; that of beta only where all are joint."""
    rows, outcome, layout, priors, pilot, coordinates = setting("gaussian", "(1 + x | b)")
    rng = np.random.default_rng(0)
    held = rng.normal(size=2)
    for tau in (0.01, 0.3, 30.0):
        theta = layout.pack([tau**2 * np.array([[1.0, 0.3], [0.3, 0.5]])], pilot.dispersion)
        values, squares = [], []
        for _ in range(5):
            w = rng.normal(size=20)
            w[:2] = w[:2] if joint == "all" else held
            beta, effects = coefficients(coordinates, layout, theta[None], w[None])
            values.append(log_posterior((rows, outcome, layout, priors), theta, beta[0], [effects[0][0]]))
            squares.append(-0.5 * w @ w)
        np.testing.assert_allclose(np.diff(values), np.diff(squares), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("groups", ["(1 + x | a) + (1 | b)", "(1 | a) + (1 + x + I(x ** 2) | b)", "(1 | a) + (0 + x | a) + (1 | a:b)"])
@pytest.mark.parametrize(("joint", "family"), with_joint(*((family,) for family in RESPONSE)), indirect=["joint"])
def test_the_gradient_is_that_of_the_density(joint: str, family: str, groups: str) -> None:
    rows, outcome, layout, priors, pilot, coordinates = setting(family, groups)
    data = model_data(rows, outcome, coordinates, layout, priors, pilot=pilot)
    density, packed = compiled_density(outcome.family), pack(data)
    size = rows.X.shape[1] + sum(block.n_levels * block.values.shape[1] for block in rows.blocks)
    rng = np.random.default_rng(2)
    theta = layout.pack(pilot.covariances, pilot.dispersion) + rng.normal(0, 0.4, layout.size)
    x, w = unstretched(theta, data["units"]), rng.normal(size=size)
    _, g_x, g_w = density(x, w, packed["numbers"], packed["counts"])

    def difference(of_x: np.ndarray, of_w: np.ndarray) -> float:
        up, down = (density(x + s * of_x, w + s * of_w, packed["numbers"], packed["counts"])[0] for s in (1.0, -1.0))
        return float((up - down) / 2e-5)

    nothing_x, nothing_w = np.zeros(layout.size), np.zeros(size)
    np.testing.assert_allclose(g_x, [difference(step, nothing_w) for step in 1e-5 * np.eye(layout.size)], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(g_w, [difference(nothing_x, step) for step in 1e-5 * np.eye(size)], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "written", ["half_normal(2)", "half_student_t(4, 0.5)", "half_cauchy(3)", "exponential(1.5)", "log_normal(-1, 0.7)"]
)
def test_the_kernels_prior_is_that_of_the_collapsed_form(written: str) -> None:
    prior = parse_prior(written, "sd", POSITIVE)
    half = ((prior, prior), (prior,))
    sizes = {"sigma": prior, "dispersion": None}, {"sigma": None, "dispersion": prior}
    for scale in sizes:
        priors = ResolvedPriors(
            np.zeros(1), np.eye(1), (Prior("normal", (0.0, 1.0)),), half, (3.0, 2.0), scale["sigma"], scale["dispersion"]
        )
        layout = Layout((2, 1), True)
        thetas = np.random.default_rng(0).normal(0, 1, size=(4, layout.size))
        ours = [_log_prior(theta, prior_table(layout, priors))[0] for theta in thetas]
        np.testing.assert_allclose(np.diff(ours), np.diff(log_prior(thetas, layout, priors)), rtol=1e-9)


@pytest.mark.parametrize("x", [1e-3, 0.4, 3.0, 50.0, 1e6])
def test_the_compiled_digamma_is_scipys(x: float) -> None:
    assert compiled(own_digamma)(x) == pytest.approx(digamma(x), rel=1e-11)


def test_stretched_sds_have_the_gradient_of_their_density() -> None:
    rows, outcome, layout, priors, pilot, coordinates = setting("binomial")
    data = model_data(rows, outcome, coordinates, layout, priors, pilot=pilot)
    packed, density = pack(data), compiled_density(outcome.family)
    w = np.random.default_rng(1).normal(size=2 + 8 + 9)
    for point in ([0.5, 1.0, 0.2, -3.0], [-35.0, 4.0, -0.5, 0.0], [-29.9, -31.0, 0.0, 2.0]):
        x = np.array(point)
        _, gradient, _ = density(x, w, packed["numbers"], packed["counts"])
        numeric = [(density(x + h, w, *packed.values())[0] - density(x - h, w, *packed.values())[0]) / 2e-5 for h in 1e-5 * np.eye(4)]
        np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-4)
