"""Posteriors of generalised models kept as points: against dense arithmetic, exact integrals and NUTS, and where NUTS takes over."""

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from scipy.integrate import quad
from scipy.sparse import csr_array, eye_array
from scipy.special import expit, xlogy
from scipy.stats import norm

from multilevel.bayesian import bayesian_engine
from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.bayesian.independence import gradient
from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed, NearMode
from multilevel.bayesian.laplace_conditionals import laplace_conditionals
from multilevel.bayesian.laplace_points import sample_laplace_points
from multilevel.bayesian.level_correction import corrections, leaves_integrated
from multilevel.bayesian.level_integrals import exact_moments, integral_ratios, level_factors, level_normals, pareto_ks
from multilevel.bayesian.memory import is_by_points, with_draws
from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.priors import read_priors
from multilevel.bayesian.sampling import Sampling
from multilevel.bayesian.unit_free_priors import model_priors
from multilevel.bayesian.variational_normal import LevelsNotNormalError, variational_normal
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.design.reduction import coefficient_matrix, outcome_of, reduce_design
from multilevel.errors import FitError
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula

CROSSED = "y ~ 1 + x + (1 + x | a) + (1 | b)"
NESTED = "y ~ 1 + x + (1 | region/household) + (1 | b)"
FAMILIES = ["binomial", "poisson", "negative_binomial", "gamma"]
PRIORS = {"coefficients": {"Intercept": "normal(0.5, 1.5)"}}


def shop(family: str, n: int = 400, households: int = 40, sd: float = 0.7, seed: int = 3) -> pd.DataFrame:
    """``n`` line items of households in regions, crossed with 8 levels of a and of b."""
    rng = np.random.default_rng(seed)
    household = np.arange(n) % households
    a, b, x = rng.integers(8, size=n), rng.integers(8, size=n), rng.integers(2, size=n).astype(float)
    eta = 0.2 + 0.4 * x + (0.5 * rng.normal(size=8))[a] + (0.4 * rng.normal(size=8))[b] + (sd * rng.normal(size=households))[household]
    draw = {
        "binomial": lambda: rng.uniform(size=n) < expit(eta),
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "negative_binomial": lambda: rng.poisson(np.exp(eta) * rng.gamma(3.0, 1.0 / 3.0, n)),
        "gamma": lambda: np.exp(eta) * rng.gamma(3.0, 1.0 / 3.0, n),
    }
    text = {"a": a, "b": b, "household": household, "region": household % 5}
    return pd.DataFrame({name: codes.astype(str) for name, codes in text.items()} | {"x": x, "y": draw[family]().astype(float)})


def design_of(text: str, family: str, frame: pd.DataFrame | None = None) -> Design:
    formula = parse_formula(text)
    return build_design(formula, cells_from_frame(formula, shop(family) if frame is None else frame, family))


def density_of(design: Design, family: str) -> LaplaceCollapsed:
    priors = model_priors(design, family, read_priors(PRIORS))
    rows = reduce_design(priors.form.design)
    layout = Layout(tuple(len(block.columns) for block in design.blocks), priors.inner.dispersion is not None)
    return LaplaceCollapsed(rows, outcome_of(design.cells, rows, family), layout, priors.inner)


