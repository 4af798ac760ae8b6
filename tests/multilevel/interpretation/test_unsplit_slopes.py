"""A predictor whose slope turns round between groups is pointed out before anyone trusts its one coefficient."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.nesting import nesting
from multilevel.formula.parse import parse_formula
from multilevel.interpretation.unsplit_slopes import reversal_warnings, slopes_of, unsplit_warnings
from multilevel.pooling.extremes import fit_complete, fit_no_pooling

BERKELEY = {  # Bickel, Hammel and O'Connell (1975): admitted and applicants, men then women
    "A": (512, 825, 89, 108),
    "B": (353, 560, 17, 25),
    "C": (120, 325, 202, 593),
    "D": (138, 417, 131, 375),
    "E": (53, 191, 94, 393),
    "F": (22, 373, 24, 341),
}


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


def admissions(departments: dict[str, tuple[int, int, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(name, sex, k, n) for name, (m, of_m, w, of_w) in departments.items() for sex, k, n in (("men", m, of_m), ("women", w, of_w))],
        columns=["department", "applicant", "admitted", "applied"],
    )


@pytest.mark.parametrize(("departments", "warned"), [(BERKELEY, True), ({name: BERKELEY[name] for name in "CDEF"}, False)])
def test_a_direction_that_grouping_turns_round_is_pointed_out_for_counts_too(departments: dict, warned: bool) -> None:
    formula = parse_formula("p(admitted, applied) ~ applicant + (1 | department)")
    design = build_design(formula, cells_from_frame(formula, admissions(departments), "binomial"))
    warnings = reversal_warnings(design, fit_complete(design, "binomial"), {"department": fit_no_pooling(design, "binomial", 0).fit})
    assert bool(warnings) is warned
    if warned:
        # as R's glm has them: -0.61035 without departments, 0.09987 (0.08085) with
        assert "its coefficient is -0.6104, within levels of department 0.09987 (standard error 0.081" in warnings[0].message
        assert warnings[0].check == "opposite_slopes[applicant[women], department]"
        assert not warnings[0].passed


def test_without_complete_pooling_nothing_is_turned_round() -> None:
    formula = parse_formula("p(admitted, applied) ~ applicant + (1 | department)")
    design = build_design(formula, cells_from_frame(formula, admissions(BERKELEY), "binomial"))
    assert reversal_warnings(design, None, {}) == []
