"""A posterior kept as points against the same posterior as draws, and against itself in its dense form."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array, eye_array, vstack

from multilevel.bayesian import conditionals, points_fit
from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.bayesian.collapsed import Collapsed
from multilevel.bayesian.collapsed_gradient import value_and_gradient
from multilevel.bayesian.conditionals import Conditionals
from multilevel.bayesian.independence import gradient
from multilevel.bayesian.mixture_joint import MixtureJoint
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.priors import read_priors
from multilevel.bayesian.unit_free_priors import model_priors
from multilevel.catalogue.table_assembly import Heading
from multilevel.cells.from_rows import cells_from_frame
from multilevel.checking.model_comparison import fit_by_likelihood
from multilevel.checking.omitted_terms import omitted_terms
from multilevel.design.build import build_design
from multilevel.design.effect_rows import effect_places
from multilevel.design.model import Design
from multilevel.design.nesting import nesting
from multilevel.design.reduction import reduce_design
from multilevel.errors import FitError
from multilevel.fit import drawn_fit as drawing
from multilevel.fit import theta_points
from multilevel.fit.container import Fit
from multilevel.fit.drawn_fit import drawn_fit
from multilevel.fit.interval_estimates import covariance_about, spread_about
from multilevel.fit.shared_rows import mean_row
from multilevel.fit.theta_points import ThetaPoints
from multilevel.fit.theta_spread import ThetaMixture
from multilevel.formula.parse import parse_formula
from multilevel.interpretation import explained_variance as explained_variance_module
from multilevel.interpretation.explained_variance import explained_variance
from multilevel.linear.assemble import linear_system
from multilevel.linear.dense_part import dense_bytes
from multilevel.prediction.posterior_file import posterior_tree
from multilevel.tables import group_coefficients as group_coefficients_module
from multilevel.tables.group_coefficients import group_coefficients

CROSSED = "y ~ 1 + x + (1 + x | a) + (1 | b)"
HOUSEHOLDS = "y ~ 1 + x + (1 | region/household) + (1 | household:b) + (1 + x | b)"
FEW = "y ~ 1 + x + (1 | region)"


def shop(seed: int = 3, n: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    a, b, household = rng.integers(12, size=n), rng.integers(9, size=n), rng.integers(40, size=n)
    region, x = household % 5, rng.normal(0.5, 1.0, n)
    y = 3 + x + rng.normal(0, 1, 12)[a] + rng.normal(0, 0.5, 9)[b] + rng.normal(0, 0.6, 40)[household] + rng.normal(0, 0.8, 5)[region]
    y += (0.3 * rng.normal(size=9))[b] * x + rng.normal(0, 1.2, n)
    text = {"a": a, "b": b, "household": household, "region": region}
    return pd.DataFrame({name: codes.astype(str) for name, codes in text.items()} | {"x": x, "y": y})


def design_of(text: str, family: str = "gaussian") -> Design:
    formula = parse_formula(text)
    return build_design(formula, cells_from_frame(formula, shop(), family))


def by_points(text: str, **sampling: object) -> Fit:
    return fit_bayesian(design_of(text), "gaussian", sampling={"form": "importance", "cores": 1} | sampling, seed=1)


@pytest.fixture(scope="module")
def crossed() -> Fit:
    return by_points(CROSSED)


@pytest.mark.parametrize("text", [CROSSED, HOUSEHOLDS, FEW])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_is_that_of_the_density(text: str, seed: int) -> None:
    design = design_of(text)
    priors = model_priors(design, "gaussian", read_priors({"coefficients": {"Intercept": "normal(2, 1.5)"}}))
    layout = Layout(tuple(len(block.columns) for block in design.blocks), True)
    density = Collapsed(linear_system(reduce_design(priors.form.design)), layout, priors.inner)
    theta = np.random.default_rng(seed).normal(0.0, 0.7, layout.size)
    value, slope = value_and_gradient(density, theta)
    assert value == pytest.approx(density(theta), rel=1e-12)
    np.testing.assert_allclose(slope, gradient(density, theta, 1e-5), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("text", [FEW, *(pytest.param(text, marks=pytest.mark.calibration) for text in (CROSSED, HOUSEHOLDS))])
def test_points_and_draws_are_the_same_posterior(text: str) -> None:
    """Bounds by draws differ from seed to seed by up to 0.2 of a standard error: those of several runs are averaged."""
    sampling, seeds = {"form": "collapsed", "cores": 1}, (2,) if text == FEW else (2, 3, 4, 5)
    points, several = by_points(text), [fit_bayesian(design_of(text), "gaussian", sampling=sampling, seed=seed) for seed in seeds]
    drawn = several[0]
    assert not points.has_draws
    assert points.is_posterior
    assert [check.check for check in points.checks if check.gate and not check.passed] == []
    for own, other in zip(points.components, drawn.components, strict=True):
        assert other.std_error is not None
        assert own.estimate == pytest.approx(other.estimate, abs=0.2 * other.std_error)
        assert own.std_error == pytest.approx(other.std_error, rel=0.25)
        assert own.lower == pytest.approx(other.lower, abs=0.35 * other.std_error)
        assert own.upper == pytest.approx(other.upper, abs=0.6 * other.std_error)
    everything = csr_array(eye_array(len(points.joint.mean), format="csr"))
    own, others = points.joint.combine(everything, 0.95), [each.joint.combine(everything, 0.95) for each in several]
    other = others[0]
    np.testing.assert_allclose((own.estimate - other.estimate) / other.std_error, 0.0, atol=0.12)
    np.testing.assert_allclose(own.std_error, other.std_error, rtol=0.12)
    for mine, theirs in ((own.lower, [each.lower for each in others]), (own.upper, [each.upper for each in others])):
        np.testing.assert_allclose((mine - np.mean(theirs, axis=0)) / other.std_error, 0.0, atol=0.35 if text == FEW else 0.25)
    for own_part, other_part in zip(points.shrinkage, drawn.shrinkage, strict=True):
        np.testing.assert_allclose(own_part, other_part, atol=0.03)
    for own_part, other_part in zip(points.covariances, drawn.covariances, strict=True):
        np.testing.assert_allclose(own_part, other_part, atol=0.35 * np.abs(other_part).max())


def test_levels_are_asked_of_the_factor_as_of_its_roots(crossed: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_fit, "ROOT_VALUES", 0)
    monkeypatch.setattr(points_fit, "MOST_FOR_BOUNDS", 0)
    monkeypatch.setattr(theta_points, "variance_surface", lambda *of_points: None)
    dense = by_points(CROSSED)
    monkeypatch.setattr(points_fit, "DENSE_EFFECTS", 0)
    sparse = by_points(CROSSED)
    assert isinstance(crossed.theta, ThetaMixture)
    assert isinstance(dense.theta, ThetaMixture)
    assert isinstance(sparse.theta, ThetaPoints)
    assert len(sparse.theta.weights) < len(crossed.theta.weights)
    rng = np.random.default_rng(0)
    rows = csr_array(rng.normal(size=(7, len(dense.joint.mean))) * (rng.uniform(size=(7, len(dense.joint.mean))) < 0.3))
    centre = csr_array(rows[[0]])
    np.testing.assert_allclose(sparse.theta.variances(rows), dense.theta.variances(rows), rtol=1e-8)
    np.testing.assert_allclose(spread_about(sparse, rows, centre), spread_about(dense, rows, centre), rtol=1e-8, atol=1e-7)
    np.testing.assert_allclose(covariance_about(sparse, rows, centre), covariance_about(dense, rows, centre), rtol=1e-7, atol=1e-10)
    roots = [own.unmapped().covariance_root() for own in (sparse.theta, dense.theta)]
    np.testing.assert_allclose(roots[0].T @ roots[0], roots[1].T @ roots[1], rtol=1e-6, atol=1e-9)
    drawn = sparse.joint.draws(4_000, 5)
    width = drawn.shape[1]
    sd = np.sqrt(np.diag(covariance_about(dense, csr_array(eye_array(width, format="csr")), csr_array((1, width)))))
    np.testing.assert_allclose((drawn.mean(axis=0) - dense.joint.mean) / sd, 0.0, atol=5 / np.sqrt(4_000))
    np.testing.assert_allclose(drawn.std(axis=0) / sd, 1.0, atol=0.1)


@pytest.mark.parametrize("text", [CROSSED, HOUSEHOLDS, FEW])
def test_few_points_tell_what_levels_vary_by_at_all(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_fit, "ROOT_VALUES", 0)
    monkeypatch.setattr(points_fit, "DENSE_EFFECTS", 0)
    fit = by_points(text)
    assert isinstance(fit.theta, ThetaPoints)
    width = len(fit.joint.mean)
    rng = np.random.default_rng(0)
    rows = csr_array(vstack([eye_array(width), rng.normal(size=(20, width)) * (rng.uniform(size=(20, width)) < 0.3)], format="csr"))
    centre = mean_row(rows)
    few = [fit.joint.combine(rows, 0.95), spread_about(fit, rows, centre), covariance_about(fit, rows, centre)]
    np.testing.assert_allclose(np.sqrt(np.diagonal(few[2])), few[1], rtol=1e-6)
    assert np.linalg.eigvalsh(few[2])[0] > -1e-9 * np.trace(few[2])
    monkeypatch.setattr(theta_points, "variance_surface", lambda *of_points: None)
    every = replace(fit, theta=replace(fit.theta), joint=MixtureJoint(replace(fit.theta)))
    exact = every.joint.combine(rows, 0.95)
    np.testing.assert_allclose(few[0].std_error, exact.std_error, rtol=0.02)
    for own, other in ((few[0].lower, exact.lower), (few[0].upper, exact.upper)):
        assert np.all(np.abs(own - other) <= 0.04 * exact.std_error)
    np.testing.assert_allclose(few[1], spread_about(every, rows, centre), rtol=0.02)


@pytest.mark.parametrize("every_level_is_rough", [False, True])
def test_moments_of_very_many_levels_are_read_off_where_points_tell_them(
    every_level_is_rough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points_fit, "ROOT_VALUES", 0)
    monkeypatch.setattr(points_fit, "DENSE_EFFECTS", 0)
    exact = by_points(HOUSEHOLDS)
    monkeypatch.setattr(points_fit, "MANY_COEFFICIENTS", 0)
    if every_level_is_rough:
        monkeypatch.setattr(conditionals, "MOST_MISS", -1.0)
    read_off = by_points(HOUSEHOLDS)
    assert isinstance(read_off.theta, ThetaPoints)
    np.testing.assert_allclose(read_off.theta.variance, exact.theta.variance, rtol=1e-12 if every_level_is_rough else 0.04)
    for own, other in zip(read_off.shrinkage + read_off.conditional_variance, exact.shrinkage + exact.conditional_variance, strict=True):
        np.testing.assert_allclose(own, other, rtol=0.05, atol=0.005)
    [found], [expected] = (
        [check.value for check in fit.checks if check.check == "monte_carlo_error_of_bounds"] for fit in (read_off, exact)
    )
    assert found == pytest.approx(expected, rel=0.02)


def test_a_table_goes_over_the_points_a_few_times_however_many_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_fit, "ROOT_VALUES", 0)
    monkeypatch.setattr(points_fit, "DENSE_EFFECTS", 0)
    monkeypatch.setattr(conditionals, "KEPT_BYTES", 0)
    monkeypatch.setattr(conditionals, "KEPT_WHOLE", 0)
    monkeypatch.setattr(points_fit, "MOST_FOR_BOUNDS", 0)
    fit = by_points(CROSSED)
    assert isinstance(fit.theta, ThetaPoints)
    made: list[int] = []
    factorised = Conditionals.factorised
    monkeypatch.setattr(Conditionals, "factorised", lambda own, point: made.append(point) or factorised(own, point))
    tree, heading = nesting(fit.design), Heading("s", date(2026, 1, 31), "r", "bayesian")
    table = group_coefficients(fit, tree, heading)
    in_one_pass, made[:] = made.copy(), []
    monkeypatch.setattr(group_coefficients_module, "together", lambda tasks: [task() for task in tasks])
    assert group_coefficients(fit, tree, heading).equals(table)
    # the points that stand for all once, and the others at most once, for levels of which those do not tell enough
    assert sorted(in_one_pass) == sorted(set(in_one_pass))
    assert len(made) > 6 * len(in_one_pass)


def test_the_dense_part_of_a_point_is_factorised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_fit, "ROOT_VALUES", 0)
    monkeypatch.setattr(points_fit, "DENSE_EFFECTS", 0)
    fit = by_points(HOUSEHOLDS)
    assert isinstance(fit.theta, ThetaPoints)
    own = fit.theta.conditional
    assert isinstance(own, Conditionals)
    again = Conditionals(own.density, own.thetas)
    monkeypatch.setattr(conditionals, "KEPT_BYTES", len(own.thetas) * dense_bytes(own.density.system))
    monkeypatch.setattr(conditionals, "KEPT_WHOLE", 0)
    assert not again.are_kept
    made: list[int] = []
    factorise = Collapsed.factorise
    monkeypatch.setattr(Collapsed, "factorise", lambda density, theta: made.append(0) or factorise(density, theta))
    rows = csr_array(eye_array(fit.theta.means.shape[1], format="csr"))
    first, second = (again(3).variance(rows) for _ in range(2))
    assert len(made) == 1
    np.testing.assert_array_equal(first, second)


def test_monte_carlo_errors_are_checks_and_few_parameters_are_known_worse_than_they_ask(crossed: Fit) -> None:
    checks = {check.check: check for check in crossed.checks}
    assert {"pareto_k", "importance_ess", "monte_carlo_error", "monte_carlo_error_of_bounds"} <= set(checks)
    assert checks["monte_carlo_error"].threshold == 0.05
    assert checks["monte_carlo_error_of_bounds"].threshold == pytest.approx(0.1336, abs=1e-4)
    assert checks["monte_carlo_error"].passed
    assert not checks["monte_carlo_error"].gate
    assert checks["pareto_k"].gate


def test_where_points_fail_their_gates_chains_take_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    plenty = points_fit.importance_points
    monkeypatch.setattr(points_fit, "importance_points", lambda *arguments: replace(plenty(*arguments), ess=10.0))
    fit = by_points(FEW, draws=500)
    assert fit.method == "theta_chains"
    assert fit.record["importance_points_failed"]
    assert {"max_r_hat", "min_ess_bulk", "min_ess_tail"} <= {check.check for check in fit.checks if check.gate}
    assert [check.check for check in fit.checks if check.gate and not check.passed] == []
    monkeypatch.undo()
    assert fit.joint.mean[1] == pytest.approx(by_points(FEW).joint.mean[1], abs=0.02)


def test_a_posterior_of_points_is_drawn_from_where_draws_are_asked_for(crossed: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = posterior_tree(crossed, {})
    assert dict(tree["posterior"].sizes)["draw"] == 1_000
    assert float(tree["posterior"]["sigma"].mean()) == pytest.approx(crossed.sigma, abs=0.01)
    assert drawn_fit(crossed, 50).joint.draws(50, 0).shape == (50, len(crossed.joint.mean))
    monkeypatch.setattr(drawing, "MOST_BYTES", 1_000)
    with pytest.raises(FitError, match="too many to hold"):
        drawn_fit(crossed)


def test_a_few_points_tell_how_wide_the_conditional_distributions_of_many_levels_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_fit, "ROOT_VALUES", 0)
    monkeypatch.setattr(points_fit, "DENSE_EFFECTS", 0)
    fit = by_points("y ~ 1 + x + (1 | region/household) + (1 | b)")
    assert isinstance(fit.theta, ThetaPoints)
    block = next(place for place, block in enumerate(fit.design.blocks) if block.factor.name == "region:household")
    places = effect_places(fit.design, block, 0, np.arange(40))
    rows = csr_array((np.ones(40), (np.arange(40), places)), shape=(40, fit.theta.means.shape[1]))
    centre = mean_row(rows)
    np.testing.assert_allclose(fit.theta.spread_about(rows, centre, few=True), fit.theta.spread_about(rows, centre), rtol=0.02)
    monkeypatch.setattr(explained_variance_module, "MANY_LEVELS", 39)
    told = explained_variance(fit, block, 0).pooling_factor
    monkeypatch.setattr(explained_variance_module, "MANY_LEVELS", 40)
    assert told == pytest.approx(explained_variance(fit, block, 0).pooling_factor, abs=0.005)


def test_score_tests_of_points_are_those_of_the_likelihood_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_fit, "ROOT_VALUES", 0)
    monkeypatch.setattr(points_fit, "DENSE_EFFECTS", 0)
    fit = by_points("y ~ 1 + x + (1 | region/household) + (1 | b)")
    assert isinstance(fit.theta, ThetaPoints)
    tree = nesting(fit.design)
    own, other = omitted_terms(fit, tree), omitted_terms(fit_by_likelihood(fit.design, 0), tree)
    assert [check.check for check in own] == [check.check for check in other]
    assert any(check.value is not None for check in own)
    for one, two in zip(own, other, strict=True):
        assert (one.value is None) is (two.value is None)
        if one.value is not None:
            assert one.value == pytest.approx(two.value, rel=0.03)
            assert one.passed is two.passed
