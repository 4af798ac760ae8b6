"""Published intervals hold what they promise, for large and for tiny groups, over many small shops whose truth is drawn anew."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.catalogue.table_assembly import Heading
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.nesting import nesting
from multilevel.estimands.expected_outcome import PartFit
from multilevel.estimands.level_variance import level_variance
from multilevel.estimands.one_response import OneResponse
from multilevel.estimands.product import ResponseProduct
from multilevel.fit.residuals import expected_residual_ss
from multilevel.formula.parse import parse_formula
from multilevel.study.designs import study_parts
from multilevel.tables.group_coefficients import group_coefficients
from multilevel.tables.group_estimates import group_estimates

PRIORS = {
    "coefficients": {"Intercept": "normal(0, 2)", "x": "normal(0, 1)"},
    "sds": {"region": "half_normal(1)", "category": "half_normal(1)"},
    "sigma": "exponential(1)",
}
NATURAL_PRIORS = {
    "coefficients": {"Intercept": "normal(0, 1)", "x": "normal(0, 0.3)"},
    "sds": {"region": "half_normal(0.5)", "category": "half_normal(0.5)"},
    "sigma": "exponential(1)",
}
PART_PRIORS = {
    "occurrence": {"coefficients": {"Intercept": "normal(0, 1)"}, "sds": {"region": "half_normal(0.7)", "category": "half_normal(0.7)"}},
    "amount": {
        "coefficients": {"Intercept": "normal(0, 1)"},
        "sds": {"region": "half_normal(0.5)", "category": "half_normal(0.5)"},
        "dispersion": "log_normal(0.7, 0.5)",
    },
}
HEADING = Heading("shop", date(2026, 1, 1), "run", "bayesian")
INTERVALS = (0.5, 0.8, 0.95)
TINY, LARGE = 8, 25
"""At most, and at least, so many line items."""


@dataclass(frozen=True)
class Shop:
    """Line items of 5 regions crossed with 15 categories of very unequal size, and what the tables estimate."""

    frame: pd.DataFrame
    coefficients: dict[tuple[str, str, str], float]
    estimates: dict[tuple[str, str], float]


def standardised(region: np.ndarray, category: np.ndarray, mean: np.ndarray) -> dict[tuple[str, str], float]:
    """Averages over the common mix; ``mean`` (N, 5, 15) is a line item's expected outcome, had it been of another region and category."""
    rows = np.arange(len(region))
    found = {("region", str(i)): float(mean[rows, i, category].mean()) for i in range(5)}
    return found | {("category", f"c{i:02d}"): float(mean[rows, region, i].mean()) for i in range(15)}


def shop(rng: np.random.Generator, *, natural: bool = False) -> Shop:
    """A shop with a truth of its own; ``natural``: of log y, with a sigma for every region and category."""
    n = 400
    region = rng.integers(5, size=n)
    share = np.arange(1, 16)[::-1] ** 2
    category = np.concatenate([np.arange(15), rng.choice(15, size=n - 15, p=share / share.sum())])
    x = rng.integers(0, 3, size=n)
    wide = 0.5 if natural else 1.0
    beta, slope = rng.normal(0, 2 * wide), rng.normal(0, 0.3 if natural else 1.0)
    sds, sigma = np.abs(rng.normal(0, wide, 3)), rng.exponential(1.0)
    partial = 2 * rng.beta(2, 2) - 1
    root = np.array([[1.0, 0.0], [partial, np.sqrt(1 - partial**2)]]) * sds[1:, None]
    b_region, b_category = rng.normal(0, sds[0], 5), rng.normal(size=(15, 2)) @ root.T
    intercept = beta - slope * x.mean()  # the prior of the intercept holds at the mean of x
    eta = intercept + b_region[:, None] + b_category[:, 0] + x[:, None, None] * (slope + b_category[:, 1])
    spread = np.full((5, 15), sigma)
    if natural:
        of_region, of_category = rng.normal(0, 0.2, 5), rng.normal(0, 0.3, 15)
        spread = rng.uniform(0.3, 0.9) * np.exp((of_region[:, None] + of_category) / 2.0)
    y = eta[np.arange(n), region, category] + rng.normal(size=n) * spread[region, category]
    labels = {"region": region.astype(str), "category": [f"c{c:02d}" for c in category]}
    frame = pd.DataFrame({**labels, "x": x, "y": np.exp(y) if natural else y})
    coefficients = {("region", str(i), "Intercept"): intercept + value for i, value in enumerate(b_region)}
    coefficients |= {("category", f"c{i:02d}", "Intercept"): intercept + value for i, value in enumerate(b_category[:, 0])}
    coefficients |= {("category", f"c{i:02d}", "x"): slope + value for i, value in enumerate(b_category[:, 1])}
    mean = np.exp(eta + spread**2 / 2.0) if natural else eta
    return Shop(frame, coefficients, standardised(region, category, mean))


