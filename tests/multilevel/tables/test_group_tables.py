"""Group tables against brute-force formulas over rows, on a hand-made fit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

from multilevel.catalogue.published_tables import check_table
from multilevel.catalogue.table_assembly import Heading
from multilevel.design.nesting import nesting
from multilevel.estimands.level_variance import LevelVariance, level_variance
from multilevel.estimands.new_levels import NewLevel
from multilevel.estimands.one_response import OneResponse
from multilevel.estimands.probabilities import ranks_of_draws
from multilevel.fit.residuals import expected_residual_ss
from multilevel.tables.cell_estimates import cell_estimates
from multilevel.tables.group_coefficients import group_coefficients
from multilevel.tables.group_estimates import group_estimates

LINKS = {"gaussian": lambda x: x, "binomial": expit, "poisson": np.exp}


def published(table) -> pd.DataFrame:
    return pd.DataFrame(table.to_pylist())


def beta(example) -> dict[str, float]:
    return dict(zip([c.label for c in example.fit.design.population], example.fit.joint.mean, strict=False))


def brute_category(example, category: str, link) -> float:
    """Own predictors and effects; regions and sale as everyone's."""
    mix = example.rows.groupby(["region", "sale"]).size()
    values = np.array([link(example.eta(category, region, sale)) for region, sale in mix.index])
    return float(np.average(values, weights=mix.to_numpy()))


def brute_department(example, department: str, link) -> float:
    own = example.rows[example.rows.department == department].category.value_counts()
    return float(np.average([brute_category(example, category, link) for category in own.index], weights=own.to_numpy()))


def brute_region(example, region: str, link) -> float:
    mix = example.rows.groupby(["category", "sale"]).size()
    values = np.array([link(example.eta(category, region, sale)) for category, sale in mix.index])
    return float(np.average(values, weights=mix.to_numpy()))


def test_nesting_is_read_off_the_cells(gaussian) -> None:
    tree = nesting(gaussian.fit.design)
    assert list(tree.ancestors["department:category"]) == ["department"]
    assert not tree.ancestors["region"]
    assert tree.own_tree("department") == {"department", "department:category"}
    assert tree.own_tree("region") == {"region"}


def test_a_category_coefficient_is_population_plus_department_plus_own_and_the_fitted_value_adds_its_predictors(gaussian, heading) -> None:
    table = published(group_coefficients(gaussian.fit, nesting(gaussian.fit.design), heading))
    assert check_table("group_coefficients", group_coefficients(gaussian.fit, nesting(gaussian.fit.design), heading)) == []
    fit, b = gaussian.fit, beta(gaussian)
    p, starts = 4, fit.design.starts
    factor = fit.design.blocks[2].factor
    for i, (level, parent) in enumerate(zip(factor.levels, factor.parents, strict=True)):
        row = table[(table.grouping_factor == "department:category") & (table.level == level)].set_index("term")
        d = list(fit.design.blocks[1].factor.levels).index(parent)
        u = gaussian.rows.loc[gaussian.rows.category == level, "u"].iloc[0]
        own = fit.joint.mean[p + starts[2] + 2 * i : p + starts[2] + 2 * i + 2]
        intercept = b["Intercept"] + fit.joint.mean[p + starts[1] + d] + own[0]
        assert row.estimate["Intercept"] == pytest.approx(intercept)
        assert row.fitted_value["Intercept"] == pytest.approx(intercept + b["u"] * u)
        assert row.estimate["sale"] == pytest.approx(b["sale"] + own[1])
        assert row.fitted_value["sale"] == pytest.approx(b["sale"] + own[1] + b["sale:u"] * u)
        assert row.deviation.to_numpy() == pytest.approx(own)
        assert row.parent_level.to_list() == [parent, parent]
        assert row.n["sale"] == (gaussian.rows.category == level).sum()


def test_the_standard_error_of_a_coefficient_is_joint_and_that_of_its_deviation_its_own(gaussian, heading) -> None:
    table = published(group_coefficients(gaussian.fit, nesting(gaussian.fit.design), heading))
    covariance = gaussian.fit.joint.covariance
    pick = np.zeros(len(covariance))
    pick[[0, 4]] = 1.0
    row = table[(table.grouping_factor == "region") & (table.level == "north")].iloc[0]
    assert row.std_error == pytest.approx(np.sqrt(pick @ covariance @ pick))
    assert row.deviation_std_error == pytest.approx(np.sqrt(covariance[4, 4]))
    assert row.conditional_sd == pytest.approx(0.1)


def test_probability_above_average_is_that_of_the_difference_from_the_mean_of_levels(gaussian, heading) -> None:
    table = published(group_coefficients(gaussian.fit, nesting(gaussian.fit.design), heading))
    draws = gaussian.fit.joint.draws(200_000, 1)[:, 4:7]
    wanted = (draws > draws.mean(axis=1, keepdims=True)).mean(axis=0)
    seen = table[(table.grouping_factor == "region") & ~table.is_new].sort_values("level")
    assert seen.probability_above_average.to_numpy() == pytest.approx(wanted, abs=0.01)


