"""A likelihood of many rows is the sum of its parts, whatever they are."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from multilevel.families import likelihood_parts
from multilevel.families.likelihood import rounding_of_decrement, rounding_of_value
from multilevel.families.likelihood_parts import LikelihoodInParts, likelihood_of, rounding_of_newton, value_and_rounding
from multilevel.families.outcome import Outcome
from multilevel.families.registry import family_named

N = 1_000
FAMILIES = ("binomial", "poisson", "negative_binomial", "gamma")


def outcome(family: str) -> Outcome:
    rng = np.random.default_rng(8)
    size = rng.integers(1, 6, N).astype(np.float64)
    y = {"binomial": rng.binomial(size.astype(np.int64), 0.4), "gamma": rng.gamma(2.0 * size)}.get(family, rng.poisson(size)).astype(
        np.float64
    )
    histogram = np.column_stack(np.unique(y, return_counts=True)).astype(np.float64)
    once = {"log_binomial": 1.5, "log_factorial": 2.5, "sum_log_outcome": float(np.log(y + 1.0).sum())}
    return Outcome(family_named(family), y, size, size, int(size.sum()), once=once, histogram=histogram)


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_that_of_all_rows_at_once(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood_parts, "ROWS", 96)
    monkeypatch.setattr(likelihood_parts, "MANY", 200)
    rows = outcome(family)
    whole, found = rows.family.likelihood(rows), likelihood_of(rows)
    assert isinstance(found, LikelihoodInParts)
    assert len(found.parts) == 11
    eta = np.random.default_rng(9).normal(scale=3.0, size=N)
    np.testing.assert_array_equal(found.terms(eta, 0.3), whole.terms(eta, 0.3))
    np.testing.assert_array_equal(found.gross(eta, 0.3), whole.gross(eta, 0.3))
    for name in ("score", "weight", "weight_slope"):
        np.testing.assert_array_equal(getattr(found.curvature(eta, 0.3), name), getattr(whole.curvature(eta, 0.3), name))
    weight = whole.curvature(eta, 0.3).weight
    value, rounding = value_and_rounding(found, eta, 0.3)
    assert value == pytest.approx(float(whole.terms(eta, 0.3).sum()), rel=1e-12)
    assert rounding == pytest.approx(rounding_of_value(whole, eta, 0.3), rel=1e-12)
    assert rounding_of_newton(found, eta, 0.3, weight) == pytest.approx(rounding_of_decrement(whole, eta, 0.3, weight), rel=1e-12)
    assert (found.constant(0.3), found.typical_predictor(), found.has_dispersion) == (
        whole.constant(0.3),
        whole.typical_predictor(),
        whole.has_dispersion,
    )
    np.testing.assert_array_equal(found.by_dispersion(eta, 0.3).terms, whole.by_dispersion(eta, 0.3).terms)


def test_few_rows_are_one_part() -> None:
    rows = outcome("poisson")
    assert not isinstance(likelihood_of(rows), LikelihoodInParts)


def test_what_overflows_is_ignored_in_every_thread_as_its_caller_ignores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood_parts, "ROWS", 96)
    monkeypatch.setattr(likelihood_parts, "MANY", 200)
    found = likelihood_of(outcome("poisson"))
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("error")
        value, _ = value_and_rounding(found, np.full(N, 800.0), 0.0)
    assert value == -np.inf
