"""What levels' integrals add to the density of the variance parameters, where there are so many levels that it is most of it."""

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag
from scipy.special import expit, softmax
from scipy.stats import halfnorm, norm

from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed
from multilevel.bayesian.laplace_conditionals import with_exact_leaves
from multilevel.bayesian.laplace_points import CorrectedDensity, missed_at_fresh_points, sample_laplace_points
from multilevel.bayesian.level_correction import LevelCorrection, features, quadratic
from multilevel.bayesian.level_integrals import LevelFactor, level_factors
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.points_fit import PointsPosterior
from multilevel.bayesian.priors import read_priors
from multilevel.bayesian.sampling import Sampling
from multilevel.bayesian.unit_free_priors import ModelPriors, model_priors
from multilevel.bayesian.variational_normal import variational_normal
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, outcome_of, reduce_design
from multilevel.formula.parse import parse_formula
from multilevel.generalised.reweighting import Coordinates

HOUSEHOLDS, ITEMS, SD = 2_500, 4, 1.2
PRIORS = {"coefficients": {"Intercept": "normal(0, 1.5)"}, "sds": {"household": "half_normal(1)"}}


def households(count: int, sd: float, slope: float = 0.0, seed: int = 5) -> pd.DataFrame:
    """Households with ``ITEMS`` zeros and ones each, every second of them on sale."""
    rng = np.random.default_rng(seed)
    household = np.repeat(np.arange(count), ITEMS)
    on_sale = np.arange(count * ITEMS) % 2
    eta = -1.0 + slope * on_sale + (sd * rng.normal(size=count))[household]
    y = (rng.uniform(size=len(eta)) < expit(eta)).astype(float)
    return pd.DataFrame({"household": household.astype(str), "on_sale": on_sale.astype(float), "y": y})


def prepared(frame: pd.DataFrame, text: str = "y ~ 1 + (1 | household)") -> tuple[Design, ReducedRows, ModelPriors]:
    formula = parse_formula(text)
    design = build_design(formula, cells_from_frame(formula, frame, "binomial"))
    priors = model_priors(design, "binomial", read_priors(PRIORS))
    return design, reduce_design(priors.form.design), priors


class OnAGrid:
    """The posterior of (beta, log sd) by quadrature: households with as many ones have the same integral."""

    def __init__(self, frame: pd.DataFrame, beta: np.ndarray, log_sd: np.ndarray) -> None:
        ones = frame.groupby("household").y.sum().to_numpy()
        counts = np.bincount(ones.astype(int), minlength=ITEMS + 1)
        nodes, shares = np.polynomial.hermite_e.hermegauss(80)
        p = expit(beta[:, None, None] + np.exp(log_sd)[None, :, None] * nodes)
        logs = norm.logpdf(beta, 0.0, 1.5)[:, None] + halfnorm.logpdf(np.exp(log_sd)) + log_sd
        for y, count in enumerate(counts):
            logs = logs + count * np.log((p**y * (1.0 - p) ** (ITEMS - y)) @ (shares / shares.sum()))
        weights = np.exp(logs - logs.max())
        self.weights, self.beta, self.log_sd = weights / weights.sum(), beta, log_sd

    def moments(self) -> tuple[float, float, float, float]:
        """Mean and sd of log sd, then of beta."""
        found: list[float] = []
        for values, weights in ((self.log_sd, self.weights.sum(axis=0)), (self.beta, self.weights.sum(axis=1))):
            mean = float(weights @ values)
            found += [mean, float(np.sqrt(weights @ (values - mean) ** 2))]
        return found[0], found[1], found[2], found[3]


def sampled(frame: pd.DataFrame) -> PointsPosterior:
    design, rows, priors = prepared(frame)
    outcome = outcome_of(design.cells, rows, "binomial")
    return sample_laplace_points(rows, outcome, priors.inner, Sampling(form="importance", cores=2), 1)


def test_the_sd_of_very_many_households_has_its_exact_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Laplace's approximation rises by several units a standard deviation: outside its range too the correction must go on."""
    monkeypatch.setattr("multilevel.bayesian.points_fit.MOST_FOR_BOUNDS", 0)
    frame = households(HOUSEHOLDS, SD)
    mean, sd, beta, beta_sd = OnAGrid(frame, np.linspace(-1.2, -0.8, 161), np.linspace(-0.1, 0.5, 201)).moments()
    found = sampled(frame)
    log_sds, weights = found.population.thetas[:, 0], found.population.weights
    assert weights @ log_sds == pytest.approx(mean, abs=0.1 * sd)
    assert np.sqrt(weights @ (log_sds - weights @ log_sds) ** 2) == pytest.approx(sd, rel=0.1)
    of_levels = found.levels.weights
    means = np.array([found.conditionals(at).mean[0] for at in range(len(of_levels))])
    assert of_levels @ means == pytest.approx(beta, abs=0.1 * beta_sd)
    assert {check.check: check.passed for check in found.checks if check.gate}["level_integrals"]


