"""A new member of a level over a posterior: each draw integrates its own variance. Against the definition written out, draw by draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, ndtri

from multilevel.catalogue.published_tables import check_table
from multilevel.catalogue.table_assembly import Heading
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.nesting import Nesting, nesting
from multilevel.estimands import drawn_averages
from multilevel.estimands.fitted_part import FittedPart, expected_outcome
from multilevel.estimands.level_variance import level_variance
from multilevel.estimands.population import population
from multilevel.fit.container import Fit
from multilevel.fit.joint_draws import DrawsJoint
from multilevel.fit.residuals import expected_residual_ss
from multilevel.formula.parse import parse_formula
from multilevel.pooling.free_intercepts import free_intercepts
from multilevel.prediction.average_contrast import average_contrasts
from multilevel.prediction.save_model import save_model
from multilevel.prediction.saved_averages import saved_averages
from multilevel.prediction.saved_folder import SavedFolder
from multilevel.prediction.write_joint import write_joint
from multilevel.study.designs import study_parts
from multilevel.study.engines import fit_partial
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options
from multilevel.tables.group_estimates import group_estimates

DRAWS = 30
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
HEADING = Heading("s", date(2026, 1, 31), "r", "bayesian")
FORMULA = "{y} ~ persons + sale + (1 | band) + (1 + sale | band:household) + (1 | category)"


def rows(n: int = 500) -> pd.DataFrame:
    """40 households in 4 bands that buy in 3 categories."""
    rng = np.random.default_rng(2)
    household, category = rng.choice(40, n, p=rng.dirichlet(np.full(40, 2.0))), rng.integers(0, 3, n)
    band, sale = household % 4, rng.random(n) < 0.4
    persons = rng.integers(1, 4, 40)[household].astype(float)
    eta = 0.3 * rng.normal(size=4)[band] + (0.5 + 0.3 * sale) * rng.normal(size=40)[household] + 0.4 * rng.normal(size=3)[category]
    frame = pd.DataFrame({"band": band, "household": household, "category": category, "persons": persons, "sale": sale})
    frame["spend"] = 1.0 + eta + rng.normal(size=n)
    frame["paid"] = np.exp(eta + 0.5 * rng.normal(size=n))
    frame["bought"] = rng.random(n) < expit(eta)
    frame["count"] = rng.poisson(np.exp(eta / 2) * rng.gamma(4.0, 0.25, n))
    frame["some"] = np.where(rng.random(n) < expit(1 + eta), frame.paid, 0.0)
    return frame


def posterior_like(fit: Fit, seed: int) -> Fit:
    """The fit with ``DRAWS`` draws of coefficients and of every covariance, centred where the fit has them."""
    rng, plain = np.random.default_rng(seed), fit.unit_free
    assert plain is not None
    values = fit.joint.draws(DRAWS, seed)
    values = values - values.mean(axis=0) + fit.joint.mean
    inner = []
    for covariance in plain.covariances:
        grown = covariance + 0.05 * np.eye(len(covariance))
        size = np.exp(0.4 * rng.normal(size=DRAWS))
        inner.append(grown * (size / size.mean())[:, None, None])
    draws = plain.form.maps.covariances(inner)
    means = tuple(each.mean(axis=0) for each in inner)
    return replace(
        fit,
        joint=DrawsJoint(values),
        engine="bayesian",
        covariances=tuple(each.mean(axis=0) for each in draws),
        covariance_draws=tuple(draws),
        unit_free=replace(plain, joint=None, covariances=means, covariance_draws=tuple(inner)),
    )


@cache
def likelihood(outcome: str, family: str) -> tuple[list[FittedPart], Nesting]:
    parsed = parse_formula(FORMULA.format(y=outcome))
    options = fit_options("s", date(2026, 1, 31), "r", "likelihood")
    parts = study_parts(parsed, cells_from_frame(parsed, rows(), family))
    tree = nesting(parts[0].design)
    found = []
    for part in parts:
        fit = fit_partial(part.design, options)
        cells = part.design.cells
        variance = level_variance(cells.n, expected_residual_ss(fit.design, fit.joint), dict(tree.factors)) if cells.log_outcome else None
        found.append(FittedPart(part.name, fit, part.everywhere, variance))
    return found, tree


def parts_of(outcome: str, family: str) -> list[FittedPart]:
    found, _ = likelihood(outcome, family)
    return [replace(part, fit=posterior_like(part.fit, seed)) for seed, part in enumerate(found)]


def predictors(fit: Fit, frame: pd.DataFrame, draw: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Of each band (households, lines) predictors, every household beside all lines, and (lines,) the variance of its effects there."""
    assert isinstance(fit.joint, DrawsJoint) and fit.covariance_draws is not None
    values, design = fit.joint.values[draw], fit.design
    beta = dict(zip((column.label for column in design.population), values, strict=False))
    effects, sigma = {}, None
    for index, block in enumerate(design.blocks):
        start = len(design.population) + design.starts[index]
        if block.factor.name == "band:household":
            assert [column.label for column in block.columns] == ["Intercept", "sale[true]"]
            sigma = fit.covariance_draws[index][draw]
        else:
            effects[block.factor.name] = dict(zip(block.factor.levels.astype(int), values[start:], strict=False))
    assert sigma is not None
    sale = frame.sale.to_numpy(float)
    common = beta["sale[true]"] * sale + frame.category.map(effects["category"]).to_numpy()
    persons = frame.groupby(["band", "household"]).persons.first()
    own = [beta["Intercept"] + effects["band"][band] + beta["persons"] * persons[band].to_numpy() for band in range(4)]
    variance = sigma[0, 0] + 2.0 * sale * sigma[0, 1] + sale**2 * sigma[1, 1]
    return [each[:, None] + common for each in own], variance


