"""A predictor whose slope turns round between groups is pointed out before anyone trusts its one coefficient."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.formula.parse import parse_formula
from multilevel.interpretation.unsplit_slopes import slopes_of, unsplit_warnings
from multilevel.tables.nesting import nesting


def simpson(between: float) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(20), 40)
    centre = np.linspace(-3, 3, 20)[group]
    x = centre + rng.normal(size=800)
    y = 1.0 * (x - centre) + between * centre + rng.normal(size=800) * 0.5
    return pd.DataFrame({"g": [f"group {i:02d}" for i in group], "x": x, "y": y})


def test_both_slopes_from_the_cells_are_those_of_the_rows() -> None:
    frame = simpson(-2.0)
    formula = parse_formula("y ~ x + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, frame, "gaussian"))
    slopes = slopes_of(design, design.population[1], design.blocks[0].factor)
    means = frame.groupby("g")[["x", "y"]].mean()
    centred = frame[["x", "y"]] - frame.groupby("g")[["x", "y"]].transform("mean")
    assert slopes is not None
    assert slopes.within == pytest.approx(np.polyfit(centred.x, centred.y, 1)[0])
    assert slopes.between == pytest.approx(np.polyfit(means.x, means.y, 1)[0])
    assert slopes.pooled == pytest.approx(np.polyfit(frame.x, frame.y, 1)[0])


@pytest.mark.parametrize(("between", "warned"), [(-2.0, True), (2.0, False)])
def test_only_opposite_directions_are_warned_of(between: float, warned: bool) -> None:
    formula = parse_formula("y ~ x + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, simpson(between), "gaussian"))
    warnings = unsplit_warnings(design, nesting(design))
    assert bool(warnings) is warned
    if warned:
        assert "within(x, g) + between(x, g)" in warnings[0].message


def test_a_predictor_that_the_formula_splits_is_left_to_its_own_check() -> None:
    formula = parse_formula("y ~ x + between(x, g) + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, simpson(-2.0), "gaussian"))
    assert unsplit_warnings(design, nesting(design)) == []
