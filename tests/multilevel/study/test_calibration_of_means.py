"""How many levels may lie outside by chance before ``calibration_of_means`` fails."""

from __future__ import annotations

from scipy.stats import binom

from multilevel.checking.omitted_terms import FALSE_ALARMS
from multilevel.study.calibration import BEYOND_TWO, most_outside_by_chance


def test_the_levels_outside_by_chance_are_a_quantile_of_the_binomial_distribution() -> None:
    for n_levels in (*range(1, 400), 5_000, 1_000_000):
        assert most_outside_by_chance(n_levels) == binom.isf(FALSE_ALARMS, n_levels, BEYOND_TWO), n_levels
