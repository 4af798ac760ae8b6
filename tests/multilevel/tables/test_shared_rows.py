"""What levels share of their averages is solved for once: the numbers are those of all coefficients entry by entry."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.nesting import nesting
from multilevel.estimands import probabilities
from multilevel.estimands.level_comparison import compare_levels
from multilevel.estimands.one_response import OneResponse
from multilevel.estimands.standardise import Standardisation, standardise
from multilevel.fit.container import Fit
from multilevel.fit.shared_rows import as_csr, mean_row
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear

FORMULA = "{} ~ 1 + sale + (1 | band/customer) + (1 + sale | category)"
OUTCOMES = {"gaussian": "spend", "poisson": "count", "binomial": "kept"}


@cache
def fitted(family: str) -> Fit:
    rng = np.random.default_rng(3)
    n = 3_000
    customer, category, sale = rng.integers(0, 400, n), rng.integers(0, 6, n), rng.integers(0, 2, n)
    eta = 0.3 * rng.normal(size=8)[customer % 8] + 0.5 * rng.normal(size=400)[customer] + rng.normal(size=6)[category] + 0.2 * sale
    rows = pd.DataFrame({"band": customer % 8, "customer": customer, "category": category, "sale": sale})
    rows["spend"], rows["count"] = eta + rng.normal(size=n), rng.poisson(np.exp(eta / 2))
    rows["kept"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    formula = parse_formula(FORMULA.format(OUTCOMES[family]))
    design = build_design(formula, cells_from_frame(formula, rows, family))
    return fit_linear(design) if family == "gaussian" else fit_generalised(design, family)


def averages(family: str, name: str) -> Standardisation:
    fit = fitted(family)
    tree = nesting(fit.design)
    return standardise(OneResponse.of_fit(fit), tree, next(factor for factor in tree.factors if factor.endswith(name)), None)


@pytest.mark.parametrize("family", [pytest.param(name, marks=() if name == "gaussian" else pytest.mark.parity) for name in OUTCOMES])
@pytest.mark.parametrize("name", ["customer", "category"])
def test_variances_are_those_of_all_entries(family: str, name: str) -> None:
    joint = fitted(family).joint
    for [gradients] in averages(family, name).gradient_chunks():
        whole, centre = as_csr(gradients), mean_row(gradients)
        assert gradients.own.nnz < whole.nnz
        np.testing.assert_allclose(centre.toarray(), whole.mean(axis=0)[None, :], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(joint.combine(gradients, 0.95).std_error, joint.combine(whole, 0.95).std_error, rtol=1e-9)
        np.testing.assert_allclose(joint.spread_about(gradients, centre), joint.spread_about(whole, centre), rtol=1e-9)
        expected = (whole - csr_array(np.ones((whole.shape[0], 1))) @ centre).toarray()
        covariance = joint.covariance_about(gradients, centre)
        probes = np.random.default_rng(1).normal(size=(5, len(expected)))
        variances = joint.combine(csr_array(probes @ expected), 0.95).std_error ** 2
        np.testing.assert_allclose(np.einsum("pi,ij,pj->p", probes, covariance, probes), variances, rtol=1e-9)


def test_ranks_of_many_levels_beside_many_coefficients_come_from_their_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    standard = averages("gaussian", "customer")
    told = standard.respond()
    error = np.zeros(len(told.estimate))

    def ranks() -> tuple[np.ndarray, np.ndarray]:
        return compare_levels(standard, told, error, lambda: pytest.fail("levels were taken as independent"), None, 7).ranks

    of_draws = ranks()
    monkeypatch.setattr(probabilities, "_MOST_VALUES", 1)
    for drawn, known in zip(of_draws, ranks(), strict=True):
        # the 2.5 % point of a thousand draws is known to eight ranks of four hundred
        assert np.corrcoef(drawn, known)[0, 1] > 0.99
        assert abs(np.mean(drawn - known)) < 2.0
