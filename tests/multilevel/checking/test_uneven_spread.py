"""Levels whose line items vary more than others' are seen; levels that vary alike, and heavy tails in all of them, are not."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.checking.model_comparison import fit_by_likelihood
from multilevel.checking.omitted_terms import omitted_terms
from multilevel.checking.uneven_spread import _traces, uneven_spread
from multilevel.design.build import build_design
from multilevel.design.nesting import nesting
from multilevel.fit.container import Check
from multilevel.formula.parse import parse_formula
from tests.faulty_shops import KINDS, Fault, faulty_shop


def checks_of(formula: str, family: str, frame: pd.DataFrame) -> dict[str, Check]:
    parsed = parse_formula(formula)
    fit = fit_by_likelihood(build_design(parsed, cells_from_frame(parsed, frame, family)), 0)
    tree = nesting(fit.design)
    return {check.check: check for check in uneven_spread(fit, tree, omitted_terms(fit, tree))}


@pytest.mark.parametrize("kind", ["gaussian", "log(y)", "gamma"])
def test_a_factor_whose_levels_vary_differently_is_named_and_the_other_is_not(kind: str) -> None:
    own = KINDS[kind]
    found = checks_of(own.formula, own.family, faulty_shop(kind, Fault(uneven=2.0), 0))
    assert [check.check for check in found.values() if not check.passed] == ["uneven_spread[g]"]
    assert found["uneven_spread[g]"].value == pytest.approx(np.log(2) / 2, rel=0.25)
    assert "p < 1e-12" in found["uneven_spread[g]"].message
    assert ("weights(w)" in found["uneven_spread[g]"].message) == (kind == "gaussian")
    assert all(check.passed for check in checks_of(own.formula, own.family, faulty_shop(kind, Fault(), 0)).values())


def test_weights_and_studies_of_their_own_mend_it() -> None:
    frame = faulty_shop("gaussian", Fault(uneven=2.0), 1)
    variance = (frame.y - frame.groupby(["g", "h", "x"]).y.transform("mean")).groupby(frame.g).transform("var")
    weighted = checks_of(KINDS["gaussian"].formula.replace("y ~", "y | weights(w) ~"), "gaussian", frame.assign(w=1 / variance))
    assert all(check.passed for check in weighted.values())
    even = frame.g.astype(int) % 2 == 0
    for half in (frame[even], frame[~even]):
        found = checks_of(KINDS["gaussian"].formula, "gaussian", half.reset_index(drop=True))
        assert all(check.passed for check in found.values())


def test_a_spread_that_grows_with_the_mean_asks_for_another_scale() -> None:
    frame = faulty_shop("gamma", Fault(), 3)
    found = checks_of(KINDS["gamma"].formula, "gaussian", frame)
    assert "write log(y) ~, or family: gamma. In detail" in found["uneven_spread[g]"].message
    assert all(check.passed for check in checks_of(KINDS["gamma"].formula, "gamma", frame).values())


def test_heavy_tails_that_all_levels_have_are_no_difference_between_them() -> None:
    rng = np.random.default_rng(5)
    frame = faulty_shop("gaussian", Fault(), 4)
    found = checks_of(KINDS["gaussian"].formula, "gaussian", frame.assign(y=rng.standard_t(5, len(frame))))
    assert all(check.passed for check in found.values())


def test_a_missing_slope_is_to_be_mended_first() -> None:
    found = checks_of(KINDS["gaussian"].formula, "gaussian", faulty_shop("gaussian", Fault(slope=1.0), 0))
    assert "mend omitted_slope[x, g] first" in found["uneven_spread[g]"].message


def test_few_rows_tell_nothing_and_counts_have_no_spread_of_their_own() -> None:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"h": np.repeat(["a", "b", "c"], 5), "y": rng.poisson(2.0, 15).astype(float)})
    few = checks_of("y ~ 1 + (1 | h)", "gaussian", frame)
    assert few["uneven_spread[h]"].value is None
    assert few["uneven_spread[h]"].message.startswith("not calculated")
    assert checks_of("y ~ 1 + (1 | h)", "poisson", frame) == {}


def test_the_traces_are_those_of_the_covariance() -> None:
    variance, d = np.random.default_rng(1).gamma(2.0, size=(2, 7))
    left = np.sqrt(np.outer(d, d)) * (np.diag(variance) - np.outer(variance, variance) / variance.sum())
    by_hand = [np.trace(np.linalg.matrix_power(left, power)) for power in (1, 2, 3)]
    np.testing.assert_allclose(_traces(variance, d), by_hand, rtol=1e-12)


def test_sixty_thousand_levels_need_no_square_of_them() -> None:
    rng = np.random.default_rng(2)
    g, h = np.repeat(np.arange(60_000), 2), np.tile(["a", "b"], 60_000)
    frame = pd.DataFrame({"g": g.astype(str), "h": h, "y": rng.normal(size=60_000)[g] + rng.normal(size=120_000)})
    found = checks_of("y ~ 1 + h + (1 | g)", "gaussian", frame)
    assert found["uneven_spread[g]"].passed
    assert found["uneven_spread[g]"].value == pytest.approx(0.0, abs=0.1)


def test_levels_of_single_cells_may_have_heavy_tails() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat(np.arange(30), 20).astype(str), "y": rng.standard_t(3, 600)})
    check = checks_of("y ~ 1 + (1 | g)", "gaussian", frame)["uneven_spread[g]"]
    assert check.value is None
    assert "heavy tails" in check.message