def dense(density: LaplaceCollapsed, design: Design, family: str, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mode of (beta, b), its negative Hessian, and Laplace's approximation with the prior of theta, by whole matrices."""
    rows = reduce_design(model_priors(design, family, read_priors(PRIORS)).form.design)
    matrix, priors, p = coefficient_matrix(rows).toarray(), density.priors, rows.X.shape[1]
    precision = np.zeros((matrix.shape[1],) * 2)
    precision[:p, :p] = priors.beta_precision
    at = p
    for block, root in zip(rows.blocks, density.lambdas(theta), strict=True):
        here = slice(at, at + block.n_levels * len(root))
        precision[here, here] = np.kron(np.eye(block.n_levels), np.linalg.inv(root @ root.T))
        at = here.stop
    location = np.concatenate([priors.beta_location, np.zeros(len(precision) - p)])
    log_dispersion, likelihood = density.log_dispersion(theta), density.likelihood
    values = np.zeros(len(precision))
    for _ in range(60):
        curvature = likelihood.curvature(rows.offset + matrix @ values, log_dispersion)
        hessian = matrix.T @ (curvature.weight[:, None] * matrix) + precision
        values = values + np.linalg.solve(hessian, matrix.T @ curvature.score - precision @ (values - location))
    eta = rows.offset + matrix @ values
    away = values - location
    joint = float(likelihood.terms(eta, log_dispersion).sum()) + likelihood.constant(log_dispersion) - 0.5 * float(away @ precision @ away)
    value = joint + 0.5 * (np.linalg.slogdet(precision)[1] - np.linalg.slogdet(hessian)[1])
    return values, hessian, value + float(log_prior(theta[None], density.layout, priors)[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", [CROSSED, NESTED])
def test_the_density_is_laplaces_of_whole_matrices_and_its_gradient_its_own(
    family: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multilevel.bayesian.laplace_collapsed.NEAR_ENOUGH", 1e-18)
    design = design_of(text, family)
    density = density_of(design, family)
    theta = np.random.default_rng(1).normal(-0.4, 0.4, density.layout.size)
    mode, rows = density.mode(theta), density.coordinates
    values, _, expected = dense(density, design, family, theta)
    parts = [rows.beta(mode.effects), *(own.ravel() for own in rows.by_block(mode.effects))]
    np.testing.assert_allclose(np.concatenate(parts), values, atol=1e-7)
    value, slope = density.value_and_gradient(theta)
    assert value == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(slope, gradient(density, theta, 1e-4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_by_one_factorisation_are_those_of_whole_searches(family: str) -> None:
    design = design_of(NESTED, family)
    trailed, searched = density_of(design, family), density_of(design, family)
    centre = np.full(trailed.layout.size, -0.4)
    trailed.follow(centre, 0.05 * np.eye(len(centre)))
    thetas = centre + 0.3 * np.random.default_rng(3).standard_t(5, (12, len(centre)))
    assert {type(trailed.mode(theta)) for theta in thetas[:4]} == {NearMode}
    np.testing.assert_allclose(trailed.many(thetas, 2), [searched(theta) for theta in thetas], atol=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_nearest_normal_satisfies_its_equations_by_whole_matrices(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.bayesian.variational_normal.NEAR_ENOUGH", 1e-14)
    design = design_of(NESTED, family)
    density = density_of(design, family)
    theta = np.full(density.layout.size, -0.3)
    found = variational_normal(density, theta, density.mode(theta))
    rows, parts = reduce_design(model_priors(design, family, read_priors(PRIORS)).form.design), density.coordinates.by_block(found.effects)
    mean = np.concatenate([density.coordinates.beta(found.effects), *(own.ravel() for own in parts)])
    matrix, p = coefficient_matrix(rows).toarray(), rows.X.shape[1]
    precision = np.diag(np.concatenate([np.zeros(p), np.full(matrix.shape[1] - p, np.exp(0.6))]))
    precision[:p, :p] = density.priors.beta_precision
    whole = np.linalg.inv(matrix.T @ (found.weights[:, None] * matrix) + precision)
    variance, nodes, shares = np.einsum("ri,ij,rj->r", matrix, whole, matrix), *np.polynomial.hermite_e.hermegauss(15)
    curvatures = [density.likelihood.curvature(matrix @ mean + node * np.sqrt(variance), density.log_dispersion(theta)) for node in nodes]
    shares = shares / shares.sum()
    weights = sum(share * own.weight for share, own in zip(shares, curvatures, strict=True))
    np.testing.assert_allclose(found.weights, weights, rtol=1e-3)
    away = mean - np.concatenate([density.priors.beta_location, np.zeros(len(mean) - p)])
    left = matrix.T @ sum(share * own.score for share, own in zip(shares, curvatures, strict=True)) - precision @ away
    np.testing.assert_allclose(np.sqrt(np.diag(whole)) * left, 0.0, atol=1e-3)


def test_conditionals_have_the_covariance_of_their_weights_by_whole_matrices() -> None:
    design = design_of(NESTED, "poisson")
    density = density_of(design, "poisson")
    theta = np.full(density.layout.size, -0.3)
    conditionals = laplace_conditionals(density, level_factors(reduce_design(design))[1], theta[None], 1)
    rows = reduce_design(model_priors(design, "poisson", read_priors(PRIORS)).form.design)
    matrix, p = coefficient_matrix(rows).toarray(), rows.X.shape[1]
    precision = np.diag(np.concatenate([np.zeros(p), np.full(matrix.shape[1] - p, np.exp(0.6))]))
    precision[:p, :p] = density.priors.beta_precision
    root = conditionals(0).covariance_root()
    whole = np.linalg.inv(matrix.T @ (conditionals.weights[0].astype(float)[:, None] * matrix) + precision)
    np.testing.assert_allclose(root.T @ root, whole, atol=1e-6)
    np.testing.assert_array_equal(conditionals(0).mean, conditionals.means[0])


@pytest.mark.parametrize(("y", "sd"), [([1.0, 1.0], 0.8), ([1.0, 1.0], 2.0), ([1.0, 0.0, 0.0, 0.0, 0.0], 1.2)])
def test_a_levels_integral_and_moments_are_those_of_numerical_integration(y: list[float], sd: float) -> None:
    others = pd.DataFrame({"g": np.repeat(np.arange(9), 10).astype(str), "y": [0.0, 1.0] * 45})
    design = design_of("y ~ 1 + (1 | g)", "binomial", pd.concat([pd.DataFrame({"g": "one", "y": y}), others]))
    density, theta, place = density_of(design, "binomial"), np.array([np.log(sd)]), list(design.blocks[0].factor.levels).index("one")
    mode, rows = density.mode(theta), density.coordinates
    factor = level_factors(reduce_design(design))[0]
    normals = level_normals(factor, density.lambdas(theta), rows.by_block(mode.spherical), mode.curvature.weight, mode.eta)
    beta, successes, share = float(rows.beta(mode.effects)[0]), sum(y), float(np.mean(y))

    def integrand(u: float) -> float:
        eta = beta + sd * u
        return float(np.exp(successes * eta - len(y) * np.logaddexp(0.0, eta)) * norm.pdf(u))

    exact = quad(integrand, -12, 12)[0]
    saturated = float(xlogy(successes, share) + xlogy(len(y) - successes, 1.0 - share))
    moments, root = exact_moments(normals, density.likelihood, 0.0), float(normals.roots[place, 0, 0])
    assert moments.log_integrals[place] == pytest.approx(np.log(exact) - saturated, abs=2e-3)
    assert abs(integral_ratios(normals, density.likelihood, 0.0)[place]) > 1e-3
    mean = quad(lambda u: u * integrand(u), -12, 12)[0] / exact
    variance = quad(lambda u: (u - mean) ** 2 * integrand(u), -12, 12)[0] / exact
    assert float(normals.centre[place, 0]) + root * moments.means[place, 0] == pytest.approx(mean, abs=5e-3)
    assert root**2 * moments.covariances[place, 0, 0] == pytest.approx(variance, rel=0.02)


def test_with_the_leaves_integrated_one_factor_has_its_exact_likelihood() -> None:
    """Of a factor and an intercept: against the integral over both, level by level and on a grid of the intercept."""
    frame = shop("binomial", n=240, households=80, sd=1.5)
    design = design_of("y ~ 1 + (1 | household)", "binomial", frame)
    density = density_of(design, "binomial")
    factor = level_factors(reduce_design(design))[0]
    nodes, shares = np.polynomial.hermite_e.hermegauss(60)
    counts = frame.groupby("household").y.agg(["sum", "size"]).to_numpy()
    grid = np.linspace(-3, 3, 601)

    def exact(sd: float) -> float:
        eta = grid[:, None] + sd * nodes
        each = [np.log(np.exp(y * eta - n * np.logaddexp(0.0, eta)) @ (shares / shares.sum())) for y, n in counts]
        logs = np.sum(each, axis=0) + norm.logpdf(grid, density.priors.beta_location[0], density.priors.beta_precision[0, 0] ** -0.5)
        return float(logs.max() + np.log(np.exp(logs - logs.max()).sum() * (grid[1] - grid[0])))

    sds = (0.5, 1.0, 2.0)
    own, plain = [], []
    for sd in sds:
        theta = np.array([np.log(sd)])
        mode = density.mode(theta)
        own.append(leaves_integrated(density, factor, theta, mode))
        plain.append(density.likelihood_at(mode))
    wanted = [exact(sd) for sd in sds]
    np.testing.assert_allclose(np.diff(own), np.diff(wanted), atol=0.02)
    assert np.abs(np.diff(plain) - np.diff(wanted)).max() > 0.5


def test_pareto_ks_are_arvizs() -> None:
    rng = np.random.default_rng(2)
    logs = np.stack([0.5 * rng.normal(size=256), 2.0 * rng.normal(size=256), rng.standard_exponential(256)])
    theirs = [float(array_stats.psislw(-own)[1]) for own in logs]
    np.testing.assert_allclose(pareto_ks(logs), theirs, atol=0.02)
    assert pareto_ks(np.zeros((1, 256)))[0] == -np.inf


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_fitted_by_points_and_keeps_its_gates(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.bayesian.points_fit.DENSE_EFFECTS", 0)
    monkeypatch.setattr("multilevel.bayesian.points_fit.MOST_FOR_BOUNDS", 1_000)  # five regions' would take most of the time
    design = design_of(NESTED, family, shop(family, n=240, households=60))
    told: list[float] = []
    fit = fit_bayesian(design, family, sampling={"form": "importance", "cores": 1}, progress=lambda doing, share: told.append(share))
    assert fit.method == "importance"
    assert fit.is_posterior
    assert not fit.has_draws
    assert [check.check for check in fit.checks if check.gate and not check.passed] == []
    assert {"pareto_k", "importance_ess", "level_tails", "level_spreads", "level_pareto_k", "level_integrals"} <= {
        c.check for c in fit.checks
    }
    assert (fit.dispersion is not None) == (family in ("negative_binomial", "gamma"))
    assert fit.sigma is None
    assert told == sorted(told)
    covered = [own.lower < true < own.upper for own, true in zip(fit.components, TRUE_SDS[: len(fit.components)], strict=False)]  # type: ignore[operator]
    assert sum(covered) >= len(covered) - 1


TRUE_SDS = (0.35, 0.7, 0.4, 3.0)
"""Of regions (that of 5 households' means, about), households, b; phi or shape."""


@pytest.mark.calibration
def test_points_are_the_posterior_that_nuts_samples() -> None:
    design = design_of("y ~ 1 + x + (1 | household) + (1 | b)", "binomial", shop("binomial", n=240, households=60, sd=1.2))
    sampling = {"draws": 500, "chains": 2, "cores": 1}
    points, nuts = (fit_bayesian(design, "binomial", sampling=sampling | {"form": form}, seed=1) for form in ("importance", "nuts"))
    for own, other in zip(points.components, nuts.components, strict=True):
        assert other.std_error is not None
        assert own.estimate == pytest.approx(other.estimate, abs=0.2 * other.std_error)
        assert own.std_error == pytest.approx(other.std_error, rel=0.2)
    everything = csr_array(eye_array(len(points.joint.mean), format="csr"))
    own, other = points.joint.combine(everything, 0.95), nuts.joint.combine(everything, 0.95)
    np.testing.assert_allclose((own.estimate - other.estimate) / other.std_error, 0.0, atol=0.2)
    np.testing.assert_allclose(own.std_error, other.std_error, rtol=0.15)


def two_items_each() -> Design:
    """200 households that buy twice and differ very much."""
    return design_of("y ~ 1 + (1 | household)", "binomial", shop("binomial", n=400, households=200, sd=6.0))


def test_levels_that_are_not_normal_are_sent_to_nuts_under_auto_before_any_point_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.bayesian.memory.MOST_DRAWN", 10)
    monkeypatch.setattr("multilevel.bayesian.laplace_points.points_about", lambda *arguments: pytest.fail("points were made"))
    asked: list[str] = []

    def nuts(design: Design, family: str, priors: object, sampling: Sampling, **others: object) -> Fit:
        asked.append(sampling.form)
        raise FitError("NUTS was asked")

    monkeypatch.setattr(bayesian_engine, "fit_nuts", nuts)
    priors = {"sds": {"household": "half_normal(20)"}}
    with pytest.raises(FitError, match="NUTS was asked"):
        fit_bayesian(two_items_each(), "binomial", priors=priors)
    assert asked == ["nuts"]


def test_points_that_were_asked_for_fail_a_gate_where_levels_are_not_normal() -> None:
    fit = fit_bayesian(two_items_each(), "binomial", sampling={"form": "importance", "cores": 1})
    assert "level_tails" in {check.check for check in fit.checks if check.gate and not check.passed}


def test_few_coefficients_are_sampled_and_many_kept_as_points() -> None:
    few, many = design_of(NESTED, "binomial"), design_of(NESTED, "binomial", shop("binomial", n=2_500, households=2_400))
    assert not is_by_points(few, Sampling())
    assert is_by_points(many, Sampling())
    assert is_by_points(few, Sampling(form="importance"))
    assert with_draws(many, Sampling()).form == "nuts"


def test_levels_with_many_effects_are_sent_to_nuts() -> None:
    frame = shop("poisson").assign(**{f"x{at}": np.random.default_rng(at).normal(size=400).round(1) for at in range(4)})
    design = design_of("y ~ 1 + (1 + x + x0 + x1 + x2 | a)", "poisson", frame)
    priors = model_priors(design, "poisson", read_priors(None))
    rows = reduce_design(priors.form.design)
    with pytest.raises(LevelsNotNormalError, match="5 effects each"):
        sample_laplace_points(rows, outcome_of(design.cells, rows, "poisson"), priors.inner, Sampling(), 0)


def test_a_correction_is_missing_only_where_no_mode_is_found() -> None:
    design = design_of(NESTED, "binomial")
    density = density_of(design, "binomial")
    factors = level_factors(reduce_design(design))
    density.follow(np.full(density.layout.size, -0.5), 0.01 * np.eye(density.layout.size))
    thetas = np.array([np.full(density.layout.size, -0.5), np.full(density.layout.size, 800.0)])
    found = corrections(density, factors, thetas, 1)
    assert np.isfinite(found[0])
    assert np.isnan(found[1])
