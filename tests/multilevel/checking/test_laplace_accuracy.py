"""Laplace's approximation is found to be off where it is: shops drawn with NumPy, whose pairs have few line items or many."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.checking.laplace_accuracy import laplace_accuracy
from multilevel.fit.container import Check, Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.study.designs import study_parts

CATEGORIES, SD = 30, 1.5
PAIRS = "y ~ 1 + (1 | c) + (1 | k) + (1 | c:k)"


def _shop(customers: int, rows: int) -> pd.DataFrame:
    """Customers crossed with categories, ``rows`` yes-or-no line items a pair, whose effects have the sd ``SD``."""
    rng = np.random.default_rng(1)
    c, k = np.repeat(np.arange(customers), CATEGORIES * rows), np.tile(np.repeat(np.arange(CATEGORIES), rows), customers)
    pair = rng.normal(0, SD, customers * CATEGORIES)
    eta = -1.5 + rng.normal(0, 0.8, customers)[c] + rng.normal(0, 1, CATEGORIES)[k] + pair[c * CATEGORIES + k]
    bought = rng.random(len(c)) < 1 / (1 + np.exp(-eta))
    return pd.DataFrame({"c": pd.Series(c).map("c{:03d}".format), "k": pd.Series(k).map("k{:02d}".format), "y": bought.astype(float)})


def _fit(formula: str, shop: pd.DataFrame, **options: int) -> Fit:
    parsed = parse_formula(formula)
    return fit_generalised(study_parts(parsed, cells_from_frame(parsed, shop, "binomial"))[0].design, "binomial", **options)


def _by_name(fit: Fit) -> dict[str, Check]:
    return {check.check: check for check in laplace_accuracy(fit)}


def test_few_line_items_a_level_are_seen() -> None:
    fit = _fit(PAIRS, _shop(150, 5))
    found = _by_name(fit)
    pairs = found.pop("laplace_accuracy[c:k]")
    fitted = next(own.estimate for own in fit.components if own.grouping_factor == "c:k")
    assert fitted < 0.97 * SD
    # one step towards what was drawn
    assert not pairs.passed
    assert pairs.value == pytest.approx(SD / fitted - 1, abs=0.03)
    assert all(check.passed and abs(check.value or 1.0) < 0.002 for check in found.values())


def test_leaving_the_term_out_mends_it_as_advised() -> None:
    assert all(check.passed for check in laplace_accuracy(_fit("y ~ 1 + (1 | c) + (1 | k)", _shop(150, 5))))


def test_many_line_items_a_level_pass() -> None:
    assert all(check.passed for check in laplace_accuracy(_fit(PAIRS, _shop(60, 60))))


@pytest.mark.parametrize("category", ["k03", "k05"])
def test_a_step_leads_to_what_quadrature_finds(category: str) -> None:
    shop = _shop(300, 10).loc[lambda own: own.k == category]
    laplace, quadrature = (_fit("y ~ 1 + (1 | c)", shop, quadrature_points=points) for points in (1, 9))
    [check] = laplace_accuracy(laplace)
    ratio = quadrature.components[0].estimate / laplace.components[0].estimate
    assert ratio > 1.02
    assert check.value == pytest.approx(ratio - 1, abs=0.002)
    assert laplace_accuracy(quadrature) == []
