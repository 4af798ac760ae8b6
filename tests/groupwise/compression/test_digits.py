"""Digits of outcomes far from zero: kept, or refused before anything is fitted."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from groupwise.compression.compress import compress_rows
from multilevel.cells.files import read_cells
from multilevel.design.build import build_design
from multilevel.errors import DataError
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.linear.linear_engine import fit_linear

N = 400
MICROSECONDS = 1_700_000_000_000_000
"""Of a day in 2023, since 1970."""


def rows() -> pd.DataFrame:
    """Eight groups; moments spread over some seconds, in whole microseconds since midnight."""
    rng = np.random.default_rng(0)
    g = np.arange(N) % 8
    moment = (rng.normal(0, 1e6, N) + rng.normal(0, 1e6, 8)[g]).round().astype(np.int64)
    return pd.DataFrame({"g": g.astype(str), "moment": moment, "w": np.ones(N)})


def fitted(frame: pd.DataFrame, formula: str, folder: Path) -> Fit:
    connection = duckdb.connect()
    connection.register("frame", frame)
    parsed = parse_formula(formula)
    made = compress_rows(connection, "select * from frame", parsed, "gaussian", folder)
    return fit_linear(build_design(parsed, read_cells(made.cells_path, made.spec_path)))


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | g)", "y | weights(w) ~ 1 + (1 | g)"])
def test_microseconds_since_1970_keep_their_digits(formula: str, tmp_path: Path) -> None:
    frame = rows()
    near = fitted(frame.assign(y=frame.moment), formula, tmp_path / "near")
    far = fitted(frame.assign(y=frame.moment + MICROSECONDS), formula, tmp_path / "far")
    assert far.sigma == pytest.approx(near.sigma, rel=1e-6)
    assert far.components[0].estimate == pytest.approx(near.components[0].estimate, rel=1e-6)
    assert far.joint.mean[0] - MICROSECONDS == pytest.approx(near.joint.mean[0], abs=1.0)


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | g)", "w ~ 1 + y + (1 | g)", "w ~ 1 + I(y / 1000) + (1 | g)"])
def test_nanoseconds_since_1970_are_refused_with_what_to_write(formula: str, tmp_path: Path) -> None:
    frame = rows().assign(y=lambda known: (known.moment + MICROSECONDS) * 1000 + 7)
    with pytest.raises(DataError, match=r"`y` has more digits than a double holds .* Subtract a typical value"):
        fitted(frame, formula, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_large_whole_numbers_that_only_group_are_no_numbers(tmp_path: Path) -> None:
    frame = rows().assign(g=lambda known: known.g.astype(np.int64) + 2**62 + 1)
    fitted(frame.assign(y=frame.moment), "y ~ 1 + (1 | g)", tmp_path)


def test_means_of_many_values_far_from_zero_are_compensated_sums(tmp_path: Path) -> None:
    connection = duckdb.connect()
    connection.execute("create table t as select (i % 4)::varchar as g, 1e8 + (i % 1000) / 1000.0::double as y from range(400000) r(i)")
    parsed = parse_formula("y ~ 1 + (1 | g)")
    made = compress_rows(connection, "select * from t", parsed, "gaussian", tmp_path)
    cells = read_cells(made.cells_path, made.spec_path)
    expected = [1e8 + np.mean([(i % 1000) / 1000.0 for i in range(start, 400000, 4)]) for start in range(4)]
    # a double next to 1e8 is 1.5e-8 away
    np.testing.assert_allclose(cells.mean[np.argsort(cells.groups["g"].codes), -1], expected, rtol=0, atol=3.1e-8)