def test_a_new_category_has_one_row_per_department_with_the_wider_interval(gaussian, heading) -> None:
    table = published(group_coefficients(gaussian.fit, nesting(gaussian.fit.design), heading))
    new = table[(table.grouping_factor == "department:category") & table.is_new & (table.term == "Intercept")]
    assert sorted(new.parent_level) == ["food", "fun", "home"]
    assert new.level.isna().all()
    department = table[(table.grouping_factor == "department") & (table.level == "food")].iloc[0]
    row = new[new.parent_level == "food"].iloc[0]
    assert row.estimate == pytest.approx(department.estimate)
    assert row.std_error == pytest.approx(np.hypot(department.std_error, np.sqrt(0.3)))
    assert np.isnan(row.fitted_value)
    assert np.isnan(row.conditional_sd)
    assert row.n == 0


def test_a_named_new_level_gets_its_own_row_and_an_unknown_parent_is_refused(gaussian, heading) -> None:
    tree = nesting(gaussian.fit.design)
    named = [NewLevel("department:category", "cheese", "food"), NewLevel("department:category", "bread", "food")]
    table = published(group_coefficients(gaussian.fit, tree, heading, named))
    assert set(table[table.is_new & table.level.notna()].level) == {"cheese"}
    with pytest.raises(Exception, match="needs a parent_level that was seen"):
        group_coefficients(gaussian.fit, tree, heading, [NewLevel("department:category", "cheese", "garden")])


@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson"])
def test_group_estimates_average_the_response_over_the_common_mix(family: str, request, heading) -> None:
    example, link = request.getfixturevalue(family), LINKS[family]
    raw = group_estimates(OneResponse.of_fit(example.fit), nesting(example.fit.design), heading)
    assert check_table("group_estimates", raw) == []
    table = published(raw)
    tolerance = 1e-12 if family == "gaussian" else 3e-3
    for brute, name in ((brute_region, "region"), (brute_department, "department"), (brute_category, "department:category")):
        seen = table[(table.grouping_factor == name) & ~table.is_new]
        wanted = [brute(example, level, link) for level in seen.level]
        assert seen.estimate.to_numpy() == pytest.approx(wanted, rel=tolerance), name


@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson"])
def test_complete_pooling_uses_the_same_mix_and_the_level_s_own_predictors(family: str, request, heading) -> None:
    example, link = request.getfixturevalue(family), LINKS[family]
    design = replace(example.fit.design, blocks=())
    coefficients = np.array([0.3, -0.4, 0.6, 0.2])
    fit = replace(example.fit, design=design, joint=replace(example.fit.joint, mean=coefficients, covariance=np.eye(4) * 0.01))
    table = published(group_estimates(OneResponse.of_fit(example.fit), nesting(example.fit.design), heading, complete=[fit]))
    seen = table[(table.grouping_factor == "department") & ~table.is_new].set_index("level")
    for level, u in example.rows.groupby("department").u.first().items():
        eta = coefficients[0] + coefficients[2] * u + (coefficients[1] + coefficients[3] * u) * example.rows.sale
        assert seen.complete_pooling_estimate[level] == pytest.approx(link(eta).mean(), rel=1e-9)
    region = table[(table.grouping_factor == "region") & ~table.is_new]
    assert np.ptp(region.complete_pooling_estimate) < 1e-12


def test_a_new_category_on_a_log_link_adds_half_of_its_variance_and_its_quantiles_are_those_of_its_mean(poisson, heading) -> None:
    table = published(group_estimates(OneResponse.of_fit(poisson.fit), nesting(poisson.fit.design), heading))
    row = table[(table.grouping_factor == "department:category") & table.is_new & (table.parent_level == "fun")].iloc[0]
    mean, fit = poisson.fit.joint.mean, poisson.fit
    sigma = fit.covariances[2]
    mix = poisson.rows.groupby(["region", "sale"]).size()
    regions = list(fit.design.blocks[0].factor.levels)
    d = list(fit.design.blocks[1].factor.levels).index("fun")
    b, u = beta(poisson), 1.1
    wanted, simulated = 0.0, np.zeros(100_000)
    rng = np.random.default_rng(5)
    effects = rng.multivariate_normal(np.zeros(2), sigma, 100_000)
    for (region, sale), weight in (mix / mix.sum()).items():
        z = np.array([1.0, sale])
        eta = b["Intercept"] + b["u"] * u + (b["sale"] + b["sale:u"] * u) * sale
        eta += mean[4 + regions.index(region)] + mean[4 + fit.design.starts[1] + d]
        wanted += weight * np.exp(eta + z @ sigma @ z / 2)
        simulated += weight * np.exp(eta + effects @ z)
    assert row.estimate == pytest.approx(wanted, rel=5e-3)
    # the joint distribution of the coefficients widens the interval a little further
    assert row.lower < np.quantile(simulated, 0.03)
    assert row.upper > np.quantile(simulated, 0.96)


