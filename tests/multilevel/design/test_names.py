"""Names that two things of a study would share in the tables are refused before anything is fitted."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.checks import check_design
from multilevel.errors import DataError, FitError, FormulaError, StudyError
from multilevel.estimands.new_levels import NewLevel
from multilevel.formula.parse import parse_formula
from multilevel.study.designs import check_asked


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ 1 + (1 | `g:h`) + (1 | g:h)", "two grouping factors are both written g:h.*Rename the column `g:h`"),
        ("y ~ 1 + (1 | `a:b`:c) + (1 | a:`b:c`)", "two grouping factors are both written a:b:c"),
        ("y ~ 1 + Intercept + (1 | g)", "two terms are both written Intercept.*the model's own intercept.*Rename the column `Intercept`"),
        ("y ~ 0 + Intercept + (0 + Intercept | g)", "both written Intercept"),
        ("y ~ 1 + (0 + Intercept | g)", "both written Intercept"),
        ("y ~ x * z + `x:z` + (1 | g)", "two terms are both written x:z.*Rename the column `x:z`"),
        ("y ~ x * z + (0 + `x:z` | g)", "two terms are both written x:z"),
        ("y ~ log(x) + `log(x)` + (1 | g)", r"two predictors are both written log\(x\).*Rename the column `log\(x\)`"),
        ("y ~ log(x):`log(x)` + (1 | g)", "two predictors"),
        ("y ~ 1 + (1 + log(x) + `log(x)` | g)", "two predictors"),
        ("y ~ 1 + (1 | residual)", "cannot be a grouping factor too"),
    ],
)
def test_a_formula_that_gives_two_things_one_name_is_refused(formula: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        parse_formula(formula)


@pytest.mark.parametrize(
    "formula", ["y ~ x + x + (1 | g)", "y ~ sigma + (1 + sigma | g)", "y ~ x + I(x) + (x | g)", "y ~ x:z + z:x + (1 | g / h)"]
)
def test_what_is_written_twice_and_means_the_same_is_no_clash(formula: str) -> None:
    parse_formula(formula)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(16)
    at = np.arange(96)
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=96),
            "x": rng.normal(size=96),
            "g": np.array(list("abcdef"))[at % 6],
            "h": np.array(list("WXYZ"))[at // 6 % 4],
        }
    )
    frame["h[X]"], frame["x:h[X]"] = rng.normal(size=96), rng.normal(size=96)
    frame["a"], frame["b"], frame["c"] = (
        np.array(levels)[at % len(levels)] for levels in (["x", "x:y"], ["y:z", "z", "q"], ["m", "n", "o", "p", "q"])
    )
    return frame


def check(formula: str, rows: pd.DataFrame) -> None:
    parsed = parse_formula(formula)
    check_design(parsed, build_design(parsed, cells_from_frame(parsed, rows, "gaussian")))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ h + `h[X]` + (1 | g)", r"both be written h\[X\]"),
        ("y ~ h + (1 + `h[X]` | g)", r"both be written h\[X\]"),
        ("y ~ x * h + `x:h[X]` + (1 | g)", r"both be written x:h\[X\]"),
        ("y ~ 1 + (1 | a:b)", "levels of a:b are written alike in the tables: x:y:z"),
        ("y ~ 1 + (1 | a:b:c)", "levels of a:b:c are written alike"),
    ],
)
def test_labels_that_levels_make_alike_are_refused(formula: str, message: str, rows: pd.DataFrame) -> None:
    with pytest.raises(FitError, match=message):
        check(formula, rows)


def test_colons_in_labels_are_fine_where_nothing_meets(rows: pd.DataFrame) -> None:
    check("y ~ x + `h[X]` + (1 | a:h) + (1 | b)", rows)


def test_values_that_are_one_text_are_refused() -> None:
    frame = pd.DataFrame({"y": [1.0, 2.0, 3.0], "g": np.array([1, "1", "2"], dtype=object)})
    with pytest.raises(DataError, match="g: different values are the same as text"):
        cells_from_frame(
            parse_formula("y ~ 1 + (1 | g)"), frame.iloc[[0, 1, 2]].assign(g=pd.Categorical(frame["g"])).astype({"g": object}), "gaussian"
        )


def test_a_new_level_is_named_once(rows: pd.DataFrame) -> None:
    parsed = parse_formula("y ~ x + (1 | g)")
    design = build_design(parsed, cells_from_frame(parsed, rows, "gaussian"))
    check_asked(design, (NewLevel("g", "new"), NewLevel("g", "newer")), None)
    with pytest.raises(StudyError, match="the level 'new' of g twice"):
        check_asked(design, (NewLevel("g", "new"), NewLevel("g", "new")), None)
