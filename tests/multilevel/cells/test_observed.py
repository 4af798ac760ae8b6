"""Plain means and their standard errors, from cells, are those of the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.cells.merge import merge_cells
from multilevel.cells.observed import observed_means
from multilevel.cells.statistics import CellStatistics
from multilevel.formula.parse import parse_formula


def rows(seed: int = 0, n: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": rng.integers(0, 6, n), "h": rng.integers(0, 5, n), "x": rng.integers(0, 3, n).astype(float)})
    frame["y"] = np.exp(0.3 * frame.g + rng.normal(size=n))
    frame["trials"] = rng.integers(1, 9, n)
    frame["k"] = rng.binomial(frame.trials, 0.3)
    frame["days"] = rng.uniform(0.5, 20.0, n)
    frame["count"] = rng.poisson(0.4 * frame.days)
    frame["bought"] = rng.random(n) < 0.2
    frame["w"] = rng.uniform(0.5, 3.0, n)
    frame["spend"] = np.where(rng.random(n) < 0.6, frame.y, 0.0)
    return frame


CASES = {
    "gaussian": ("y ~ x + (1 | g) + (1 | h)", "gaussian", "y", None),
    "log": ("log(y) ~ x + (1 | g) + (1 | h)", "gaussian", "y", None),
    "weighted": ("y | weights(w) ~ x + (1 | g) + (1 | h)", "gaussian", "y", None),
    "share": ("bought ~ x + (1 | g) + (1 | h)", "binomial", "bought", None),
    "trials": ("p(k, trials) ~ x + (1 | g) + (1 | h)", "binomial", "k", "trials"),
    "rate": ("count ~ x + offset(log(days)) + (1 | g) + (1 | h)", "poisson", "count", "days"),
    "rate of the key": ("count ~ x + offset(log(days)) + (1 | g) + (1 | h)", "negative_binomial", "count", "days"),
    "gamma": ("y ~ x + (1 | g) + (1 | h)", "gamma", "y", None),
    "hurdle": ("spend ~ x + (1 | g) + (1 | h)", "hurdle_lognormal", "spend", None),
}


def by_hand(frame: pd.DataFrame, outcome: str, size: str | None) -> tuple[np.ndarray, np.ndarray]:
    means, errors = [], []
    for _, level in frame.groupby("g"):
        y = level[outcome].to_numpy(float)
        e = np.ones(len(y)) if size is None else level[size].to_numpy(float)
        ratio = y.sum() / e.sum()
        means.append(ratio)
        errors.append(np.sqrt(len(y) / (len(y) - 1) * np.sum((y - ratio * e) ** 2)) / e.sum())
    return np.array(means), np.array(errors)


def found(cells: CellStatistics) -> tuple[np.ndarray, np.ndarray]:
    assert cells.observed is not None
    labels = cells.groups["g"]
    return observed_means(cells.observed, labels.codes.astype(np.int64), cells.n, len(labels.values))


@pytest.mark.parametrize("case", CASES)
def test_means_and_errors_are_those_of_the_rows(case: str) -> None:
    formula, family, outcome, size = CASES[case]
    frame = rows()
    means, errors = found(cells_from_frame(parse_formula(formula), frame, family))
    expected = by_hand(frame, outcome, size)
    np.testing.assert_allclose(means, expected[0], rtol=1e-12)
    np.testing.assert_allclose(errors, expected[1], rtol=1e-10)


@pytest.mark.parametrize("case", ["log", "trials", "rate"])
def test_partitions_add(case: str) -> None:
    formula, family, *_ = CASES[case]
    frame, parsed = rows(), parse_formula(formula)
    halves = merge_cells([cells_from_frame(parsed, part, family) for part in (frame[:250], frame[250:])])
    for merged, whole in zip(found(halves), found(cells_from_frame(parsed, frame, family)), strict=True):
        np.testing.assert_allclose(merged, whole, rtol=1e-11)


def test_a_shift_of_a_billion_costs_no_digits_of_the_error() -> None:
    frame = rows()
    far = frame.assign(y=frame.y + 1e9)
    parsed = parse_formula("y ~ x + (1 | g) + (1 | h)")
    np.testing.assert_allclose(found(cells_from_frame(parsed, far, "gaussian"))[1], by_hand(frame, "y", None)[1], rtol=1e-6)


def test_one_row_has_a_mean_and_no_error() -> None:
    frame = rows()
    frame.loc[0, "g"] = 99
    means, errors = found(cells_from_frame(parse_formula("y ~ x + (1 | g) + (1 | h)"), frame, "gaussian"))
    assert means[-1] == frame.y[0] and np.isnan(errors[-1])
    assert np.isfinite(errors[:-1]).all()
