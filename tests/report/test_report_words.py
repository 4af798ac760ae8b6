"""Small parts of the report's wording: ticks of factors on the odds, a prior beside each of the parameters that it is for."""

import pytest

from tasks.report.effects import FEWEST_TICKS, odds_ticks
from tasks.report.prior_section import priors_section
from tasks.report.subject import Subject


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
