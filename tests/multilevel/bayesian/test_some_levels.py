"""A search for the variances that begins with some of the levels ends about where that with all of them does."""

import numpy as np
import pytest

from multilevel.bayesian import some_levels
from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed
from multilevel.bayesian.level_integrals import largest, level_factors
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.points_fit import parameter_units
from tests.many_level_models import model_of
from tests.many_level_shops import many_level_shop


@pytest.mark.parametrize("family", ["binomial", "negative_binomial"])
def test_the_mode_is_about_that_of_a_search_with_all_levels(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, outcome, priors = model_of(many_level_shop(family, 600, 4, 3), family)
    layout = Layout((1, 1, 1), with_scale=priors.dispersion is not None)
    leaves, start, units = largest(level_factors(rows)), np.zeros(layout.size), parameter_units(layout, rows)
    found = []
    for enough in (600, 100):
        monkeypatch.setattr(some_levels, "ENOUGH", enough)
        density = LaplaceCollapsed(rows, outcome, layout, priors)
        found.append(some_levels.laplace_mode(density, rows, outcome, leaves, start, units))
    (whole, covariance), (of_some, other) = found
    sds = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((of_some - whole) / sds, 0.0, atol=0.3)
    np.testing.assert_allclose(np.sqrt(np.diag(other)), sds, rtol=0.25)


def test_every_so_many_th_level_keeps_all_of_its_rows_and_the_other_factors() -> None:
    rows, outcome, _ = model_of(many_level_shop("poisson", 600, 4, 3), "poisson")
    leaves = largest(level_factors(rows))
    few, of_few = some_levels.some_levels(rows, outcome, leaves, 7)
    kept = leaves.codes % 7 == 0
    assert len(few.outcome) == of_few.n_rows == kept.sum() == 4 * 86
    assert few.blocks[leaves.blocks[0]].n_levels == 86
    np.testing.assert_array_equal(np.bincount(few.blocks[leaves.blocks[0]].codes), np.full(86, 4))
    np.testing.assert_array_equal(few.blocks[2].codes, rows.blocks[2].codes[kept])
    assert few.blocks[2].n_levels == rows.blocks[2].n_levels
    np.testing.assert_array_equal(of_few.outcome, rows.outcome[kept])
    assert of_few.once["log_factorial"] == pytest.approx(outcome.once["log_factorial"] * len(few.outcome) / len(rows.outcome))
