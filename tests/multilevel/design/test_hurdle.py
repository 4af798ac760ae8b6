"""A two-part outcome: the likelihood from cells, both parts against fits of their own, the expected value of both, and what is refused."""

import datetime
import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, gammaln

from multilevel.catalogue.published_tables import TABLES, check_table
from multilevel.cells.from_rows import cells_from_frame
from multilevel.cells.merge import merge_cells
from multilevel.design.reduction import reduce_design
from multilevel.errors import DataError, FitError, FormulaError, StudyError
from multilevel.estimands.new_levels import NewLevel
from multilevel.formula.parse import parse_formula
from multilevel.study.designs import study_parts
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

HURDLES = ["hurdle_lognormal", "hurdle_gamma"]
ONE_PART = {"hurdle_lognormal": ("log(amount)", "gaussian"), "hurdle_gamma": ("amount", "gamma")}
FORMULA = "amount ~ sale + (1 | region) + (1 | category)"
AS_OF = datetime.date(2026, 11, 1)
SIGMA, SHAPE = 0.6, 2.5


def shop(family: str, n: int = 6_000, seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    region, category, sale = rng.integers(0, 10, n), rng.integers(0, 15, n), rng.integers(0, 2, n)
    draw = np.random.default_rng(11)
    in_region, in_category = draw.normal(0, 0.6, (2, 10)), draw.normal(0, 0.4, (2, 15))
    p = expit(0.3 + 0.6 * sale + in_region[0][region] + in_category[0][category])
    eta = 1.0 + 0.3 * sale + in_region[1][region] + in_category[1][category]
    amount = np.exp(eta) * (rng.lognormal(0, SIGMA, n) if family == "hurdle_lognormal" else rng.gamma(SHAPE, 1 / SHAPE, n))
    frame = pd.DataFrame({"region": region, "category": category, "sale": sale, "amount": np.where(rng.random(n) < p, amount, 0.0)})
    expected = p * np.exp(eta + (SIGMA**2 / 2 if family == "hurdle_lognormal" else 0.0))
    return frame.assign(region="r" + frame.region.astype(str), category=100 + frame.category, expected=expected, p=p)


def study(frame: pd.DataFrame, family: str, engine: str = "likelihood", formula: str = FORMULA, **options: object) -> StudyFit:
    parsed = parse_formula(formula)
    return fit_study(parsed, cells_from_frame(parsed, frame, family), fit_options("spend", AS_OF, "run", engine, **options))


def table(fit: StudyFit, name: str) -> pd.DataFrame:
    return pd.DataFrame(fit.tables[name].to_pylist())


@pytest.fixture(scope="module", params=HURDLES)
def family(request) -> str:
    return request.param


@pytest.fixture
def fitted(family: str) -> StudyFit:
    return whole(family)


@cache
def whole(family: str) -> StudyFit:
    return study(shop(family), family, cells_pair=("region", "category"), predict_for=(NewLevel("region", "ATLANTIS"),))


@pytest.mark.parametrize("family", HURDLES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(12, 80))
def test_the_likelihood_of_rows_and_of_both_parts_cells_differ_by_a_constant(family: str, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": rng.integers(0, 4, n), "x": rng.integers(0, 2, n), "y": rng.gamma(1.0, 3.0, n) * (rng.random(n) < 0.6)})
    # both values of x with and without amounts, a group with both, and more amounts than groups
    frame.loc[:7, ["x", "y"]] = [[0, 0.0], [1, 0.0], [0, 1.0], [1, 2.0], [0, 0.3], [1, 4.0], [0, 5.0], [1, 0.1]]
    frame.loc[[0, 2], "g"] = 0
    formula = parse_formula("y ~ x + (1 | g)")
    occurrence, amount = (part.design for part in study_parts(formula, cells_from_frame(formula, frame, family)))
    first, second = reduce_design(occurrence), reduce_design(amount)
    y, g, x = frame.y.to_numpy(), frame.g.to_numpy(), frame.x.to_numpy()
    levels = occurrence.blocks[0].factor.levels.astype(int)
    differences, sizes = [], []
    for _ in range(4):
        beta, effects, scale = rng.normal(0, 0.5, (2, 2)), rng.normal(0, 0.5, (2, 4)), rng.uniform(0.5, 2)
        eta = [beta[k, 0] + beta[k, 1] * x + effects[k, g] for k in (0, 1)]
        positive = y > 0
        if family == "hurdle_lognormal":
            amounts = stats.lognorm.logpdf(y[positive], scale, scale=np.exp(eta[1][positive]))
        else:
            amounts = stats.gamma.logpdf(y[positive], scale, scale=np.exp(eta[1][positive]) / scale)
        by_rows = np.sum(np.where(positive, np.log(expit(eta[0])), np.log(expit(-eta[0])))) + amounts.sum()
        a, b = (rows.X @ beta[k] + effects[k, levels][rows.blocks[0].codes] for k, rows in enumerate((first, second)))
        if family == "hurdle_gamma":
            # a cell's rows have one mean: their total is gamma with shape n a
            of_total = stats.gamma.logpdf(second.outcome, second.n * scale, scale=np.exp(b) / scale)
            left = (scale - 1) * amount.cells.once["sum_log_outcome"] - second.n_rows * gammaln(scale)
            left -= np.sum((second.n * scale - 1) * np.log(second.outcome) - gammaln(second.n * scale))
            by_cells = np.sum(of_total) + left
        else:
            # reduced rows are scaled by the square root of their rows already
            spare = second.n_rows - len(second.outcome)
            b = second.X @ beta[1] + second.blocks[0].values[:, 0] * effects[1, levels][second.blocks[0].codes]
            by_cells = np.sum(stats.norm.logpdf(second.outcome, b, scale)) - spare * np.log(scale) - second.residual_ss / (2 * scale**2)
        by_cells += np.sum(stats.binom.logpmf(first.outcome, first.size, expit(a)))
        differences.append(by_rows - by_cells)
        sizes.append(abs(by_rows))
    assert np.ptp(differences) <= 1e-10 * max(sizes)


@pytest.mark.parametrize("family", ["hurdle_gamma", pytest.param("hurdle_lognormal", marks=pytest.mark.parity)], scope="module")
def test_each_part_is_what_a_fit_of_its_own_gives(family: str, fitted: StudyFit) -> None:
    frame = shop(family)
    response, own_family = ONE_PART[family]
    occurrence = study(frame.assign(amount=frame.amount > 0), "binomial")
    amount = study(frame[frame.amount > 0], own_family, formula=FORMULA.replace("amount", response, 1))
    for part, alone in (("occurrence", occurrence), ("amount", amount)):
        for name in ("population_coefficients", "variance_components", "group_coefficients"):
            both, one = fitted.tables[name].to_pandas(), alone.tables[name].to_pandas()
            both = both[both.part == part].drop(columns="part").reset_index(drop=True)
            if name == "group_coefficients":
                # the hurdle study has ATLANTIS besides
                both = both[both.level != "ATLANTIS"].reset_index(drop=True)
            pd.testing.assert_frame_equal(both, one.drop(columns="part"), check_dtype=False, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("family", ["hurdle_gamma"], scope="module")
def test_the_expected_value_is_the_product_averaged_row_by_row_and_not_the_product_of_averages(fitted: StudyFit) -> None:
    frame, fit = shop("hurdle_gamma"), fitted
    population = table(fit, "population_coefficients").query("pooling == 'partial'").set_index(["part", "term"]).estimate
    deviations = (
        table(fit, "group_coefficients").dropna(subset="level").set_index(["part", "grouping_factor", "level"]).deviation.sort_index()
    )

    def predictor(part: str, region: str) -> np.ndarray:
        of_category = deviations[part, "category"][frame.category.astype(str)].to_numpy()
        return population[part, "Intercept"] + population[part, "sale"] * frame.sale + deviations[part, "region", region] + of_category

    estimates = table(fit, "group_estimates").query("grouping_factor == 'region'").dropna(subset="level").set_index("level").estimate
    estimates = estimates.drop("ATLANTIS")
    by_rows = {r: np.mean(expit(predictor("occurrence", r)) * np.exp(predictor("amount", r))) for r in estimates.index}
    apart = {r: np.mean(expit(predictor("occurrence", r))) * np.mean(np.exp(predictor("amount", r))) for r in estimates.index}
    assert np.allclose(estimates, pd.Series(by_rows), rtol=2e-4)
    assert not np.allclose(pd.Series(apart), pd.Series(by_rows), rtol=5e-3)


def test_every_table_satisfies_its_description_and_the_report_is_json(fitted: StudyFit) -> None:
    assert set(fitted.tables) == set(TABLES)
    assert {name: check_table(name, fitted.tables[name]) for name in TABLES} == {name: [] for name in TABLES}
    report = json.loads(json.dumps(fitted.report, allow_nan=False))
    assert "two parts" in report["words"][0]
    assert any("1{y[i] > 0}" in line for line in report["mathematics"]["plain"])


def test_the_new_level_is_wider_and_the_extremes_stand_beside(fitted: StudyFit, family: str) -> None:
    groups = table(fitted, "group_estimates").query("grouping_factor == 'region'").set_index("level")
    seen, new = groups[~groups.is_new], groups.loc["ATLANTIS"]
    assert new.upper / new.lower > 2 * (seen.upper / seen.lower).max()
    assert np.ptp(seen.complete_pooling_estimate) < 1e-9
    observed = shop(family).groupby("region").amount.mean()
    assert np.allclose(seen.no_pooling_estimate, observed, rtol=0.1)
    assert np.all(np.abs(seen.estimate - seen.no_pooling_estimate) < 3 * seen.no_pooling_std_error)


def test_regions_and_cells_cover_the_truth(fitted: StudyFit, family: str) -> None:
    frame = shop(family)
    truth = shop(family, n=400_000, seed=5)
    cells = table(fitted, "cell_estimates").set_index(["customer_group", "product_group"])
    of_cell = truth.groupby(["region", truth.category.astype(str)]).expected.mean()
    inside = (cells.lower < of_cell) & (of_cell < cells.upper)
    assert len(inside) == 150
    assert 0.85 <= inside.mean() <= 1.0
    assert frame.amount.eq(0).mean() > 0.3


@pytest.mark.parametrize("family", ["hurdle_lognormal", pytest.param("hurdle_gamma", marks=pytest.mark.parity)], scope="module")
def test_a_region_where_nothing_was_spent_has_an_amount_from_its_distribution(family: str) -> None:
    frame = shop(family)
    frame.loc[frame.region == "r3", "amount"] = 0.0
    fit = study(frame, family)
    coefficients = table(fit, "group_coefficients").query("grouping_factor == 'region' and level == 'r3'").set_index("part")
    tau = table(fit, "variance_components").query("grouping_factor == 'region' and part == 'amount'").estimate.item()
    assert coefficients.n["amount"] == 0
    assert coefficients.n["occurrence"] > 0
    assert coefficients.deviation["amount"] == pytest.approx(0.0, abs=1e-9)
    assert coefficients.deviation_std_error["amount"] == pytest.approx(tau, rel=1e-6)
    estimate = table(fit, "group_estimates").query("level == 'r3'").iloc[0]
    assert 0 < estimate.estimate < 0.2
    assert np.isnan(estimate.no_pooling_estimate)


def test_merged_partitions_are_the_cells_of_all_rows(family: str) -> None:
    frame, formula = shop(family, n=800), parse_formula(FORMULA)
    # the first half holds few amounts, so that some cells have none there
    frame.loc[:350, "amount"] = 0.0
    whole = cells_from_frame(formula, frame, family)
    parts = [cells_from_frame(formula, part, family) for part in (frame[:400], frame[400:])]
    merged = merge_cells(parts)
    for name in ("n", "weight", "total"):
        assert getattr(merged, name).sum() == pytest.approx(getattr(whole, name).sum())
    spread = [float(np.sum(c.cross) + np.sum(c.weight[:, None] * c.mean**2)) for c in (whole, merged)]
    assert spread[0] == pytest.approx(spread[1], rel=1e-12)
    assert np.all(np.isfinite(merged.mean))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda y: y - 0.5, "below zero in .* line items"),
        (lambda y: y + 1.0, "above zero in all 6,000 line items, so there is no hurdle"),
        (lambda y: y * 0.0, "zero in all 6,000 line items"),
    ],
)
def test_outcomes_that_are_no_hurdle_are_told_apart(family: str, change, says: str) -> None:
    frame = shop(family)
    with pytest.raises(DataError, match=says) as refused:
        study(frame.assign(amount=change(frame.amount)), family)
    assert "amount" in str(refused.value)


