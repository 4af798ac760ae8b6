"""Are bounds of a variance component known as well as their Monte Carlo error says, where points were added for them?

Samples are of a density in closed form, which shares no code with any model: the standard deviation of few levels is that of an inverse
chi-squared variable, beside two correlated normal parameters. A sample's seed is its number. Two rules are compared: the number of points
set beforehand, as fits do, and rounds that end once the estimated error is small.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from benchmarks._reliability_page import provenance
from benchmarks.known_bounds_page import write_page
from multilevel.arrays import Floats
from multilevel.bayesian.importance_points import ThetaPosterior, further_points, importance_points
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.points_fit import MOST_FOR_BOUNDS, known_bounds, most_error_of_bounds
from multilevel.bayesian.refined_points import WeightedPoints, refined
from multilevel.bayesian.weighted_summaries import summarise_weighted

LAYOUT = Layout((1, 1, 1), False)
SAMPLES = 200
DEGREES = (3, 5, 9)
INTERVAL = 0.95
LEAN = 0.3


class FewLevels:
    """Log density of (log sd, two normal parameters), ``degrees`` of freedom of the sd, and its gradient."""

    def __init__(self, degrees: float) -> None:
        self._degrees = degrees

    def many(self, at: Floats) -> Floats:
        nu, log_sd, one, other = self._degrees, *at.T
        with np.errstate(over="ignore"):
            scale = 0.5 * nu * np.exp(-2.0 * log_sd)
        return np.asarray(-nu * log_sd - scale - 0.5 * one**2 - 0.5 * (other - LEAN * one) ** 2)

    def with_slope(self, at: Floats) -> tuple[float, Floats]:
        nu, (log_sd, one, other) = self._degrees, at
        away = other - LEAN * one
        return float(self.many(at[None])[0]), np.array([-nu + nu * math.exp(-2.0 * log_sd), LEAN * away - one, -away])

    @property
    def upper(self) -> float:
        """The bound, exactly."""
        return float(np.sqrt(self._degrees / chi2.ppf((1.0 - INTERVAL) / 2.0, self._degrees)))


def bound_of(population: WeightedPoints) -> tuple[float, float, float]:
    """The sd's upper bound, its error, and the posterior standard deviation."""
    found = summarise_weighted(np.exp(population.thetas[:, :1]), population.weights, population.errors, INTERVAL)
    return float(found.summary.upper[0]), float(found.bound_error[0]), float(found.summary.std_error[0])


def until_small(theta: ThetaPosterior, density: FewLevels, rng: np.random.Generator) -> tuple[ThetaPosterior, WeightedPoints]:
    """Rounds that end once the estimated error is as small as is asked."""
    population = refined(theta, rng)
    while len(theta.thetas) < MOST_FOR_BOUNDS:
        _, error, sd = bound_of(population)
        if error <= most_error_of_bounds(INTERVAL) * sd:
            break
        theta = further_points(theta, density.many, rng)
        population = refined(theta, rng)
    return theta, population


def sample(density: FewLevels, rule: str, seed: int) -> tuple[int, float, float, float]:
    rng = np.random.default_rng(seed)
    theta = importance_points(density.many, density.with_slope, np.zeros(3), np.ones(3), rng)
    if rule == "until small":
        theta, population = until_small(theta, density, rng)
    else:
        theta, population = known_bounds(theta, density.many, LAYOUT, MOST_FOR_BOUNDS, INTERVAL, rng, lambda doing, share: None)
    return len(theta.thetas), *bound_of(population)


@pytest.fixture(scope="module", autouse=True)
def _page(request: pytest.FixtureRequest) -> Iterator[None]:
    """Written once all rows are measured: until then the tree is that of the commit."""
    yield
    write_page(request.config.rootpath / ".groupwise" / "calibration")


@pytest.mark.calibration
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("rule", ["set beforehand", "until small"])
@pytest.mark.parametrize("degrees", DEGREES)
def test_bounds_are_known_as_well_as_they_say(degrees: int, rule: str, figures: Path) -> None:
    told, density = provenance(), FewLevels(float(degrees))
    samples = int(os.environ.get("CALIBRATION_SHOPS", SAMPLES))
    points, upper, error, sd = np.array([sample(density, rule, seed) for seed in range(samples)]).T
    away = upper - density.upper
    row = {
        "degrees": degrees,
        "rule": rule,
        "samples": samples,
        "points": float(np.median(points)),
        "claimed": float(np.sqrt(np.mean(error**2)) / np.median(sd)),
        "true": float(np.sqrt(np.mean(away**2)) / np.median(sd)),
        "beyond_two": float(np.mean(np.abs(away) > 2.0 * error)),
        **told,
    }
    (figures / f"known-bounds-{degrees}-{rule.replace(' ', '-')}.json").write_text(json.dumps(row, indent=1))
    # the root mean square of 200 normal errors is known to 5 %, with a longer tail to about 10 %
    if rule == "set beforehand":
        assert row["true"] < 1.3 * row["claimed"]
    elif degrees == min(DEGREES):
        # the reason why fits do not use this rule: where the tail is longest it claims too little
        assert row["true"] > 1.2 * row["claimed"]