def by_hand(fits: list[Fit], expected: list[Callable[[np.ndarray, np.ndarray], np.ndarray]]) -> np.ndarray:
    """(4, DRAWS) what is expected of a new household of every band; ``expected(eta, variance)`` of each part, multiplied."""
    frame = rows()
    found = np.empty((4, DRAWS))
    for draw in range(DRAWS):
        of_parts = [predictors(fit, frame, draw) for fit in fits]
        for band in range(4):
            means = [mean(eta[band], variance) for (eta, variance), mean in zip(of_parts, expected, strict=True)]
            found[band, draw] = np.prod(means, axis=0).mean()
    return found


def identity(eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return eta


def exponential(eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return np.exp(eta + variance / 2)


def drawn_in(eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Demidenko (2013), section 7.1.2, as the likelihood engine integrates."""
    return expit(eta / np.sqrt(1.0 + (16.0 * np.sqrt(3.0) / (15.0 * np.pi)) ** 2 * variance))


def logistic(eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return sum(weight * expit(eta + np.sqrt(variance) * node) for node, weight in zip(NODES, WEIGHTS, strict=True))


CASES = {
    "gaussian": ("spend", "gaussian", [identity], 1e-9),
    "logarithm": ("log(paid)", "gaussian", [exponential], 1e-9),
    "share": ("bought", "binomial", [drawn_in], 1e-9),
    "count": ("count", "poisson", [exponential], 1e-9),
    "overdispersed": ("count", "negative_binomial", [exponential], 1e-9),
    "gamma": ("paid", "gamma", [exponential], 1e-9),
    "two parts": ("some", "hurdle_gamma", [drawn_in, exponential], 1e-9),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.parity) if case in {"overdispersed", "gamma", "two parts", "share"} else case for case in CASES],
)
def test_each_draw_integrates_its_own_variance(case: str) -> None:
    outcome, family, expected, tolerance = CASES[case]
    parts = parts_of(outcome, family)
    _, tree = likelihood(outcome, family)
    standard = population(expected_outcome(parts), tree, "band", None, ("household",), "band:household")
    drawn = by_hand([part.fit for part in parts], expected)
    if case != "gaussian":
        np.testing.assert_allclose(drawn_averages.level_draws(standard, DRAWS), drawn, rtol=tolerance)
    found = drawn_averages.respond(standard)
    lower, median, upper = np.quantile(drawn, [0.025, 0.5, 0.975], axis=1)
    has_mean = case in ("gaussian", "share")
    np.testing.assert_allclose(found.estimate, drawn.mean(axis=1) if has_mean else median, rtol=tolerance)
    np.testing.assert_allclose([found.lower, found.upper], [lower, upper], rtol=tolerance)
    error = drawn.std(axis=1, ddof=1) if has_mean else (upper - lower) / (2 * ndtri(0.975))
    np.testing.assert_allclose(found.std_error, error, rtol=100 * tolerance)


def test_the_logistic_mean_is_near_that_of_quadrature() -> None:
    parts, (_, tree) = parts_of("bought", "binomial"), likelihood("bought", "binomial")
    standard = population(expected_outcome(parts), tree, "band", None, ("household",), "band:household")
    ours, exact = drawn_averages.level_draws(standard, DRAWS), by_hand([part.fit for part in parts], [logistic])
    # the formula's largest error: 0.001 at a variance of 0.1, 0.0065 at 1, 0.011 at any
    assert np.abs(ours - exact).max() < 0.011


def test_pieces_of_draws_and_levels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tree = likelihood("count", "poisson")
    standard = population(expected_outcome(parts_of("count", "poisson")), tree, "band", None, ("household",), "band:household")
    whole = drawn_averages.respond(standard)
    monkeypatch.setattr(drawn_averages, "VALUES_AT_ONCE", 500)
    monkeypatch.setattr("multilevel.estimands.standardise._CHUNK_ENTRIES", 50)
    assert len(list(standard.pairs())) > 1
    np.testing.assert_allclose(drawn_averages.respond(standard).estimate, whole.estimate, rtol=1e-12)


def test_without_pooling_it_is_the_conditional_mode_at_the_posterior_means_of_the_variances() -> None:
    [plain], tree = likelihood("count", "poisson")
    posterior = posterior_like(plain.fit, 0)
    assert plain.fit.unit_free is not None and posterior.unit_free is not None
    means = replace(plain.fit.unit_free, covariances=posterior.unit_free.covariances)
    at_means = replace(plain.fit, covariances=posterior.covariances, unit_free=means)
    found = []
    for fit in (posterior, at_means):
        outcome = expected_outcome([replace(plain, fit=fit)])
        own = free_intercepts(fit, "band")
        assert own is not None
        free = {"band": [own.kept]}
        table = group_estimates(outcome, tree, HEADING, free=free, sampled=("household",))
        found.append(bands(table))
    for column in ("population_no_pooling_estimate", "population_no_pooling_std_error"):
        assert found[0][column].notna().all()
        np.testing.assert_allclose(found[0][column], found[1][column], rtol=1e-6)


def bands(table: Any) -> pd.DataFrame:
    frame = table.to_pandas()
    return frame[(frame.grouping_factor == "band") & ~frame.is_new].set_index("level")


@pytest.mark.parametrize("case", ["logarithm", "share", "count", pytest.param("two parts", marks=pytest.mark.parity)])
def test_contrasts_are_differences_of_the_published_estimates(case: str, tmp_path: Path) -> None:
    outcome, family, _, _ = CASES[case]
    parts, (_, tree) = parts_of(outcome, family), likelihood(outcome, family)
    whole, variance = expected_outcome(parts), parts[-1].variance
    table = group_estimates(whole, tree, HEADING, variance=variance, sampled=("household",))
    assert check_table("group_estimates", table) == []
    models = [save_model(part, FORMULA.format(y=outcome), moments={}, fills={}) for part in parts]
    found = saved_averages(whole, tree, variance, [model for model in models if model is not None], table, ("household",))
    [kept] = [each for each in found if each.of == "population" and each.factor == "band"]
    write_joint([model for model in models if model is not None], tmp_path, found)
    back = next(one for one in SavedFolder(tmp_path).averages("band", kept.levels) if one.of == "population")
    assert back.is_median == kept.is_median == (case != "share")
    published = bands(table)
    assert (published.headline == "population").all() and published.probability_above_average.between(0, 1).all()
    for pair in average_contrasts(back, range(4), back.levels):
        one, other = (published.loc[level] for level in (pair.level_a, pair.level_b))
        assert pair.difference == pytest.approx(one.population_estimate - other.population_estimate, abs=1e-9)
        assert pair.ratio is not None and pair.ratio[0] == pytest.approx(one.population_estimate / other.population_estimate, abs=1e-9)
        assert pair.ratio[1] < pair.ratio[0] < pair.ratio[2]
        # a variance that all share moves both alike
        assert 0 < pair.std_error < 1.1 * np.hypot(one.population_std_error, other.population_std_error)


def test_a_whole_study_publishes_them() -> None:
    parsed = parse_formula("log(paid) ~ 1 + (1 | band/household)")
    options = fit_options(
        "s", date(2026, 1, 31), "r", "bayesian", sampled=("household",), sampling={"draws": 200, "chains": 2, "tune": 150}
    )
    study = fit_study(parsed, cells_from_frame(parsed, rows(300), "gaussian"), options)
    table = bands(study.tables["group_estimates"])
    assert (table.headline == "population").all()
    assert (table.population_lower < table.population_estimate).all() and (table.population_estimate < table.population_upper).all()
    assert table.population_no_pooling_estimate.notna().all()
    assert "population_estimates" not in study.tables["diagnostics"]["check"].to_pylist()


@pytest.mark.parity
@pytest.mark.parametrize(("outcome", "family"), [("count", "poisson"), ("bought", "binomial")])
def test_posteriors_under_curved_links_agree_with_the_likelihood(outcome: str, family: str) -> None:
    frame = rows(3_000)
    parsed = parse_formula(f"{outcome} ~ sale + (1 | band/household) + (1 | category)")
    cells = cells_from_frame(parsed, frame, family)
    engines: tuple[Any, Any] = ("likelihood", "bayesian")
    studies = [fit_study(parsed, cells, fit_options("s", date(2026, 1, 31), "r", engine, sampled=("household",))) for engine in engines]
    ours, theirs = (bands(study.tables["group_estimates"]) for study in studies)
    # four bands: the posterior of their variance is wide, and pools less
    assert (np.abs(theirs.population_estimate - ours.population_estimate) < 1.5 * ours.population_std_error).all()
    assert (theirs.population_std_error > 0.7 * ours.population_std_error).all()
