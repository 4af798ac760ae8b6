"""The headline beside that of the other levels: against draws of the joint distribution, for both engines, and what privacy hides of it."""

from __future__ import annotations

from datetime import date
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.estimands import level_comparison, probabilities
from multilevel.estimands.drawn_averages import level_draws
from multilevel.estimands.fitted_part import expected_outcome
from multilevel.estimands.population import population, units_of
from multilevel.estimands.standardise import standardise
from multilevel.formula.parse import parse_formula
from multilevel.redaction.redacted_tables import Protection, suppress
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options
from tests.average_rows import gradients_of

FEW = {"draws": 300, "chains": 2, "tune": 200}


def shop(n: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    household = rng.integers(0, 40, n)
    band, category = household % 5, rng.integers(0, 12, n)
    eta = np.array([0.9, -0.8, 0.3, -0.3, 0.0])[band] + 0.5 * rng.normal(size=40)[household] + 0.4 * rng.normal(size=12)[category]
    frame = pd.DataFrame({"band": band, "household": household, "category": [f"c{i:02d}" for i in category]})
    frame["department"] = [f"d{i % 3}" for i in category]
    frame["spend"] = eta + rng.normal(size=n)
    frame["count"] = rng.poisson(np.exp(eta / 2))
    frame["paid"] = np.exp(eta + 0.5 * rng.normal(size=n))
    frame["some"] = np.where(rng.random(n) < expit(1 + eta), frame.paid, 0.0)
    return frame


CASES = {
    "gaussian": ("spend ~ 1 + (1 | department/category) + (1 | band)", "gaussian", "likelihood", ()),
    "population": ("spend ~ 1 + (1 | department/category) + (1 | band/household)", "gaussian", "likelihood", ("household",)),
    "count": ("count ~ 1 + (1 | department/category) + (1 | band)", "poisson", "likelihood", ()),
    "two parts": ("some ~ 1 + (1 | department/category) + (1 | band)", "hurdle_gamma", "likelihood", ()),
    "logarithm": ("log(paid) ~ 1 + (1 | department/category) + (1 | band)", "gaussian", "likelihood", ()),
    "posterior": ("spend ~ 1 + (1 | department/category) + (1 | band)", "gaussian", "bayesian", ()),
}


@cache
def fitted(formula: str, family: str, engine: Any, sampled: tuple[str, ...] = ()) -> StudyFit:
    parsed = parse_formula(formula)
    options = {"sampling": FEW} if engine == "bayesian" else {}
    found = fit_options("s", date(2026, 1, 31), "r", engine, sampled=sampled, **options)
    return fit_study(parsed, cells_from_frame(parsed, shop(), family), found)


@pytest.fixture(scope="module", params=CASES)
def study(request: pytest.FixtureRequest) -> tuple[StudyFit, tuple[str, ...]]:
    formula, family, engine, sampled = CASES[request.param]
    return fitted(formula, family, engine, sampled), sampled


def levels(found: StudyFit, factor: str) -> pd.DataFrame:
    table = found.tables["group_estimates"].to_pandas()
    return table[(table.grouping_factor == factor) & ~table.is_new].reset_index(drop=True)


def joint_values(found: StudyFit, sampled: tuple[str, ...], factor: str) -> np.ndarray:
    """(L, draws) of the headline, in the order of the table: linear about the estimates, or the posterior's own."""
    outcome, tree = expected_outcome(found.parts), found.tree
    assert tree is not None
    variance = found.parts[-1].variance
    units = units_of(tree, factor, sampled)
    standard = (
        standardise(outcome, tree, factor, variance) if units is None else population(outcome, tree, factor, variance, sampled, units)
    )
    if outcome.has_draws:
        values = level_draws(standard, 600)
    else:
        estimate = standard.respond().estimate
        draws = [part.fit.joint.draws(20_000, seed) - part.fit.joint.mean for seed, part in enumerate(outcome.parts)]
        values = estimate[:, None] + sum(rows @ own.T for rows, own in zip(gradients_of(standard), draws, strict=True))
    names = pd.DataFrame({"level": tree.factors[factor].levels.astype(str)})
    if tree.factors[factor].parents is not None:
        names["parent_level"] = tree.factors[factor].parents.astype(str)
    order = names.sort_values([name for name in ("parent_level", "level") if name in names]).index.to_numpy()
    return values[order]


@pytest.mark.parametrize("factor", ["band", "department", "department:category"])
def test_the_probability_is_that_of_lying_above_the_mean_of_all_levels(study: tuple[StudyFit, tuple[str, ...]], factor: str) -> None:
    values, table = joint_values(*study, factor), levels(study[0], factor)
    share = (values > values.mean(axis=0)).mean(axis=1)
    # sigmas of `log(paid)` are known but for a few per cent, which moves no probability by more than that
    np.testing.assert_allclose(table.probability_above_average, share, atol=0.03)


def test_ranks_within_a_parent_are_those_of_its_own_levels(study: tuple[StudyFit, tuple[str, ...]]) -> None:
    values, table = joint_values(*study, "department:category"), levels(study[0], "department:category")
    for _, own in table.groupby("parent_level"):
        place = own.index.to_numpy()
        ranks = 1 + (values[place][None, :, :] > values[place][:, None, :]).sum(axis=1)
        lower, upper = np.quantile(ranks, [0.025, 0.975], axis=1, method="closest_observation")
        assert np.abs(own.rank_in_parent_lower - lower).max() <= 1 and np.abs(own.rank_in_parent_upper - upper).max() <= 1
        assert own.rank_in_parent.tolist() == own.estimate.rank(ascending=False).tolist()
        assert sorted(own.rank_in_parent) == [1.0, 2.0, 3.0, 4.0]
    for factor in ("band", "department"):
        columns = levels(study[0], factor)[["rank_in_parent", "rank_in_parent_lower", "rank_in_parent_upper"]]
        assert columns.isna().all(axis=None)


def test_new_levels_have_neither(study: tuple[StudyFit, tuple[str, ...]]) -> None:
    table = study[0].tables["group_estimates"].to_pandas()
    new = table[table.is_new]
    assert len(new) and new[["probability_above_average", "rank_in_parent"]].isna().all(axis=None)


def test_very_many_levels_are_compared_by_what_varies_given_what_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = levels(fitted(*CASES["gaussian"]), "department:category")
    fitted.cache_clear()
    monkeypatch.setattr(probabilities, "EXACT_LEVELS", 5)
    monkeypatch.setattr(level_comparison, "EXACT_LEVELS", 5)
    found = levels(fitted(*CASES["gaussian"]), "department:category")
    assert found.rank_in_parent.tolist() == exact.rank_in_parent.tolist()
    assert np.abs(found.rank_in_parent_lower - exact.rank_in_parent_lower).max() <= 1
    assert np.abs(found.rank_in_parent_upper - exact.rank_in_parent_upper).max() <= 1
    np.testing.assert_allclose(found.probability_above_average, exact.probability_above_average, atol=0.1)


def test_levels_that_are_all_alike_lie_above_their_mean_as_likely_as_not() -> None:
    """The variance between them is estimated as zero, and need not be."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat(np.arange(5), 40)})
    frame["y"] = np.tile(rng.normal(size=40), 5)
    parsed = parse_formula("y ~ 1 + (1 | g)")
    found = fit_study(parsed, cells_from_frame(parsed, frame, "gaussian"), fit_options("s", date(2026, 1, 31), "r", "likelihood"))
    assert levels(found, "g").probability_above_average.tolist() == [0.5] * 5


def test_suppressed_levels_are_not_given_away_by_the_ranks_and_the_mean_of_the_others() -> None:
    found = fitted(*CASES["gaussian"])
    keys = shop()[["department", "category"]].drop_duplicates().itertuples(index=False)
    counts = {tuple(key): (2 if tuple(key) in {("d0", "c00"), ("d0", "c03")} else 50) for key in keys}
    protection = Protection(
        "customer",
        10,
        {"department": ("department",), "department:category": ("department", "category"), "band": ("band",)},
        {
            "department": {("d0",): 100, ("d1",): 100, ("d2",): 100},
            "department:category": counts,
            "band": {(str(band),): 90 for band in range(5)},
        },
        {"department": 1, "department:category": 2, "band": 1},
    )
    table = suppress(found.tables, protection)["group_estimates"].to_pandas()
    seen = table[~table.is_new]
    inner = seen[seen.grouping_factor == "department:category"]
    assert {("d0", "c00"), ("d0", "c03")}.isdisjoint(zip(inner.parent_level, inner.level, strict=True))
    assert inner.probability_above_average.isna().all()
    assert inner[inner.parent_level == "d0"].rank_in_parent.isna().all()
    assert inner[inner.parent_level != "d0"].rank_in_parent.notna().all()
    assert seen[seen.grouping_factor == "band"].probability_above_average.notna().all()


def test_the_spread_about_a_centre_is_that_of_the_difference() -> None:
    from scipy.sparse import csr_array

    found = fitted(*CASES["population"])
    assert found.fit is not None
    joint = found.fit.joint
    rows = np.random.default_rng(2).normal(size=(7, len(joint.mean)))
    centre = rows.mean(axis=0, keepdims=True)
    ours = joint.spread_about(csr_array(rows), csr_array(centre))
    np.testing.assert_allclose(ours, joint.combine(csr_array(rows - centre), 0.95).std_error, rtol=1e-9)
    drawn = fitted(*CASES["posterior"])
    assert drawn.fit is not None
    rows = rows[:, : len(drawn.fit.joint.mean)]
    centre = rows.mean(axis=0, keepdims=True)
    ours = drawn.fit.joint.spread_about(csr_array(rows), csr_array(centre))
    np.testing.assert_allclose(ours, drawn.fit.joint.combine(csr_array(rows - centre), 0.95).std_error, rtol=1e-9)
