"""The posterior is calibrated: the truth's rank among its draws is uniform, for every family and shape."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arviz_stats.ecdf_utils import simulate_confidence_bands

type Ranks = Callable[..., dict[str, np.ndarray]]
type Uneven = Callable[[dict[str, np.ndarray]], dict[str, float]]

SIMULATIONS = {"gaussian": 400}
OTHERS = 200


@pytest.mark.calibration
def test_the_collapsed_form_is_calibrated_on_crossed_factors(calibration: Ranks, not_uniform: Uneven) -> None:
    assert not_uniform(calibration("gaussian", "crossed", 30, draws=120)) == {}


@pytest.mark.calibration
def test_draws_that_are_too_narrow_are_found_out(calibration: Ranks, not_uniform: Uneven) -> None:
    assert {"value0", "value1"} & not_uniform(calibration("gaussian", "nested", 20, draws=120, narrow=0.3)).keys()


def test_the_envelope_is_arvizs(null_minima: Callable[[int], np.ndarray]) -> None:
    points = np.arange(1, 60) / 60
    theirs = simulate_confidence_bands(60, 1, points, 0.9, 4_000, np.random.default_rng(2))
    # the pointwise probability of a band that holds nine of ten uniform samples, by simulation in both
    assert 1.0 - 2.0 * np.quantile(null_minima(60), 0.1) == pytest.approx(theirs, abs=0.002)


def test_uniform_ranks_leave_the_envelope_as_seldom_as_promised(measured: Callable[[dict[str, np.ndarray]], dict[str, Any]]) -> None:
    ranks = {str(i): np.random.default_rng(i).integers(0, 100, 80) for i in range(400)}
    p = np.array([each.p for each in measured(ranks).values()])
    assert abs(np.mean(p < 0.1) - 0.1) < 3 * np.sqrt(0.09 / 400)


@pytest.mark.calibration
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shape", ["crossed", "nested"])
@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson", "negative_binomial", "gamma", "hurdle_lognormal", "hurdle_gamma"])
def test_every_family_and_shape_is_calibrated(
    calibration: Ranks,
    not_uniform: Uneven,
    measured: Callable[[dict[str, np.ndarray]], dict[str, Any]],
    figures: Path,
    family: str,
    shape: str,
) -> None:
    start = time.monotonic()
    ranks = calibration(family, shape, SIMULATIONS.get(family, OTHERS))
    keep(figures, f"sbc-{family}-{shape}.json", family, shape, measured(ranks), ranks, time.monotonic() - start)
    assert not_uniform(ranks) == {}


@pytest.mark.calibration
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shape", ["crossed", "nested"])
def test_importance_points_are_calibrated(
    calibration: Ranks,
    not_uniform: Uneven,
    measured: Callable[[dict[str, np.ndarray]], dict[str, Any]],
    figures: Path,
    shape: str,
) -> None:
    start = time.monotonic()
    ranks = calibration("gaussian", shape, OTHERS, form="points")
    keep(figures, f"sbc-points-{shape}.json", "gaussian (importance points)", shape, measured(ranks), ranks, time.monotonic() - start)
    assert not_uniform(ranks) == {}


def keep(figures: Path, name: str, family: str, shape: str, found: dict[str, Any], ranks: dict[str, np.ndarray], seconds: float) -> None:
    """Write what docs/calibration.md shows of one lane."""
    worst = min(found, key=lambda name: found[name].p)
    kept = {
        "family": family,
        "shape": shape,
        "simulations": len(ranks[worst]),
        "quantities": len(found),
        "smallest_p": found[worst].p,
        "of": worst,
        "log_likelihood_p": found["log_likelihood"].p,
        "largest_deviation": max(each.deviation for each in found.values()),
        "seconds": seconds,
    }
    (figures / name).write_text(json.dumps(kept, indent=1))
