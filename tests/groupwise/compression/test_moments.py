"""Moments of cells whose values hardly vary beside their size, against exact arithmetic of fractions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from groupwise.compression.compress import compress_rows
from multilevel.cells.files import read_cells
from multilevel.cells.statistics import CellStatistics
from multilevel.formula.parse import parse_formula

N = 300

LEVELS = {
    "far from zero": [1e8, 1e8 + 1.0, 1e8 - 2.0],
    "far from one another": [0.0, 1e8, -3e9],
    "near zero and far": [1e-9, 1.0, 1e12],
    "on both sides": [-5e7, 5e7, 1.0],
}
"""Means of three groups, whose values spread by about 1."""


def cells_of(frame: pd.DataFrame, formula: str, folder: Path) -> CellStatistics:
    connection = duckdb.connect()
    connection.register("frame", frame)
    parsed = parse_formula(formula)
    made = compress_rows(connection, "select * from frame", parsed, "gaussian", folder)
    return read_cells(made.cells_path, made.spec_path)


def rows(levels: Sequence[float], seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.arange(N) % 3
    far = np.asarray(levels)[g]
    weight = 10.0 ** rng.uniform(-6, 6, N)
    return pd.DataFrame({"g": g.astype(str), "x": far + rng.normal(size=N), "y": 2.0 * far + rng.normal(size=N), "w": weight, "flat": far})


def exact(frame: pd.DataFrame, columns: Sequence[str], weight: str | None) -> list[tuple[list[Fraction], list[list[Fraction]]]]:
    """Per group, in their order: means and centred cross-products of the doubles as they are, without rounding."""
    found = []
    for _, group in frame.groupby("g"):
        weights = [Fraction(value) for value in (np.ones(len(group)) if weight is None else group[weight])]
        values = [[Fraction(value) for value in group[name]] for name in columns]
        means = [sum(w * v for w, v in zip(weights, own, strict=True)) / sum(weights) for own in values]
        centred = [[v - mean for v in own] for own, mean in zip(values, means, strict=True)]
        found.append((means, [[sum(w * a * b for w, a, b in zip(weights, one, two, strict=True)) for two in centred] for one in centred]))
    return found


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("weight", [None, "w"])
def test_moments_are_those_of_exact_arithmetic(weight: str | None, levels: list[float], tmp_path: Path) -> None:
    frame = rows(levels)
    cells = cells_of(frame, f"y{'' if weight is None else ' | weights(w)'} ~ 1 + x + (1 | g)", tmp_path)
    for place, (means, cross) in zip(np.argsort(cells.groups["g"].codes), exact(frame, ["x", "y"], weight), strict=True):
        sizes = [float(value[at]) for at, value in enumerate(cross)]
        for i, mean in enumerate(means):
            assert abs(Fraction(cells.mean[place, i]) - mean) <= abs(mean) * Fraction(4e-16) + Fraction(1e-15)
            for j in range(len(means)):
                assert float(Fraction(cells.cross[place, i, j]) - cross[i][j]) == pytest.approx(
                    0.0, abs=1e-12 * np.sqrt(sizes[i] * sizes[j])
                )


@pytest.mark.parametrize("response", ["y", "y | weights(w)"])
def test_what_does_not_vary_within_a_cell_has_moments_of_zero(response: str, tmp_path: Path) -> None:
    frame = rows([0.1, 1e8 + 0.1, 3.3e15])
    g = np.arange(N) % 50
    cells = cells_of(frame.assign(g=g.astype(str), flat=0.1 + g / 7 + 1e6 * (g % 3)), f"{response} ~ 1 + flat + x + (1 | g)", tmp_path)
    at = cells.features.index("flat")
    assert (cells.cross[:, at] == 0.0).all()
    assert set(np.unique(cells.mean[:, at])) == {0.1 + one / 7 + 1e6 * (one % 3) for one in range(50)}


@pytest.mark.parametrize("function", ["center", "scale"])
def test_means_and_sds_over_all_rows_keep_their_digits(function: str, tmp_path: Path) -> None:
    frame = rows([1e8, 1e8 + 1.0, 1e8 - 2.0])
    cells = cells_of(frame, f"y ~ 1 + {function}(x) + (1 | g)", tmp_path)
    values = [Fraction(value) for value in frame.x]
    mean = sum(values) / N
    sd = float(sum((value - mean) ** 2 for value in values) / (N - 1)) ** 0.5 if function == "scale" else 1.0
    expected = [float(sum(Fraction(v) for v in group.x) / len(group) - mean) / sd for _, group in frame.groupby("g")]
    # the mean over all rows is a double, half of 1.5e-8 from the true one
    np.testing.assert_allclose(cells.mean[np.argsort(cells.groups["g"].codes), 0], expected, rtol=1e-9, atol=0.8e-8)


@pytest.mark.parametrize("n", [20, pytest.param(60, marks=pytest.mark.operations)])
def test_a_weighted_formula_of_many_numeric_terms_is_planned_in_seconds(n: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    terms = [f"x{i}" for i in range(n)]
    frame = pd.DataFrame(rng.normal(size=(400, n)), columns=terms).assign(
        y=rng.normal(size=400), w=rng.uniform(0.5, 2, 400), g=np.arange(400) % 5
    )
    started = time.process_time()
    cells = cells_of(frame, f"y | weights(w) ~ {' + '.join(terms)} + (1 | g)", tmp_path)
    assert time.process_time() - started < 5
    of_first = frame[frame.g == 0]
    about = of_first[terms] - np.average(of_first[terms], axis=0, weights=of_first.w)
    labels = cells.groups["g"]
    [place] = np.flatnonzero(labels.values[labels.codes] == "0")
    np.testing.assert_allclose(
        cells.cross[place, :n, :n], about.T.to_numpy() @ (about.to_numpy() * of_first.w.to_numpy()[:, None]), atol=1e-11
    )