def two_part_shop(rng: np.random.Generator) -> Shop:
    """A shop of zeros and gamma amounts, both with groups of their own; what is estimated is P(y > 0) E[y | y > 0]."""
    n = 400
    region = rng.integers(5, size=n)
    share = np.arange(1, 16)[::-1] ** 2
    category = np.concatenate([np.arange(15), rng.choice(15, size=n - 15, p=share / share.sum())])
    predictors = []
    for wide in (0.7, 0.5):
        beta, sds = rng.normal(0, 1), np.abs(rng.normal(0, wide, 2))
        predictors.append(beta + rng.normal(0, sds[0], (5, 1)) + rng.normal(0, sds[1], (1, 15)))
    probability, amount, shape = expit(predictors[0]), np.exp(predictors[1]), np.exp(rng.normal(0.7, 0.5))
    drawn = rng.gamma(shape, amount[region, category] / shape)
    y = np.where(rng.random(n) < probability[region, category], drawn, 0.0)
    frame = pd.DataFrame({"region": region.astype(str), "category": [f"c{c:02d}" for c in category], "y": y})
    return Shop(frame, {}, standardised(region, category, np.broadcast_to(probability * amount, (n, 5, 15))))


def covered_two_part(seed: int, draws: int) -> pd.DataFrame:
    """As ``covered``, of a hurdle's expected values."""
    made = two_part_shop(np.random.default_rng(seed))
    formula = parse_formula("y ~ 1 + (1 | region) + (1 | category)")
    parts = study_parts(formula, cells_from_frame(formula, made.frame, "hurdle_gamma"))
    fits = [
        fit_bayesian(
            part.design,
            part.design.cells.family,
            priors=PART_PRIORS[part.name],
            seed=2 * seed + place,
            sampling={"draws": draws, "tune": 300, "cores": 1},
        )
        for place, part in enumerate(parts)
    ]
    rows = []
    for interval in INTERVALS:
        occurrence, amount = (PartFit(replace(fit, interval=interval)) for fit in fits)
        table = group_estimates(ResponseProduct(occurrence, amount, parts[0].design), nesting(parts[0].design), HEADING)
        for row in table.to_pylist():
            if not row["is_new"]:
                truth = made.estimates[row["grouping_factor"], row["level"]]
                rows.append((seed, "two-part group_estimates", size_of(row["n"]), interval, row["lower"] <= truth <= row["upper"]))
    return pd.DataFrame(rows, columns=["shop", "table", "size", "interval", "covers"])


def size_of(n: int) -> str:
    """What a group of so many line items is called."""
    return "tiny" if n <= TINY else "large" if n >= LARGE else "between"


