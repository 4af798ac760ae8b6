"""Small parts of the report's wording: ticks of odds, a prior beside each of its parameters, variance components in sentences."""

import pyarrow as pa
import pytest

from groupwise.report.answer import answer
from groupwise.report.effects import FEWEST_TICKS, odds_ticks
from groupwise.report.prior_section import priors_section
from groupwise.report.subject import Subject, overall_average
from groupwise.report.variance_words import variance_sentences


@pytest.mark.parametrize(("low", "high"), [(0.013, 65.0), (0.2, 6.0), (0.7, 1.96), (0.99, 1.004), (1.2, 1.3), (0.4, 0.5), (2e-4, 0.1)])
def test_an_axis_of_odds_has_ticks_enough_and_no_effect_among_them(low: float, high: float) -> None:
    ticks = odds_ticks([low, high])
    seen = [tick for tick in ticks if min(low, 1.0) <= tick <= max(high, 1.0)]
    assert FEWEST_TICKS <= len(seen) <= 12
    assert 1.0 in ticks
    assert ticks == sorted(ticks)
    assert len(set(ticks)) == len(ticks)


def test_odds_of_a_single_value_still_have_an_axis() -> None:
    assert 1.0 in odds_ticks([1.0, 1.0])


def test_the_prior_of_correlations_stands_beside_each_of_them() -> None:
    report = {
        "priors": {"sd(g, x)": "half_normal(1)", "correlation(g)": "lkj(2)", "correlation(h)": "lkj(2)", "sigma": "exponential(1)"},
        "fit_record": {"prior_sensitivity": {"correlation(g, Intercept, x)": 0.02, "correlation(g, Intercept, z)": 0.07, "sigma": 0.0}},
    }
    section = priors_section(Subject({}, {}, report, {}))
    rows = [tuple(cell.text for cell in row.cells) for row in section.tables[0].rows]
    assert rows == [
        ("sd(g, x)", "half_normal(1)", ""),
        ("correlation(g, Intercept, x)", "lkj(2)", "0.020"),
        ("correlation(g, Intercept, z)", "lkj(2)", "0.070"),
        ("correlation(h)", "lkj(2)", ""),
        ("sigma", "exponential(1)", "0.000"),
    ]


def test_the_overall_average_is_that_of_all_line_items_whatever_each_groups_own_mix() -> None:
    assert overall_average([-0.5, None, 0.25], [10, 1000, 30]) == pytest.approx(0.0625)
    assert overall_average([None], [3]) is None
    estimates = pa.table(
        {
            "grouping_factor": ["school"] * 3,
            "level": ["a", "b", "new"],
            "parent_level": pa.nulls(3, pa.string()),
            "is_new": [False, False, True],
            "n": [10, 30, 0],
            "complete_pooling_estimate": [-0.5, 0.25, 9.0],
            "no_pooling_estimate": [-0.7, 0.5, None],
            **{name: [-0.6, 0.4, 0.0] for name in ("estimate", "lower", "upper")},
            **{name: [2.0, 1.0, None] for name in ("rank_lower", "rank_upper")},
        }
    )
    empty = pa.table({name: [] for name in ("pooling", "term", "std_error", "lower")})
    tables = {"group_estimates": estimates, "population_coefficients": empty, "variance_components": pa.table({"grouping_factor": []})}
    assert answer(Subject(tables, {}, {}, {}))[0].text.startswith(
        "Over all groups together the estimate is 0.0625 (outcome); by school it runs"
    )


def component(factor: str, term: str = "Intercept", **values: object) -> dict[str, object]:
    empty = dict.fromkeys(("part", "other_term", "variance_share", "r_squared", "pooling_factor", "estimate_without_group_predictors"))
    return {"grouping_factor": factor, "term": term, "quantity": "sd", "estimate": 0.2, **empty, **values}


def sentences(*rows: dict[str, object], family: str = "gaussian") -> list[str]:
    groups = pa.table({"grouping_factor": ["county", "state"], "is_new": [False, False], "parent_level": pa.nulls(2, pa.string())})
    tables = {"variance_components": pa.Table.from_pylist(list(rows)), "group_estimates": groups}
    return list(variance_sentences(Subject(tables, {"family": family}, {}, {})))


def test_shares_of_the_variance_are_called_intraclass_correlations() -> None:
    said = sentences(component("county", variance_share=0.125), component("state", variance_share=0.25), component("residual", "sigma"))
    assert said[0] == "Of the variance that predictors leave 12.5% lies between levels of county, 25.0% between levels of state."
    assert "intraclass correlation (ICC)" in said[1]
    assert len(said) == 2


def test_a_share_with_slopes_says_so() -> None:
    said = sentences(component("county", variance_share=0.125), component("county", "floor"))
    assert "county (slopes included, at the predictors' own values)" in said[0]


def test_both_parts_have_shares_of_their_own() -> None:
    said = sentences(*(component("county", f"Intercept ({p})", part=p, variance_share=0.1) for p in ("amount", "occurrence")))
    assert [sentence[:40] for sentence in said[:2]] == [
        "Of the variance of amount that predictor",
        "Of the variance of occurrence that predi",
    ]


def test_what_group_level_predictors_explain_is_told_with_both_sds() -> None:
    said = sentences(component("county", estimate_without_group_predictors=0.4, r_squared=0.75))
    assert said == [
        "Levels differ in Intercept of county by an sd of 0.2; without the group-level predictors it would be 0.4: they explain 75% of how "
        "these coefficients differ (R²)."
    ]
    nothing = sentences(component("county", estimate_without_group_predictors=0.2, r_squared=-0.02))
    assert "they explain nothing of it" in nothing[0]


def test_pooling_factors_tell_on_what_the_levels_rest() -> None:
    said = sentences(component("county", pooling_factor=0.8), component("state", pooling_factor=0.1))
    assert "mostly from what the levels have in common: Intercept of county (0.80);" in said[0]
    assert "mostly from each level's own line items: Intercept of state (0.10)." in said[0]


def test_the_residual_of_true_or_false_outcomes_is_said_to_be_latent() -> None:
    assert "π²/3" in sentences(component("county", variance_share=0.1), family="binomial")[-1]
