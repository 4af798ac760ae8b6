"""Posteriors of many levels without draws, of families other than gaussian, by simulation-based calibration.

Shops share no code with the model (``tests/many_level_shops.py``); a shop's seed is its number. A quantity's place in its posterior is the
mixture's probability below the truth. The levels that are ranked were chosen beforehand: the first of each factor. ``CALIBRATION_SHOPS``
makes a lane shorter; a lane that was stopped goes on at the shop where it was. Each lane writes its row of the decision page.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from benchmarks._reliability_page import provenance
from benchmarks.many_levels_page import write_nuts, write_page
from multilevel.bayesian import points_fit
from multilevel.bayesian.conditionals import level_moments
from multilevel.bayesian.laplace_points import sample_laplace_points
from multilevel.bayesian.nuts_fit import sample_nuts
from multilevel.bayesian.sampling import Sampling
from multilevel.fit.interval_estimates import Moments
from tests.many_level_models import model_of
from tests.many_level_shops import CATEGORIES, REGIONS, ManyLevelShop, many_level_shop
from tests.shop_by_shop import shop_by_shop

type Lane = tuple[str, int, int]
"""Family, households, items of each."""

LANES: tuple[Lane, ...] = (
    ("binomial", 1_000, 4),
    ("poisson", 1_000, 4),
    ("negative_binomial", 1_000, 4),
    ("gamma", 1_000, 4),
    ("binomial", 1_000, 12),
    ("binomial", 10_000, 4),
    ("binomial", 100_000, 4),
)
SOURCES = (
    "multilevel",
    "requirements.lock",
    "tests/many_level_shops.py",
    "tests/many_level_models.py",
    "tests/calibration/test_many_levels.py",
)
"""What a shop's numbers depend on."""

SHOPS = 200
RANKED = {"region": 4, "household": 12, "category": 4}
TAIL = 0.025


def places_of(shop: ManyLevelShop, family: str, seed: int, cores: int = 1) -> dict[str, Any]:
    """Where the truths are in their posteriors, the shares of all households outside their bounds, and the checks."""
    rows, outcome, priors = model_of(shop, family)
    start = time.process_time()
    found = sample_laplace_points(rows, outcome, priors, Sampling(form="importance", cores=cores), seed)
    seconds = time.process_time() - start
    truth = np.log(shop.sds if shop.scale is None else np.append(shop.sds, shop.scale))
    thetas, weights = found.population.thetas, found.population.weights
    places = {f"theta{at}": float(np.clip(weights @ (thetas[:, at] < own), 0.0, 1.0)) for at, own in enumerate(truth)}
    moments = level_moments(found.conditionals, found.levels.weights, [np.eye(1)] * 3, is_identity=True, threads=cores)
    below = found.levels.weights @ ndtr((np.concatenate([shop.beta, *shop.effects]) - moments.means) / moments.sds)
    places |= {f"beta{at}": float(below[at]) for at in range(2)}
    first = 2
    for (name, ranked), effects in zip(RANKED.items(), shop.effects, strict=True):
        places |= {f"{name}{at}": float(below[first + at]) for at in range(ranked)}
        first += len(effects)
    households = below[2 + REGIONS : 2 + REGIONS + len(shop.effects[1])]
    return {
        "places": places,
        "outside": [float(np.mean(households < TAIL)), float(np.mean(households > 1.0 - TAIL))],
        "checks": {check.check: check.value for check in found.checks},
        "failed": [check.check for check in found.checks if check.gate and not check.passed],
        "sd": float(shop.sds[1]),
        "seconds": seconds,
    }


def measured(lane: Lane, shops: int, kept: Path) -> list[dict[str, Any]]:
    """``places_of`` every shop of a lane."""
    family, households, items = lane
    return shop_by_shop(kept, shops, lambda seed: places_of(many_level_shop(family, households, items, seed), family, seed), SOURCES)


