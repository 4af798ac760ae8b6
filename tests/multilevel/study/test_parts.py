"""A study of two parts has what one of one part has: every check, the same averages of combinations never seen, the same ranks."""

import datetime
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.nesting import nesting
from multilevel.estimands import probabilities
from multilevel.estimands.fitted_part import expected_outcome
from multilevel.estimands.level_comparison import compare_levels
from multilevel.estimands.standardise import standardise
from multilevel.formula.parse import parse_formula
from multilevel.interpretation.warnings import effective_sizes
from multilevel.study.designs import study_parts, tree_of
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options
from tests.average_rows import gradients_of

FORMULA = "y ~ sale + size + (1 | region) + (1 | category)"
AS_OF = datetime.date(2026, 11, 1)
HURDLES = ["hurdle_lognormal", "hurdle_gamma"]
ALONE = {"hurdle_lognormal": ("log(y)", "gaussian"), "hurdle_gamma": ("y", "gamma")}


def shop(family: str, n: int = 2_000) -> pd.DataFrame:
    """Line items of 12 regions and 8 categories, four pairs of which never meet."""
    rng = np.random.default_rng(21)
    region, category, sale = rng.integers(0, 12, n), rng.integers(0, 8, n), rng.integers(0, 2, n)
    together = rng.normal(0, 1.2, (2, 12, 8))
    eta = [0.4 + 0.5 * sale + together[0][region, category], 1.0 + 0.2 * sale + together[1][region, category]]
    amount = np.exp(eta[1]) * (rng.lognormal(0, 0.5, n) if family == "hurdle_lognormal" else rng.gamma(2.5, 1 / 2.5, n))
    y = np.where(rng.random(n) < expit(eta[0]), amount, 0.0)
    frame = pd.DataFrame({"region": [f"r{i:02d}" for i in region], "category": [f"c{i}" for i in category], "sale": sale, "y": y})
    frame["size"] = np.round(np.sin(region * 7.0), 2)
    return frame[~((category == 7) & (region < 4))]


def study(frame: pd.DataFrame, family: str, formula: str = FORMULA, **options: object) -> StudyFit:
    parsed = parse_formula(formula)
    return fit_study(parsed, cells_from_frame(parsed, frame, family), fit_options("spend", AS_OF, "run", "likelihood", **options))


def diagnostics(fit: StudyFit) -> pd.DataFrame:
    return fit.tables["diagnostics"].to_pandas().set_index("check")


@pytest.fixture(scope="module", params=HURDLES)
def family(request) -> str:
    return request.param


@pytest.fixture
def found(family: str) -> pd.DataFrame:
    return whole(family)


@cache
def whole(family: str) -> pd.DataFrame:
    return diagnostics(study(shop(family), family))


@pytest.mark.parametrize("family", ["hurdle_lognormal", pytest.param("hurdle_gamma", marks=pytest.mark.parity)], scope="module")
def test_the_occurrence_has_the_checks_of_a_study_of_its_own(family: str, found: pd.DataFrame) -> None:
    frame = shop(family)
    assert_has_checks(found, "occurrence", diagnostics(study(frame.assign(y=frame.y > 0), "binomial")))


@pytest.mark.parametrize("family", ["hurdle_gamma", pytest.param("hurdle_lognormal", marks=pytest.mark.parity)], scope="module")
def test_the_amount_has_the_checks_of_a_study_of_its_own(family: str, found: pd.DataFrame) -> None:
    frame = shop(family)
    response, own_family = ALONE[family]
    # the second part has the second seed
    assert_has_checks(found, "amount", diagnostics(study(frame[frame.y > 0], own_family, FORMULA.replace("y", response, 1), seed=1)))


def assert_has_checks(found: pd.DataFrame, part: str, alone: pd.DataFrame) -> None:
    """Each row of the study ``alone`` is one of the part's, with its value, or one of the whole study in the same words."""
    for check, row in alone.iterrows():
        same = f"{check}[{part}]"
        if check == "lognormal_shape":
            # the same gap, in standard errors of what is published: of a two-part study that is the mean with its zeros
            assert found.value[same] < row.value
            assert found.message[same].split(",")[0] == f"{part}: {row.message.split(',')[0]}", same
        elif same in found.index:
            assert found.value[same] == pytest.approx(row.value, rel=1e-5, abs=1e-6, nan_ok=True), same
            assert found.passed[same] == row.passed, same
        else:
            assert check in found.index, same
            assert found.message[check] == row.message or row.message.startswith("does not apply"), same


def test_a_group_without_amounts_is_not_counted_among_those_that_tell_of_the_amounts() -> None:
    frame = shop("hurdle_gamma")
    frame.loc[frame.region == "r11", "y"] = 0.0
    formula = parse_formula(FORMULA)
    occurrence, amount = study_parts(formula, cells_from_frame(formula, frame, "hurdle_gamma"))
    tree = nesting(occurrence.design)
    assert [row.value for row in effective_sizes(occurrence.design, tree)] == [12]
    assert [row.value for row in effective_sizes(amount.design, tree_of(amount.design, tree))] == [11]