def test_ranks_agree_with_brute_force_over_draws(gaussian, heading) -> None:
    table = published(group_estimates(OneResponse.of_fit(gaussian.fit), nesting(gaussian.fit.design), heading))
    seen = table[(table.grouping_factor == "region") & ~table.is_new].sort_values("level")
    draws = gaussian.fit.joint.draws(1_000, 0)[:, 4:7]
    ranks = 1 + (draws[:, :, None] < draws[:, None, :]).sum(axis=2)
    lower, upper = np.quantile(ranks, [0.025, 0.975], axis=0, method="closest_observation")
    assert seen.rank_lower.to_list() == lower.tolist()
    assert seen.rank_upper.to_list() == upper.tolist()


def test_levels_that_cannot_be_told_apart_share_all_ranks(gaussian, heading) -> None:
    joint = gaussian.fit.joint
    same = replace(joint, mean=np.where(np.arange(len(joint.mean)) < 4, joint.mean, 0.0), covariance=joint.covariance * 0.0)
    table = published(group_estimates(OneResponse.of_fit(replace(gaussian.fit, joint=same)), nesting(gaussian.fit.design), heading))
    seen = table[(table.grouping_factor == "region") & ~table.is_new]
    assert (seen.rank_lower == 1).all()
    assert (seen.rank_upper == 3).all()


@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson"])
def test_cell_estimates_hold_every_combination_with_its_department(family: str, request, heading) -> None:
    example, link = request.getfixturevalue(family), LINKS[family]
    raw = cell_estimates(OneResponse.of_fit(example.fit), nesting(example.fit.design), heading, ("region", "category"))
    assert check_table("cell_estimates", raw) == []
    table = published(raw)
    assert len(table) == 3 * 6
    sale = example.rows.sale.mean()
    for row in table.itertuples():
        wanted = sum(w * link(example.eta(row.product_group, row.customer_group, s)) for s, w in ((1.0, sale), (0.0, 1 - sale)))
        assert row.estimate == pytest.approx(wanted, rel=1e-10)
        count = ((example.rows.region == row.customer_group) & (example.rows.category == row.product_group)).sum()
        assert (row.n, row.is_new) == (count, count == 0)
    assert table.is_new.sum() == 2


def test_natural_scale_means_of_a_log_outcome_use_the_variance_of_their_level(lognormal, heading) -> None:
    tree = nesting(lognormal.fit.design)
    effects = {"region": np.zeros(3), "department": np.zeros(3), "department:category": np.linspace(-0.5, 0.5, 6)}
    errors = {name: np.zeros(len(value)) for name, value in effects.items()}
    variance = LevelVariance(-0.2, effects, errors, dict.fromkeys(effects, 0.1))
    table = published(group_estimates(OneResponse.of_fit(lognormal.fit), tree, heading, variance=variance))
    seen = table[(table.grouping_factor == "department:category") & ~table.is_new].set_index("level")
    for level, effect in zip(lognormal.fit.design.blocks[2].factor.levels, effects["department:category"], strict=True):
        sigma2 = np.exp(-0.2 + effect)
        assert seen.estimate[level] == pytest.approx(brute_category(lognormal, level, np.exp) * np.exp(sigma2 / 2), rel=3e-3)


def test_log_variances_are_found_and_pooled(lognormal) -> None:
    """With a coefficient vector that fits, a level with few rows is pulled to the common variance, one with many keeps its own."""
    fit = lognormal.fit
    factors = dict(nesting(fit.design).factors)
    found = level_variance(fit.design.cells.n, expected_residual_ss(fit.design, fit.joint), factors)
    assert np.isfinite(found.constant)
    assert all(np.all(np.abs(effects) < 2) for effects in found.effects.values())
    assert all(np.all(error > 0) for error in found.std_errors.values())


def test_a_heading_stands_in_every_row(gaussian, heading: Heading) -> None:
    table = published(cell_estimates(OneResponse.of_fit(gaussian.fit), nesting(gaussian.fit.design), heading, ("region", "category")))
    assert set(table.study) == {"example"}
    assert set(table.pooling) == {"partial"}
    assert norm.ppf(0.975) == pytest.approx(((table.upper - table.estimate) / table.std_error).iloc[0])


@pytest.mark.parametrize(("shift", "unit"), [(1e10, 1.0), (0.0, 1e-12), (-3e8, 1e3)])
def test_ranks_do_not_depend_on_a_common_shift_or_on_the_unit(shift: float, unit: float) -> None:
    rng = np.random.default_rng(1)
    estimates, noise = rng.normal(size=12), 0.3 * rng.normal(size=(12, 400))
    plain = ranks_of_draws(estimates, noise, 0.95, 1)
    np.testing.assert_array_equal(ranks_of_draws(unit * estimates + shift, unit * noise, 0.95, 1), plain)
