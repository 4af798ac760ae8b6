"""The posterior is calibrated: the truth's rank among its draws is uniform, for every family and shape."""

from collections.abc import Callable

import numpy as np
import pytest

type Ranks = Callable[..., dict[str, np.ndarray]]
type Uneven = Callable[[dict[str, np.ndarray]], dict[str, float]]


def test_the_collapsed_form_is_calibrated_on_crossed_factors(calibration: Ranks, not_uniform: Uneven) -> None:
    assert not_uniform(calibration("gaussian", "crossed", 45, draws=120)) == {}


def test_draws_that_are_too_narrow_are_found_out(calibration: Ranks, not_uniform: Uneven) -> None:
    assert {"value0", "value1"} & not_uniform(calibration("gaussian", "nested", 30, draws=120, narrow=0.3)).keys()


@pytest.mark.calibration
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shape", ["crossed", "nested"])
@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson", "negative_binomial", "gamma", "hurdle_lognormal", "hurdle_gamma"])
def test_every_family_and_shape_is_calibrated(calibration: Ranks, not_uniform: Uneven, family: str, shape: str) -> None:
    assert not_uniform(calibration(family, shape, 400 if family == "gaussian" else 200)) == {}