def test_without_zeros_the_message_says_what_to_write() -> None:
    frame = shop("hurdle_lognormal")
    with pytest.raises(DataError, match=r"write log\(amount\) ~ ... with family: gaussian"):
        study(frame[frame.amount > 0], "hurdle_lognormal")


def test_a_predictor_without_variation_among_the_amounts_is_named(family: str) -> None:
    frame = shop(family)
    zero = frame.index[frame.amount == 0]
    extra = np.zeros(len(frame))
    extra[zero] = np.resize([-1.0, 0.0, 1.0], len(zero))
    with pytest.raises(FitError, match="Among the line items with an outcome above zero, extra"):
        study(frame.assign(extra=extra), family, formula="amount ~ sale + extra + (1 | region)")


def test_offsets_and_log_outcomes_and_priors_of_one_model_are_refused(family: str) -> None:
    frame = shop(family, n=200)
    with pytest.raises(FormulaError, match="offset"):
        study(frame, family, formula="amount ~ offset(sale) + (1 | region)")
    with pytest.raises(FormulaError, match="log"):
        study(frame, family, formula="log(amount) ~ sale + (1 | region)")
    with pytest.raises(StudyError, match="occurrence"):
        study(frame, family, engine="bayesian", priors={"sigma": "exponential(1)"})


