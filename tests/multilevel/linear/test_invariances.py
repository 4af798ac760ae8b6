"""What must not matter does not: order of rows, names of levels, partitions of the rows, units of outcome and predictor."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multilevel.cells.from_rows import cells_from_frame
from multilevel.cells.merge import merge_cells
from multilevel.cells.statistics import CellStatistics
from multilevel.design.build import build_design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear

FORMULA = parse_formula("y ~ 1 + x + (1 | g) + (1 + x | h)")
FEW = settings(max_examples=6, deadline=None, derandomize=True)
# the optimum is found to about 1e-8 of the criterion's curvature, the rest is rounding of other sums
SAME = 1e-5


def rows(seed: int, family: str = "gaussian", n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, h, x = rng.integers(6, size=n), rng.integers(9, size=n), rng.integers(4, size=n) / 2
    eta = 0.4 + 0.3 * x + rng.normal(0, 0.5, 6)[g] + rng.normal(0, 0.4, 9)[h] + rng.normal(0, 0.3, 9)[h] * x
    y = eta + rng.normal(size=n) if family == "gaussian" else rng.poisson(np.exp(eta))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{i}" for i in g], "h": [f"h{i}" for i in h]})


def cells(frame: pd.DataFrame, family: str) -> CellStatistics:
    return cells_from_frame(FORMULA, frame, family)


def fit_of(statistics: CellStatistics) -> Fit:
    design = build_design(FORMULA, statistics)
    return fit_linear(design) if statistics.family == "gaussian" else fit_generalised(design, statistics.family)


def level_effects(fit: Fit, renamed: dict[str, str] | None = None) -> dict[tuple[str, str, str], float]:
    """Conditional modes by factor, level (as it was called) and term."""
    values = fit.joint.mean[len(fit.design.population) :]
    found = {}
    for start, block in zip(fit.design.starts, fit.design.blocks, strict=True):
        for level, name in enumerate(block.factor.levels):
            for at, column in enumerate(block.columns):
                called = renamed.get(name, name) if renamed else name
                found[block.factor.name, called, column.label] = values[start + level * len(block.columns) + at]
    return found


def agree(one: Fit, other: Fit, renamed: dict[str, str] | None = None) -> None:
    assert other.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-6)
    assert other.joint.mean[:2] == pytest.approx(one.joint.mean[:2], rel=SAME, abs=SAME)
    for first, second in zip(one.components, other.components, strict=True):
        assert second.estimate == pytest.approx(first.estimate, rel=1e-4, abs=1e-4)
    first_effects, second_effects = level_effects(one), level_effects(other, renamed)
    assert set(first_effects) == set(second_effects)
    for key, value in first_effects.items():
        assert second_effects[key] == pytest.approx(value, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("family", ["gaussian", pytest.param("poisson", marks=pytest.mark.parity)])
@given(seed=st.integers(0, 10_000))
@FEW
def test_order_of_rows_and_names_of_levels_do_not_matter(family: str, seed: int) -> None:
    frame = rows(seed, family)
    rng = np.random.default_rng(seed)
    new = {name: f"n{place:02d}" for place, name in zip(rng.permutation(15), sorted({*frame["g"], *frame["h"]}), strict=False)}
    changed = frame.sample(frac=1, random_state=seed).replace({"g": new, "h": new})
    agree(fit_of(cells(frame, family)), fit_of(cells(changed, family)), {after: before for before, after in new.items()})


@pytest.mark.parametrize("family", ["gaussian", pytest.param("poisson", marks=pytest.mark.parity)])
@given(seed=st.integers(0, 10_000), parts=st.integers(2, 5))
@FEW
def test_cells_of_partitions_merge_to_the_same_fit(family: str, seed: int, parts: int) -> None:
    frame = rows(seed, family)
    part = np.random.default_rng(seed).integers(parts, size=len(frame))
    split = [cells(frame[part == number], family) for number in range(parts)]
    agree(fit_of(cells(frame, family)), fit_of(merge_cells(split)))


@given(seed=st.integers(0, 10_000), shift=st.floats(-1e4, 1e4), scale=st.sampled_from([1e-3, 0.5, 20.0, 1e4]))
@FEW
def test_units_of_the_outcome_move_the_estimates_and_nothing_else(seed: int, shift: float, scale: float) -> None:
    frame = rows(seed)
    one = fit_of(cells(frame, "gaussian"))
    other = fit_of(cells(frame.assign(y=shift + scale * frame["y"]), "gaussian"))
    assert other.joint.mean[1:] / scale == pytest.approx(one.joint.mean[1:], rel=1e-3, abs=1e-4)
    assert (other.joint.mean[0] - shift) / scale == pytest.approx(one.joint.mean[0], rel=1e-4, abs=1e-5 + 1e-9 * abs(shift) / scale)
    assert other.sigma / scale == pytest.approx(one.sigma, rel=SAME)
    # REML's density changes by the Jacobian of n - p rows
    assert other.reml_criterion - one.reml_criterion == pytest.approx(2 * (len(frame) - 2) * np.log(scale), abs=1e-5)


@pytest.mark.parametrize("family", ["gaussian", pytest.param("poisson", marks=pytest.mark.parity)])
@given(seed=st.integers(0, 10_000), unit=st.sampled_from([(-5.0, 2.0), (3.0, 50.0), (60.0, 50.0), (0.0, 0.01)]))
@FEW
def test_units_of_the_predictor_move_its_slope_and_nothing_else(family: str, seed: int, unit: tuple[float, float]) -> None:
    """(1 + x | h) with its correlation is the same model in any units of x (as long as x is not nearly a constant beside its size)."""
    shift, scale = unit
    frame = rows(seed, family)
    one = fit_of(cells(frame, family))
    other = fit_of(cells(frame.assign(x=shift + scale * frame["x"]), family))
    assert other.log_likelihood == pytest.approx(one.log_likelihood - (np.log(scale) if family == "gaussian" else 0.0), abs=1e-4)
    assert other.joint.mean[1] * scale == pytest.approx(one.joint.mean[1], rel=1e-3, abs=1e-4)
    assert other.joint.mean[0] + other.joint.mean[1] * shift == pytest.approx(one.joint.mean[0], rel=1e-3, abs=1e-3)