def covered(seed: int, draws: int, *, natural: bool) -> pd.DataFrame:
    """A shop's published intervals: table, size of the group, interval, and whether it holds the truth."""
    made = shop(np.random.default_rng(seed), natural=natural)
    formula = parse_formula(f"{'log(y)' if natural else 'y'} ~ 1 + x + (1 | region) + (1 + x | category)")
    design = build_design(formula, cells_from_frame(formula, made.frame, "gaussian"))
    sampling = {"draws": draws, "cores": 1}
    fit = fit_bayesian(design, "gaussian", priors=NATURAL_PRIORS if natural else PRIORS, seed=seed, sampling=sampling)
    tree = nesting(design)
    variance = level_variance(design.cells.n, expected_residual_ss(design, fit.joint), dict(tree.factors)) if natural else None
    rows = []
    for interval in INTERVALS:
        published = replace(fit, interval=interval)
        estimates = group_estimates(OneResponse.of_fit(published), tree, HEADING, variance=variance).to_pylist()
        coefficients = [] if natural else group_coefficients(published, tree, HEADING).to_pylist()
        for row in (*estimates, *coefficients):
            if row["is_new"]:
                continue
            key = (row["grouping_factor"], row["level"])
            truth = made.coefficients[*key, row["term"]] if "term" in row else made.estimates[key]
            table = "group_coefficients" if "term" in row else "natural-scale group_estimates" if natural else "group_estimates"
            rows.append((seed, table, size_of(row["n"]), interval, row["lower"] <= truth <= row["upper"]))
    return pd.DataFrame(rows, columns=["shop", "table", "size", "interval", "covers"])


KINDS: dict[str, Callable[[int, int], pd.DataFrame]] = {
    "identity": partial(covered, natural=False),
    "natural-scale": partial(covered, natural=True),
    "two-part": covered_two_part,
}


def coverage(shops: int, draws: int, kind: str) -> pd.DataFrame:
    """Coverage by table, size and interval, with its Monte Carlo error.

    The groups of one shop share its variance parameters, so the shop is the unit: the error is that of a ratio of two totals over shops
    (Cochran 1977, section 6.4).
    """
    found = pd.concat([KINDS[kind](seed, draws) for seed in range(shops)])
    per_shop = found.groupby(["table", "size", "interval", "shop"]).covers.agg(holding="sum", counted="size").reset_index()
    rows = []
    for key, part in per_shop.groupby(["table", "size", "interval"]):
        share = part.holding.sum() / part.counted.sum()
        residual = part.holding - share * part.counted
        error = float(np.sqrt(len(part) / (len(part) - 1) * np.sum(residual**2)) / part.counted.sum())
        rows.append((*key, len(part), int(part.counted.sum()), float(share), error))
    return pd.DataFrame(rows, columns=["table", "size", "interval", "shops", "intervals", "covered", "error"])


def missed(found: pd.DataFrame) -> pd.DataFrame:
    """Rows beyond three Monte Carlo errors, clustered by shop.

    A posterior quantile of a few hundred draws misses a tail by about a third of a per cent.
    """
    least = np.sqrt(found.interval * (1 - found.interval) / found.intervals)  # of independent groups: few shops may agree by chance
    return found[(found.covered - found.interval).abs() > 3 * np.maximum(found.error, least) + 0.004]


@pytest.fixture(scope="module")
def few() -> pd.DataFrame:
    """Six small shops, and six of log y."""
    return pd.concat([coverage(6, 150, kind) for kind in ("identity", "natural-scale")])


@pytest.mark.calibration
def test_intervals_of_a_few_shops_cover_what_they_say(few: pd.DataFrame) -> None:
    assert missed(few).empty, few.to_string()


@pytest.mark.calibration
def test_intervals_that_are_too_narrow_are_found_out(few: pd.DataFrame) -> None:
    assert not missed(few.assign(interval=few.interval.map({0.5: 0.8, 0.8: 0.95, 0.95: 0.999}))).empty


@pytest.mark.calibration
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_what_they_say_over_two_hundred_shops(kind: str, figures: Path) -> None:
    found = coverage(200, 500, kind)
    (figures / f"coverage-{kind}.json").write_text(json.dumps(found.to_dict("records"), indent=1))
    assert missed(found).empty, found.to_string()


@pytest.mark.calibration
def test_intervals_of_a_few_two_part_shops_cover_what_they_say() -> None:
    found = coverage(3, 150, "two-part")
    assert missed(found).empty, found.to_string()
