"""Natural-scale means of log(y) are told off where outcomes are not lognormal, and left alone where they are."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.checking.model_comparison import fit_by_likelihood
from multilevel.design.build import build_design
from multilevel.design.nesting import nesting
from multilevel.estimands.level_variance import level_variance
from multilevel.fit.container import Check
from multilevel.fit.residuals import expected_residual_ss
from multilevel.formula.parse import parse_formula
from multilevel.study.lognormal_shape import lognormal_shape
from tests.faulty_shops import LOG_FORMULA, Fault, faulty_shop

PUBLISHED = pa.table({"estimate": [2.0, 4.0, None], "std_error": [0.06, 0.12, None]})


def check_of(frame: pd.DataFrame, formula: str = LOG_FORMULA, *, is_part: bool = False) -> Check:
    parsed = parse_formula(formula)
    fit = fit_by_likelihood(build_design(parsed, cells_from_frame(parsed, frame, "gaussian")), 0)
    tree = nesting(fit.design)
    variance = level_variance(fit.design.cells.n, expected_residual_ss(fit.design, fit.joint), dict(tree.factors))
    [found] = lognormal_shape(fit, tree, variance, PUBLISHED, is_part=is_part)
    return found


def test_gamma_outcomes_are_seen_and_the_gap_is_what_their_shape_makes() -> None:
    found = check_of(faulty_shop("log(y)", Fault(instead="gamma"), 0))
    assert not found.passed
    assert found.message.endswith("write family: gamma, with y for log(y)")
    assert "p < 1e-12" in found.message
    # of shape 1 / 0.7^2: exp(digamma(a) - log a + trigamma(a) / 2) = 1.0492
    assert found.value == pytest.approx((1 - 1 / 1.0492) / 0.03, rel=0.15)
    assert check_of(faulty_shop("log(y)", Fault(instead="gamma"), 0), is_part=True).message.endswith("family: hurdle_gamma")


@pytest.mark.parametrize("fault", [Fault(), Fault(uneven=2.0), Fault(interaction=0.5)])
def test_lognormal_outcomes_pass_whatever_else_is_wrong(fault: Fault) -> None:
    found = check_of(faulty_shop("log(y)", fault, 1))
    assert found.passed
    assert found.value == pytest.approx(0.0, abs=0.3)


def test_the_variance_under_the_model_is_that_of_lognormal_rows() -> None:
    rng = np.random.default_rng(8)
    residual = rng.normal(0, 0.8, 2_000_000)
    left = np.exp(residual - 0.32) - 1 - residual - (residual**2 - 0.64) / 2
    assert left.var() == pytest.approx(np.expm1(0.64) - 0.64 - 0.64**2 / 2, rel=0.05)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rows": 150}, "too few line items"),
        ({"scale": 4.0}, "a sigma above 1.5"),
        ({"formula": "log(y) ~ 1 + x + offset(x) + (1 | g) + (1 | h)"}, "the formula has an offset"),
        ({"formula": "log(y) | weights(w) ~ 1 + x + (1 | g) + (1 | h)"}, "line items have weights"),
    ],
)
def test_where_the_shape_cannot_be_seen_the_row_says_why(change: dict, why: str) -> None:
    frame = faulty_shop("log(y)", Fault(), 2)
    frame = frame.assign(y=frame.y ** change.get("scale", 1.0), w=1.0 + frame.x)
    frame = frame.sample(change.get("rows", len(frame)), random_state=1).reset_index(drop=True)
    found = check_of(frame, change.get("formula", LOG_FORMULA))
    assert found.value is None
    assert found.passed
    assert found.message.startswith(f"not calculated: {why}")