@pytest.mark.calibration
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("lane", LANES, ids=lambda lane: "-".join(map(str, lane)))
def test_many_levels_are_calibrated(
    lane: Lane,
    not_uniform: Callable[[dict[str, np.ndarray]], dict[str, float]],
    evenness_of: Callable[[dict[str, np.ndarray]], dict[str, Any]],
    figures: Path,
) -> None:
    file = figures / f"many-levels-{'-'.join(map(str, lane))}.json"
    told = provenance()
    found = measured(lane, int(os.environ.get("CALIBRATION_SHOPS", SHOPS)), file.with_suffix(".lines"))
    passed = [own for own in found if not own["failed"]]
    places = {name: np.array([own["places"][name] for own in passed]) for name in passed[0]["places"]}
    ranks = {name: np.floor(100 * np.clip(own, 0.0, 0.999999)).astype(int) for name, own in places.items()}
    evenness = evenness_of(ranks)
    worst = min(evenness, key=lambda name: evenness[name].p)
    outside = np.array([own["outside"] for own in passed])
    row = {
        "family": lane[0],
        "households": lane[1],
        "items": lane[2],
        "shops": len(found),
        "sent_to_nuts": len(found) - len(passed),
        "quantities": len(ranks),
        "smallest_p": evenness[worst].p,
        "of": worst,
        "below": float(outside[:, 0].mean()),
        "above": float(outside[:, 1].mean()),
        "seconds": float(np.median([own["seconds"] for own in found])),
        **told,
    }
    file.write_text(json.dumps(row, indent=1))
    write_page(figures)
    assert not_uniform(ranks) == {}
    assert 0.04 < outside.sum(axis=1).mean() < 0.06


AGAINST_NUTS = (("binomial", 3), ("binomial", 8), ("poisson", 5), ("negative_binomial", 8), ("gamma", 8))


@pytest.mark.calibration
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(("family", "items"), AGAINST_NUTS)
def test_means_and_sds_are_those_of_nuts(family: str, items: int, figures: Path) -> None:
    rows, outcome, priors = model_of(many_level_shop(family, 300, items, 1), family)
    start = time.process_time()
    found = sample_laplace_points(rows, outcome, priors, Sampling(form="importance", cores=1), 0)
    moments = level_moments(found.conditionals, found.levels.weights, [np.eye(1)] * 3, is_identity=True, threads=1)
    seconds, start = time.process_time() - start, time.process_time()
    drawn = sample_nuts(rows, outcome, priors, Sampling(draws=2_000, cores=1), seed=1)
    nuts_seconds = time.process_time() - start
    thetas, weights = found.population.thetas, found.population.weights
    mean = weights @ thetas
    theta = differences(mean, np.sqrt(weights @ (thetas - mean) ** 2), drawn.thetas.reshape(-1, thetas.shape[1]))
    mixture = Moments(moments.means.T, moments.sds.T**2, found.levels.weights)
    mean, sd, (lower, upper) = found.levels.weights @ moments.means, np.sqrt(mixture.total), mixture.bounds(0.95)
    beta, households = slice(0, 2), slice(2 + REGIONS, 2 + REGIONS + 300)
    own, spread = drawn.values[:, households], drawn.values[:, households].std(axis=0)
    row = {
        "family": family,
        "items": items,
        "theta": theta,
        "beta": differences(mean[beta], sd[beta], drawn.values[:, beta]),
        "households": differences(mean[households], sd[households], own),
        "lower": float(np.mean((lower[households] - np.quantile(own, TAIL, axis=0)) / spread)),
        "upper": float(np.mean((upper[households] - np.quantile(own, 1.0 - TAIL, axis=0)) / spread)),
        "seconds": seconds,
        "nuts_seconds": nuts_seconds,
        **provenance(),
    }
    (figures / f"nuts-levels-{family}-{items}.json").write_text(json.dumps(row, indent=1))
    write_nuts(figures)
    assert row["theta"]["mean"] < 0.15
    assert row["households"]["mean"] < 0.15
    assert max(abs(row["lower"]), abs(row["upper"])) < 0.2


def differences(mean: np.ndarray, sd: np.ndarray, draws: np.ndarray) -> dict[str, float]:
    """Of means in sds of the draws, the largest, and the range of sds over those."""
    theirs = draws.std(axis=0)
    ratios = sd / theirs
    return {
        "mean": float(np.abs((mean - draws.mean(axis=0)) / theirs).max()),
        "least_sd": float(ratios.min()),
        "most_sd": float(ratios.max()),
    }


def test_a_small_shop_has_its_truths_inside_its_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_fit, "MOST_FOR_BOUNDS", 0)  # the points that bounds need take longest, and no bound is asked here
    found = places_of(many_level_shop("binomial", 40, 6, 3), "binomial", 3)
    places = np.array(list(found["places"].values()))
    assert len(places) == 3 + 2 + sum(RANKED.values())
    assert np.all((places > 0.001) & (places < 0.999))
    assert found["failed"] == []
    assert RANKED["category"] < CATEGORIES