def test_criteria_of_the_outcome_are_those_of_both_likelihoods_together(family: str, found: pd.DataFrame) -> None:
    frame = shop(family)
    # the amounts of a lognormal hurdle are fitted by REML
    of_amounts = "log_likelihood_ml[amount]" if family == "hurdle_lognormal" else "log_likelihood[amount]"
    likelihood = found.value["log_likelihood[occurrence]"] + found.value[of_amounts]
    if family == "hurdle_lognormal":
        # the density of y, not of its logarithm
        likelihood -= np.log(frame.y[frame.y > 0]).sum()
    n_parameters = found.value["n_parameters[occurrence]"] + found.value["n_parameters[amount]"]
    assert found.value["n_parameters"] == n_parameters
    assert found.value["log_likelihood"] == pytest.approx(likelihood)
    assert found.value["aic"] == pytest.approx(2 * n_parameters - 2 * likelihood)
    assert found.value["bic"] == pytest.approx(np.log(len(frame)) * n_parameters - 2 * likelihood)
    parts = [found.value[f"converged[{part}]"] for part in ("occurrence", "amount") if f"converged[{part}]" in found.index]
    assert found.value["converged"] == max(parts)


@pytest.mark.parity
def test_combinations_never_seen_are_integrated_over_the_effects_of_both_parts() -> None:
    """Written out pair by pair: an unseen pair of region and category has an effect in either part that nobody knows."""
    frame = shop("hurdle_gamma")
    fit = study(frame, "hurdle_gamma", "y ~ sale + (1 | region) + (1 | category) + (1 | region:category)")
    tables = {name: table.to_pandas() for name, table in fit.tables.items()}
    beta = tables["population_coefficients"].query("pooling == 'partial'").set_index(["part", "term"]).estimate
    sd = tables["variance_components"].query("grouping_factor == 'region:category'").set_index("part").estimate
    assert (sd > 0.5).all()
    rows = tables["group_coefficients"].query("not is_new").itertuples()
    effects = {(row.part, row.level, row.parent_level if isinstance(row.parent_level, str) else None): row.deviation for row in rows}
    estimates = tables["group_estimates"].query("grouping_factor == 'region' and not is_new").set_index("level").estimate
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    weights = weights / weights.sum()

    def expected(region: str, category: str, sale: int) -> float:
        eta = {}
        for part in ("occurrence", "amount"):
            own = effects[part, region, None] + effects[part, category, None] + effects.get((part, category, region), 0.0)
            eta[part] = beta[part, "Intercept"] + beta[part, "sale"] * sale + own
        if ("amount", category, region) in effects:
            return float(expit(eta["occurrence"]) * np.exp(eta["amount"]))
        return float(weights @ expit(eta["occurrence"] + sd["occurrence"] * nodes) * np.exp(eta["amount"] + sd["amount"] ** 2 / 2))

    mix = frame.groupby(["category", "sale"]).size() / len(frame)
    for region in ("r00", "r03", "r08"):
        by_rows = sum(share * expected(region, category, sale) for (category, sale), share in mix.items())
        assert estimates[region] == pytest.approx(by_rows, rel=2e-3), region


@pytest.fixture(scope="module")
def crossed() -> StudyFit:
    return study(shop("hurdle_gamma"), "hurdle_gamma", "y ~ sale + (1 | region) + (1 | category)")


def test_how_much_an_average_moves_with_either_predictor_is_its_derivative_in_the_intercept(crossed: StudyFit) -> None:
    outcome = expected_outcome(crossed.parts)
    standard = standardise(outcome, nesting(outcome.design), "region", None)
    moved = outcome.sensitivities(standard.respond().estimate, standard.chunks)
    for own, gradients in zip(moved, gradients_of(standard), strict=True):
        # every row has an intercept of 1
        assert own == pytest.approx(gradients[:, [0]].toarray().ravel(), rel=1e-12)


def test_ranks_are_those_of_draws_of_both_parts_however_many_coefficients_there_are(
    crossed: StudyFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = expected_outcome(crossed.parts)
    standard = standardise(outcome, nesting(outcome.design), "category", None)
    summary = standard.respond()
    estimate = summary.estimate

    def ranks_of_levels() -> tuple[np.ndarray, np.ndarray]:
        return compare_levels(standard, summary, np.zeros(len(estimate)), lambda: summary.std_error, None, 3).ranks

    drawn = ranks_of_levels()
    first, second = (part.fit.joint.draws(4_000, seed) - part.fit.joint.mean for part, seed in zip(outcome.parts, (8, 9), strict=True))
    occurrence, amount = gradients_of(standard)
    values = estimate[:, None] + occurrence @ first.T + amount @ second.T
    ranks = 1 + (values[:, None, :] < values[None, :, :]).sum(axis=1)
    lower, upper = np.quantile(ranks, [0.025, 0.975], axis=1, method="closest_observation")
    assert np.abs(drawn[0] - lower).max() <= 1
    assert np.abs(drawn[1] - upper).max() <= 1
    # as for one part, few levels keep joint ranks where draws of all coefficients would be too many
    monkeypatch.setattr(probabilities, "_MOST_VALUES", 0)
    exact = ranks_of_levels()
    assert np.abs(exact[0] - lower).max() <= 1
    assert np.abs(exact[1] - upper).max() <= 1