@pytest.mark.parity
@pytest.mark.parametrize("family", HURDLES)
def test_the_posterior_agrees_with_the_likelihood_engine(family: str) -> None:
    frame = shop(family)
    kept = {"cells_pair": ("region", "category"), "predict_for": (NewLevel("region", "ATLANTIS"),)}
    posterior, likelihood = study(frame, family, "bayesian", **kept), study(frame, family, **kept)
    assert posterior.failed_gates == ()
    assert {name: check_table(name, posterior.tables[name]) for name in TABLES} == {name: [] for name in TABLES}
    for name in ("group_estimates", "cell_estimates"):
        a, b = table(posterior, name), table(likelihood, name)
        seen = ~a.is_new
        assert np.all(np.abs(a.estimate - b.estimate)[seen] < 0.3 * b.std_error[seen])
        assert np.all(np.abs(np.log(a.std_error / b.std_error))[seen] < 0.3)


@pytest.mark.parity
def test_a_combination_never_seen_integrates_the_interactions_of_both_parts() -> None:
    frame = shop("hurdle_gamma", n=6_000)
    frame = frame[~((frame.region == "r2") & (frame.category == 104))]
    formula = "amount ~ 1 + (1 | region) + (1 | category) + (1 | region:category)"
    fit = study(frame, "hurdle_gamma", formula=formula, cells_pair=("region", "category"))
    cells = table(fit, "cell_estimates").set_index(["customer_group", "product_group"])
    [unseen] = cells.index[cells.is_new]
    assert unseen == ("r2", "104")
    population = table(fit, "population_coefficients").query("pooling == 'partial'").set_index("part").estimate
    deviations = table(fit, "group_coefficients").dropna(subset="level").set_index(["part", "grouping_factor", "level"]).deviation
    tau = table(fit, "variance_components").set_index(["part", "grouping_factor"]).estimate
    deviations = deviations.sort_index()
    eta = {
        part: population[part] + deviations[part, "region", "r2"] + deviations[part, "category", "104"] for part in ("occurrence", "amount")
    }
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    p = weights @ expit(eta["occurrence"] + tau["occurrence", "region:category"] * nodes) / weights.sum()
    expected = p * np.exp(eta["amount"] + tau["amount", "region:category"] ** 2 / 2)
    assert cells.estimate[unseen] == pytest.approx(expected, rel=1e-4)
    width = np.log(cells.upper / cells.lower)
    assert width[unseen] > width[~cells.is_new].median()


