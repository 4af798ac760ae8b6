"""A search that begins where that of another day ended is shorter, and ends where it would have ended."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear
from multilevel.linear.neighbour import Neighbour
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options


def month(seed: int, sd: float = 0.7) -> pd.DataFrame:
    """One month of a shop: its group effects are the same every month, its line items are drawn anew."""
    shop, rng = np.random.default_rng(4), np.random.default_rng([4, seed])
    a, b, x = rng.integers(20, size=1500), rng.integers(12, size=1500), rng.normal(size=1500)
    eta = 0.3 + 0.2 * x + sd * shop.normal(size=20)[a] + (0.5 * shop.normal(size=12))[b] + (0.3 * shop.normal(size=12))[b] * x
    counts = rng.negative_binomial(3, 3 / (3 + np.exp(eta)))
    return pd.DataFrame({"a": a.astype(str), "b": b.astype(str), "x": x, "y": eta + rng.normal(size=1500), "k": counts, "s": counts > 0})


def design_of(frame: pd.DataFrame, left: str, family: str, right: str = "x + (1 | a) + (1 + x | b)") -> Design:
    formula = parse_formula(f"{left} ~ 1 + {right}")
    return build_design(formula, cells_from_frame(formula, frame.assign(x=frame.x.round(1)), family))


def fitted(frame: pd.DataFrame, family: str, near: Neighbour | None = None) -> Fit:
    if family == "gaussian":
        return fit_linear(design_of(frame, "y", family), near=near)
    return fit_generalised(design_of(frame, "s" if family == "binomial" else "k", family), family, near=near)


@pytest.mark.parametrize("family", ["gaussian", "binomial", "negative_binomial"])
def test_the_search_is_shorter_and_finds_the_same(family: str) -> None:
    before = Neighbour.of_fit(fitted(month(1), family))
    assert before is not None
    assert Neighbour.of_json(json.loads(json.dumps(before.to_json()))) == before
    alone, beside = fitted(month(2), family), fitted(month(2), family, before)
    assert before.is_of(alone.design)
    assert beside.record["evaluations"] < alone.record["evaluations"]
    assert beside.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-6)
    for own, other in zip(beside.components, alone.components, strict=True):
        assert own.estimate == pytest.approx(other.estimate, rel=2e-4, abs=1e-5)


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_a_variance_that_vanished_may_come_back(family: str) -> None:
    nothing = fitted(month(1, sd=0.0), family)
    gone = Neighbour.of_fit(nothing)
    assert gone is not None
    gone = replace(gone, theta=(0.0, *gone.theta[1:]))
    alone, beside = fitted(month(2), family), fitted(month(2), family, gone)
    assert alone.components[0].estimate > 0.4
    assert beside.components[0].estimate == pytest.approx(alone.components[0].estimate, rel=2e-4)


def test_a_study_with_other_terms_begins_by_itself() -> None:
    before = Neighbour.of_fit(fitted(month(1), "gaussian"))
    assert before is not None
    assert not before.is_of(design_of(month(2), "y", "gaussian", "x + (1 | a)"))
    formula = parse_formula("y ~ 1 + x + (1 | a)")
    cells = cells_from_frame(formula, month(2), "gaussian")
    records = [
        fit_study(formula, cells, fit_options("s", date(2026, 1, 31), "r", "likelihood", near=near)).report["fit_record"]
        for near in ({}, {"": before})
    ]
    assert records[0]["evaluations"] == records[1]["evaluations"]


def test_each_part_of_two_begins_at_its_own() -> None:
    frame = month(2).assign(y=np.where(month(2).s, np.exp(month(2).y), 0.0))
    formula = parse_formula("y ~ 1 + (1 | a)")
    cells = cells_from_frame(formula, frame, "hurdle_lognormal")
    options = ("s", date(2026, 1, 31), "r", "likelihood")
    alone = fit_study(formula, cells, fit_options(*options))
    near = {str(part.part): found for part in alone.parts if (found := Neighbour.of_fit(part.fit))}
    assert set(near) == {"occurrence", "amount"}
    beside = fit_study(formula, cells, fit_options(*options, near=near))
    for own, other in zip(beside.parts, alone.parts, strict=True):
        assert own.fit.record["evaluations"] < other.fit.record["evaluations"]
        assert own.fit.log_likelihood == pytest.approx(other.fit.log_likelihood, abs=1e-6)
