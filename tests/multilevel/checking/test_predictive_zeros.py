"""Zeros for nothing are seen, also behind a fitted dispersion, and the advice is a family that has as many."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.checking.model_comparison import fit_by_likelihood
from multilevel.checking.omitted_terms import omitted_terms
from multilevel.checking.predictive import predictive_checks
from multilevel.design.build import build_design
from multilevel.design.nesting import nesting
from multilevel.fit.container import Check, Fit
from multilevel.formula.parse import parse_formula
from tests.faulty_shops import FORMULA, Fault, faulty_shop


def fit_of(frame: pd.DataFrame, family: str, formula: str = FORMULA) -> Fit:
    parsed = parse_formula(formula)
    return fit_by_likelihood(build_design(parsed, cells_from_frame(parsed, frame, family)), 0)


def zeros_of(fit: Fit) -> Check:
    return {check.check: check for check in predictive_checks(fit, 0, omitted_terms(fit, nesting(fit.design)))}["predictive_zeros"]


@pytest.mark.parametrize(
    ("kind", "family", "fault", "advice"),
    [
        ("poisson", "poisson", Fault(), None),
        ("poisson", "poisson", Fault(zeros=0.3), "hurdle_gamma"),
        ("negative_binomial", "negative_binomial", Fault(), None),
        ("negative_binomial", "negative_binomial", Fault(zeros=0.3), "hurdle_gamma"),
        ("negative_binomial", "poisson", Fault(), "write family: negative_binomial"),
        ("poisson", "poisson", Fault(interaction=0.5), "mend omitted_interaction[g, h] first"),
    ],
)
def test_too_many_zeros_are_seen_and_the_advice_follows_from_them(kind: str, family: str, fault: Fault, advice: str | None) -> None:
    found = zeros_of(fit_of(faulty_shop(kind, fault, 0), family))
    assert found.passed == (advice is None)
    assert advice is None or advice in found.message
    assert "p " in found.message


def test_rows_of_zero_that_the_source_has_not_are_asked_for() -> None:
    frame = faulty_shop("poisson", Fault(), 1)
    found = zeros_of(fit_of(frame[frame.y > 0].reset_index(drop=True), "poisson"))
    assert not found.passed
    assert found.message.endswith("are rows of zero missing from the source?")


def test_zeros_of_rows_with_exposures_are_expected_by_them() -> None:
    rng = np.random.default_rng(2)
    g, days = np.repeat(np.arange(20), 100), rng.choice([1.0, 5.0], 2000)
    rate = np.exp(-0.5 + rng.normal(0, 0.4, 20)[g])
    frame = pd.DataFrame({"g": g.astype(str), "log_days": np.log(days), "y": rng.poisson(rate * days)})
    found = zeros_of(fit_of(frame, "poisson", "y ~ 1 + offset(log_days) + (1 | g)"))
    assert found.passed
    assert found.value == pytest.approx(1.0, abs=0.1)


def test_what_fitting_takes_up_is_taken_off_the_variance() -> None:
    """Of Poisson counts with one mean the zeros vary by N p (1 - p - p mean), not by N p (1 - p)."""
    rng = np.random.default_rng(3)
    left = [(y := rng.poisson(1.0, 500), np.sum(y == 0) - 500 * np.exp(-y.mean()))[1] for _ in range(4000)]
    p = np.exp(-1.0)
    assert np.var(left) == pytest.approx(500 * p * (1 - p - p), rel=0.1)
    frame = pd.DataFrame({"g": np.tile(["a", "b", "c", "d"], 500), "y": rng.poisson(1.0, 2000)})
    found = zeros_of(fit_of(frame, "poisson", "y ~ 1 + (1 | g)"))
    assert found.threshold == pytest.approx(1 + 3.29 * np.sqrt(2000 * p * (1 - p - p)) / (2000 * p), rel=0.02)


def test_few_zeros_that_nothing_expects_do_not_matter_and_many_do() -> None:
    """Counts of about eight have hardly any zeros by chance: 0.2 % of them are a curiosity, 2 % are not."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(20), 250)
    frame = pd.DataFrame({"g": g.astype(str), "y": rng.poisson(2.0 * np.exp(rng.normal(0, 0.2, 20))[g])})
    for share, passed in ((0.002, True), (0.02, False)):
        y = np.where(rng.random(len(g)) < share, 0, frame.y + 6)
        found = zeros_of(fit_of(frame.assign(y=y), "poisson", "y ~ 1 + (1 | g)"))
        assert found.passed == passed
        assert found.value is not None
        assert found.threshold is not None
        assert (found.value <= found.threshold) == passed
