"""What is expected of a new member of a level: against the definition written out."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def rows(seed: int = 7, n: int = 3_000) -> pd.DataFrame:
    """120 households in 6 bands, of very different numbers of lines, that buy in 5 categories."""
    rng = np.random.default_rng(seed)
    band_of = rng.integers(0, 6, 120)
    household = rng.choice(120, n, p=rng.dirichlet(np.full(120, 0.7)))
    band, category = band_of[household], rng.integers(0, 5, n)
    persons = rng.integers(1, 6, 120)[household].astype(float)
    sale = rng.random(n) < 0.3
    eta = 0.3 * rng.normal(size=6)[band] + 0.6 * rng.normal(size=120)[household] + 0.4 * rng.normal(size=5)[category]
    eta += 0.1 * persons + 0.2 * sale
    frame = pd.DataFrame({"band": band, "household": household, "category": category, "persons": persons, "sale": sale})
    frame["spend"] = 1.0 + eta + rng.normal(size=n)
    frame["paid"] = np.exp(eta + 0.5 * rng.normal(size=n))
    frame["bought"] = rng.random(n) < expit(eta - 0.5)
    frame["count"] = rng.poisson(np.exp(eta / 2))
    frame["some"] = np.where(rng.random(n) < expit(1 + eta), frame.paid, 0.0)
    return frame


def fitted(formula: str, frame: pd.DataFrame, family: str = "gaussian", engine: Any = "likelihood", **options: Any) -> StudyFit:
    parsed = parse_formula(formula)
    options = {"sampled": ("household",), **options}
    return fit_study(parsed, cells_from_frame(parsed, frame, family), fit_options("s", date(2026, 1, 31), "r", engine, **options))


def levels(study: StudyFit, factor: str = "band") -> pd.DataFrame:
    table = study.tables["group_estimates"].to_pandas()
    return table[(table.grouping_factor == factor) & ~table.is_new].set_index("level")


def coefficients(study: StudyFit) -> tuple[pd.Series, pd.DataFrame, dict[str, float]]:
    """Population coefficients, deviations by factor and level, sds by factor."""
    beta = study.tables["population_coefficients"].to_pandas().query("pooling == 'partial'").set_index("term").estimate
    groups = study.tables["group_coefficients"].to_pandas().query("not is_new").set_index(["grouping_factor", "level"])
    components = study.tables["variance_components"].to_pandas()
    sds = components[(components.quantity == "sd") & (components.term == "Intercept")].set_index("grouping_factor").estimate.to_dict()
    return beta, groups, sds


FORMULA = "{y} ~ persons + sale + (1 | band/household) + (1 | category)"


def by_hand(study: StudyFit, frame: pd.DataFrame, expected) -> pd.Series:
    """Per band: over its households, each once, over all lines' sale and category, the expectation with the household integrated.

    ``expected(eta, sd)`` of predictors without the household's own effect.
    """
    beta, groups, sds = coefficients(study)
    common = beta["sale[true]"] * frame.sale + frame.category.astype(str).map(groups.deviation["category"])
    found = {}
    for band, own in frame.groupby("band"):
        persons = own.groupby("household").persons.first().to_numpy()
        known = beta["Intercept"] + groups.deviation["band", str(band)] + beta["persons"] * persons
        found[str(band)] = float(np.mean([expected(value + common.to_numpy(), sds["band:household"]).mean() for value in known]))
    return pd.Series(found)


def test_a_new_household_of_a_band_with_each_household_counted_once() -> None:
    frame = rows()
    study = fitted(FORMULA.format(y="spend"), frame)
    table = levels(study)
    np.testing.assert_allclose(table.population_estimate, by_hand(study, frame, lambda eta, sd: eta), rtol=1e-9)
    assert (table.headline == "population").all()
    assert table.n_sampled.tolist() == frame.groupby("band").household.nunique().tolist()
    # five households say less of their band than their many lines say of themselves
    assert (table.population_std_error > 1.5 * table.std_error).all()


def test_without_pooling_it_is_a_mean_of_households() -> None:
    frame = rows().assign(persons=0.0)
    frame["spend"] = frame.spend - frame.groupby("category").spend.transform("mean")
    study = fitted("spend ~ 1 + (1 | band/household)", frame)
    table, (_, _, sds) = levels(study), coefficients(study)
    assert study.fit is not None and study.fit.sigma is not None
    for band, own in frame.groupby("band"):
        lines = own.groupby("household").spend
        weight = 1.0 / (sds["band:household"] ** 2 + study.fit.sigma**2 / lines.count())
        row = table.loc[str(band)]
        assert row.population_no_pooling_estimate == pytest.approx(float((weight * lines.mean()).sum() / weight.sum()), abs=1e-8)
        assert row.population_no_pooling_std_error == pytest.approx(float(weight.sum() ** -0.5), rel=1e-6)


@pytest.mark.parametrize(
    ("outcome", "family", "expected", "tolerance"),
    [
        ("count", "poisson", lambda eta, sd: np.exp(eta + sd**2 / 2), 1e-9),
        ("bought", "binomial", lambda eta, sd: expit(eta[:, None] + sd * NODES) @ WEIGHTS, 2e-3),
    ],
)
def test_a_curved_link_integrates_the_household(outcome: str, family: str, expected, tolerance: float) -> None:
    frame = rows(n=1_000)
    study = fitted(FORMULA.format(y=outcome), frame, family)
    np.testing.assert_allclose(levels(study).population_estimate, by_hand(study, frame, expected), atol=tolerance)


def test_of_a_logarithm_the_household_is_an_average_one_in_its_sigma_too() -> None:
    table = levels(fitted(FORMULA.format(y="log(paid)"), rows()))
    assert (table.population_lower < table.population_estimate).all() and (table.population_estimate < table.population_upper).all()
    assert (table.population_std_error > table.std_error).all()


@pytest.mark.parity
def test_both_parts_of_a_hurdle_integrate_it() -> None:
    table = levels(fitted(FORMULA.format(y="some"), rows(n=1_000), "hurdle_lognormal"))
    assert table.population_estimate.notna().all() and table.population_no_pooling_estimate.notna().all()
    np.testing.assert_allclose(table.population_estimate, table.estimate, rtol=0.5)


def test_an_interaction_with_the_other_tree_is_integrated_for_every_pair() -> None:
    frame = rows(n=1_000)
    study = fitted("spend ~ sale + (1 | band/household) + (1 | category) + (1 | household:category)", frame)
    beta, groups, _ = coefficients(study)
    common = (beta["sale[true]"] * frame.sale + frame.category.astype(str).map(groups.deviation["category"])).mean()
    table = levels(study)
    np.testing.assert_allclose(table.population_estimate, beta["Intercept"] + groups.deviation["band"][table.index] + common, rtol=1e-9)
    # households cross categories: a category does not consist of them
    assert (levels(study, "category").headline == "members").all()
    assert levels(study, "category").population_estimate.isna().all()


@pytest.mark.parity
def test_members_speak_for_themselves_where_nothing_is_sampled() -> None:
    frame = rows()
    plain, told = (fitted(FORMULA.format(y="spend"), frame, sampled=names) for names in ((), ("household",)))
    shared = [
        name
        for name in levels(plain).columns
        if not name.startswith(("population", "rank", "probability")) and name not in ("headline", "n_sampled", "observed_std_error")
    ]
    pd.testing.assert_frame_equal(levels(plain)[shared], levels(told)[shared])
    assert (levels(plain).headline == "members").all() and levels(plain).n_sampled.isna().all()
    assert (levels(told, "band:household").headline == "members").all()
    # ranks are those of the headline: of normals with the published errors, nearly independent of each other
    table = levels(told)
    draws = table.population_estimate.to_numpy()[:, None] + table.population_std_error.to_numpy()[:, None] * np.random.default_rng(
        1
    ).normal(size=(len(table), 20_000))
    ranks = 1 + (-draws).argsort(axis=0).argsort(axis=0)
    lower, upper = np.quantile(ranks, [0.025, 0.975], axis=1)
    assert np.abs(table.rank_lower - lower).max() <= 1 and np.abs(table.rank_upper - upper).max() <= 1
    above = (draws > draws.mean(axis=0)).mean(axis=1)
    np.testing.assert_allclose(table.probability_above_average, above, atol=0.03)
    assert table.rank_in_parent_lower.isna().all()
    inner = levels(told, "band:household")
    siblings = inner.groupby("parent_level").estimate.rank(ascending=False)
    assert (inner.rank_in_parent_lower <= siblings).all() and (siblings <= inner.rank_in_parent_upper).all()
    assert (inner.rank_in_parent_upper <= inner.groupby("parent_level").estimate.transform("size")).all()


@pytest.mark.parity
def test_posteriors_of_linear_models_agree() -> None:
    frame = rows()
    ours, theirs = (levels(fitted(FORMULA.format(y="spend"), frame, engine=engine)) for engine in ("likelihood", "bayesian"))
    np.testing.assert_allclose(theirs.population_estimate, ours.population_estimate, atol=0.15)
    np.testing.assert_allclose(theirs.population_std_error, ours.population_std_error, rtol=0.6)


def test_a_sampled_column_that_the_formula_lacks_is_a_failed_check() -> None:
    study = fitted("spend ~ sale + (1 | band) + (1 | category)", rows())
    said = {row["check"]: row for row in study.tables["diagnostics"].to_pylist()}
    assert not said["sampled[household]"]["passed"]
    assert "Add (1 | band/household)" in said["sampled[household]"]["message"]
    assert (levels(study).headline == "members").all()


@pytest.mark.parametrize("interaction", ["household:category", "category:household"])
def test_an_interaction_is_no_factor_of_the_households_however_it_is_written(interaction: str) -> None:
    study = fitted(f"spend ~ sale + (1 | category) + (1 | {interaction})", rows(n=1_000))
    table = study.tables["group_estimates"].to_pandas()
    assert (table.headline == "members").all() and table.population_estimate.isna().all()
    said = {row["check"]: row for row in study.tables["diagnostics"].to_pylist()}
    assert said["sampled[household]"]["passed"]
    assert "no grouping factor has one level for each household" in said["sampled[household]"]["message"]


def test_only_members_of_the_level_are_integrated() -> None:
    """Stores are within regions, and a sample. Households are a sample too, but they cross regions: none is a member of one."""
    rng = np.random.default_rng(3)
    frame = rows(n=1_000)
    store = rng.integers(0, 40, len(frame))
    frame = frame.assign(store=store, region=store % 5)
    frame["spend"] = frame.spend + rng.normal(size=40)[store] + 0.5 * rng.normal(size=(120, 5))[frame.household, frame.region]
    formula = "spend ~ 1 + (1 | region/store) + (1 | household) + (1 | household:region)"
    study = fitted(formula, frame, sampled=("household", "store"))
    table = levels(study, "region")
    assert table.n_sampled.tolist() == [8] * 5
    beta, groups, _ = coefficients(study)
    effects = study.tables["group_coefficients"].to_pandas().query("grouping_factor == 'household:region' and not is_new")
    pair = effects.set_index(["parent_level", "level"]).deviation
    household = frame.household.astype(str)
    for region in table.index:
        seen = household.map(pair.xs(region, level="level")).fillna(0.0)
        expected = beta["Intercept"] + groups.deviation["region", region] + (household.map(groups.deviation["household"]) + seen).mean()
        assert table.population_estimate[region] == pytest.approx(expected, abs=1e-9)