def coefficients_on_a_grid(frame: pd.DataFrame, sd: float, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and sds of the intercept and the slope at one sd of households, their priors as good as flat."""
    ones = frame.assign(off=frame.y * (1.0 - frame.on_sale), on=frame.y * frame.on_sale).groupby("household")[["off", "on"]].sum()
    nodes, shares = np.polynomial.hermite_e.hermegauss(60)
    half = ITEMS // 2
    at = first[:, None, None] + sd * nodes
    off, on = expit(at), expit(at + second[None, :, None])
    logs = np.zeros((len(first), len(second)))
    for y_off, y_on, count in ones.value_counts().reset_index().to_numpy():
        each = off**y_off * (1.0 - off) ** (half - y_off) * on**y_on * (1.0 - on) ** (half - y_on)
        logs += count * np.log(each @ (shares / shares.sum()))
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    means = np.array([weights.sum(axis=1) @ first, weights.sum(axis=0) @ second])
    squares = np.array([weights.sum(axis=1) @ (first - means[0]) ** 2, weights.sum(axis=0) @ (second - means[1]) ** 2])
    return means, np.sqrt(squares)


def test_the_rest_is_where_levels_exact_distributions_have_it() -> None:
    """Coefficients beside households at one sd: a normal distribution of each leaves them a part of their own sd away."""
    design, rows, priors = prepared(frame := households(16_000, SD, -1.5), "y ~ 1 + on_sale + (1 | household)")
    density = LaplaceCollapsed(rows, outcome_of(design.cells, rows, "binomial"), Layout((1,), False), priors.inner)
    theta = np.array([np.log(SD)])
    nearest = variational_normal(density, theta, density.mode(theta))
    effects, _ = with_exact_leaves(density, level_factors(rows)[0], theta, nearest)
    before, after = (priors.form.maps.population @ density.coordinates.beta(own) for own in (nearest.effects, effects))
    means, sds = coefficients_on_a_grid(frame, SD, np.linspace(-1.2, -0.8, 161), np.linspace(-1.7, -1.3, 161))
    assert np.abs((before - means) / sds).max() > 0.15
    np.testing.assert_allclose((after - means) / sds, 0.0, atol=0.03)


def slope_of_integrated(density: LaplaceCollapsed, leaves: LevelFactor, theta: np.ndarray, effects: Coordinates) -> np.ndarray:
    """Of the log likelihood with the leaves integrated, and the prior, in the coefficients: expected scores by another quadrature."""
    rows, nodes = density.coordinates, np.polynomial.hermite_e.hermegauss(25)
    lambdas = density.lambdas(theta)
    root = block_diag(*(lambdas[at] for at in leaves.blocks))
    others = rows.offset + rows.linear(rows.from_blocks([0.0 * own for own in rows.by_block(effects)], effects.basis))
    turned, k = leaves.values @ root, leaves.values.shape[1]
    grid, shares = (np.stack([own.ravel() for own in np.meshgrid(*([along] * k), indexing="ij")], axis=1) for along in nodes)
    logs, scores = [], []
    for u, weight in zip(grid, np.prod(shares, axis=1), strict=True):
        eta = others + turned @ u
        logs.append(leaves.rows_of(density.likelihood.terms(eta, 0.0)) + np.log(weight))
        scores.append(density.likelihood.curvature(eta, 0.0).score)
    expected = np.einsum("sr,sr->r", softmax(np.array(logs), axis=0)[:, leaves.codes], np.array(scores))
    return np.asarray(rows.basis.T @ expected - density.prior.pull(effects.basis))


@pytest.mark.parametrize("text", ["y ~ 1 + on_sale + (1 | household)", "y ~ 1 + on_sale + (1 + on_sale | household)"])
def test_coefficients_are_at_the_top_of_the_integrated_likelihood(text: str) -> None:
    design, rows, priors = prepared(households(6_000, SD, -1.5), text)
    widths = tuple(len(block.columns) for block in design.blocks)
    density = LaplaceCollapsed(rows, outcome_of(design.cells, rows, "binomial"), Layout(widths, with_scale=False), priors.inner)
    theta, leaves = np.zeros(density.layout.size), level_factors(rows)[0]
    nearest = variational_normal(density, theta, density.mode(theta))
    effects, _ = with_exact_leaves(density, leaves, theta, nearest)
    before, after = (np.linalg.norm(slope_of_integrated(density, leaves, theta, own)) for own in (nearest.effects, effects))
    assert after < 0.3 * before


def fitted_to(values: np.ndarray, thetas: np.ndarray, layout: Layout) -> LevelCorrection:
    return quadratic(layout, np.zeros(layout.size), thetas, values, np.ones(len(thetas)))


def test_a_correction_goes_on_along_its_tangent_outside_what_it_was_fitted_to() -> None:
    layout, rng = Layout((1, 1), False), np.random.default_rng(0)
    thetas = rng.uniform(-0.5, 0.5, (40, 2))

    def values(at: np.ndarray) -> np.ndarray:
        first, second = features(layout, np.zeros(2), at).T
        return np.asarray(40.0 * first - 3.0 * second + 2.0 * first * second)

    found = fitted_to(values(thetas), thetas, layout)
    np.testing.assert_allclose(found(thetas), values(thetas), atol=1e-3)
    outside = np.array([[0.1, 0.9], [1.5, 0.2], [-1.5, -2.0]])
    np.testing.assert_allclose(found(outside[:2]), values(outside[:2]), atol=0.01)
    at = np.array([2.0, 0.2])
    assert found.slope(at)[0] > 30.0
    assert found(outside[2:])[0] < found(thetas).min()


def test_a_correction_that_is_wrong_elsewhere_is_seen_there(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, rng = Layout((1,), False), np.random.default_rng(0)
    near, far = np.linspace(-0.1, 0.1, 20)[:, None], np.linspace(-2.0, 2.0, 50)[:, None]

    def bent(thetas: np.ndarray) -> np.ndarray:
        return np.asarray(5.0 * np.sin(4.0 * thetas[:, 0]))

    correction = fitted_to(bent(near), near, layout)
    monkeypatch.setattr("multilevel.bayesian.laplace_points.corrections", lambda density, factors, thetas, threads: bent(thetas))

    class Points:
        thetas, weights = far, np.full(len(far), 1.0 / len(far))

    corrected = CorrectedDensity(None, (), correction)  # type: ignore[arg-type]
    assert correction.error < 0.1
    assert missed_at_fresh_points(Points(), corrected, 1, rng) > 1.0  # type: ignore[arg-type]