@pytest.mark.parity
def test_the_posterior_of_both_parts_fills_the_same_tables() -> None:
    frame = shop("hurdle_lognormal")
    # few draws: what is under test is the tables, not the sampler's gates
    kept = {"sampling": {"draws": 200, "chains": 2}, "cells_pair": ("region", "category"), "predict_for": (NewLevel("region", "ATLANTIS"),)}
    posterior = study(frame, "hurdle_lognormal", "bayesian", priors={"amount": {"sigma": "exponential(2)"}}, **kept)
    assert {name: check_table(name, posterior.tables[name]) for name in TABLES} == {name: [] for name in TABLES}
    sampled, fitted = table(posterior, "group_estimates"), table(study(frame, "hurdle_lognormal", **kept), "group_estimates")
    regions = (sampled.grouping_factor == "region") & ~sampled.is_new
    assert np.all(np.abs(sampled.estimate - fitted.estimate)[regions] < 0.5 * fitted.std_error[regions])
    checks = table(posterior, "diagnostics").set_index("check").value
    assert checks["max_r_hat"] == max(checks["max_r_hat[occurrence]"], checks["max_r_hat[amount]"])
    assert any(line["parameter"] == "amount: sigma" and "exponential(2)" in line["prior"] for line in posterior.report["priors"])
