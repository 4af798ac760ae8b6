"""What is kept of a fit: its file, contrasts and predictions against the fit itself and against the published tables."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.special import expit, logit, ndtr

from multilevel.cells.from_rows import cells_from_frame, schema_of_frame
from multilevel.design.effect_rows import deviation_rows
from multilevel.design.group_predictors import column_values
from multilevel.design.nesting import nesting
from multilevel.errors import DataError, StudyError
from multilevel.fit.interval_estimates import combined
from multilevel.formula.parse import parse_formula
from multilevel.prediction.coefficient_contrast import level_contrasts
from multilevel.prediction.prediction_rows import At, needs
from multilevel.prediction.row_predictions import predict
from multilevel.prediction.save_model import save_model
from multilevel.prediction.saved_model import SavedModel
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

AS_OF = datetime.date(2026, 11, 1)
CROSSED = "~ 1 + (1 | region) + (1 | department/category)"
SLOPES = (
    "y ~ size * scale(x) + I(x^2) + bin(z, 0.5) + within(z, region) + between(z, region) + C(week)"
    " + (1 + x | region) + (0 + size | category)"
)


def shop(n: int = 3_000, seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    region, category = rng.integers(0, 6, n), rng.integers(0, 12, n)
    effect = np.random.default_rng(1).normal(0, 0.5, 18)
    eta = 0.4 + effect[region] + effect[6 + category] + np.array([0.0, 0.8, -0.6])[category // 4]
    frame = pd.DataFrame(
        {
            "region": region + 10,
            "category": [f"c{i:02d}" for i in category],
            "department": [f"d{i // 4}" for i in category],
            "size": rng.choice(["L", "M", "S"], n),
            "week": rng.integers(1, 4, n),
            "x": rng.normal(2.0, 1.0, n),
            "z": rng.normal(0.1 * region, 1.0, n),
        }
    )
    y = eta + 0.3 * frame.x + 0.2 * (frame["size"] == "S") + rng.normal(0, 0.8, n)
    amount = np.where(rng.random(n) < expit(eta), rng.gamma(2.0, np.exp(eta) / 2.0), 0.0)
    return frame.assign(y=y, spend=np.exp(y), sold=(rng.random(n) < expit(eta)).astype(int), items=rng.poisson(np.exp(eta)), amount=amount)


def fitted(formula: str, family: str, frame: pd.DataFrame, engine: str = "likelihood", **options: object) -> StudyFit:
    parsed = parse_formula(formula)
    return fit_study(parsed, cells_from_frame(parsed, frame, family), fit_options("shop", AS_OF, "run", engine, **options))


def kept(fit: StudyFit, formula: str, frame: pd.DataFrame, family: str) -> list[SavedModel]:
    moments = schema_of_frame(parse_formula(formula), frame, family).moments
    models = [save_model(part, formula, moments=moments, fills={}) for part in fit.parts]
    return [model for model in models if model is not None]


def at(models: Sequence[SavedModel], frame: pd.DataFrame) -> At:
    wanted = needs(models[0], list(frame.columns))
    texts = {name: [None if pd.isna(value) else str(value) for value in frame[name]] for name in wanted.texts}
    return At(len(frame), texts, {name: frame[name].to_numpy(np.float64) for name in wanted.numbers})


def table(fit: StudyFit, name: str) -> pd.DataFrame:
    return pd.DataFrame(fit.tables[name].to_pylist())


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return shop()


@pytest.fixture(scope="module")
def gaussian(frame: pd.DataFrame) -> StudyFit:
    return fitted(f"y {CROSSED}", "gaussian", frame)


@pytest.fixture(scope="module")
def model(gaussian: StudyFit, frame: pd.DataFrame) -> SavedModel:
    return kept(gaussian, f"y {CROSSED}", frame, "gaussian")[0]


@pytest.mark.parametrize(("response", "family"), [("y", "gaussian"), ("sold", "binomial"), ("items", "poisson")])
def test_the_kept_root_gives_the_variance_of_any_combination(response: str, family: str, frame: pd.DataFrame) -> None:
    fit = fitted(f"{response} {CROSSED}", family, frame)
    model = kept(fit, f"{response} {CROSSED}", frame, family)[0]
    rows = csr_array(np.random.default_rng(2).normal(size=(40, len(model.mean))))
    assert fit.fit is not None
    wanted = combined(fit.fit, rows)
    np.testing.assert_allclose(rows @ model.mean, wanted.estimate, rtol=1e-12)
    np.testing.assert_allclose(model.std_error(rows), wanted.std_error, rtol=1e-9)
    assert (wanted.std_error > fit.fit.joint.combine(rows, 0.95).std_error).all(), "the variances are uncertain"


def test_a_contrast_is_that_of_the_joint_distribution(gaussian: StudyFit, model: SavedModel) -> None:
    fit = gaussian.fit
    assert fit is not None
    tree = nesting(fit.design)
    rows = deviation_rows(fit.design, tree.lineage("region"), "Intercept")
    wanted = combined(fit, csr_array(rows[[2]] - rows[[0]]))
    [found] = level_contrasts(model, "12", "10")
    assert found.estimate == pytest.approx(wanted.estimate[0], rel=1e-10)
    assert found.std_error == pytest.approx(wanted.std_error[0], rel=1e-9)
    assert (found.lower, found.upper) == pytest.approx((wanted.lower[0], wanted.upper[0]), rel=1e-9)
    assert found.probability_greater == pytest.approx(ndtr(wanted.estimate[0] / wanted.std_error[0]), abs=1e-6)
    assert found.ratio is None


def test_a_contrast_is_narrower_than_two_intervals_of_levels_that_share_a_parent(gaussian: StudyFit, model: SavedModel) -> None:
    groups = table(gaussian, "group_coefficients").query("grouping_factor == 'department:category' and not is_new")
    apart = np.hypot(*groups[groups.level.isin(["c00", "c01"])].std_error)
    [found] = level_contrasts(model, "c00", "d0:c01")
    assert found.std_error < 0.7 * apart


def test_a_contrast_the_other_way_round_is_its_negative(model: SavedModel) -> None:
    [one], [other] = level_contrasts(model, "d0", "d2"), level_contrasts(model, "d2", "d0")
    assert (one.estimate, one.lower, one.upper) == pytest.approx((-other.estimate, -other.upper, -other.lower))
    assert one.probability_greater == pytest.approx(1.0 - float(other.probability_greater or 0.0))


def test_a_ratio_is_given_under_a_log_link(frame: pd.DataFrame) -> None:
    formula = f"log(spend) {CROSSED}"
    fit = fitted(formula, "gaussian", frame)
    [found] = level_contrasts(kept(fit, formula, frame, "gaussian")[0], "12", "10")
    assert found.ratio == pytest.approx(tuple(np.exp([found.estimate, found.lower, found.upper])))


@pytest.mark.parametrize(
    ("levels", "factor", "complaint"),
    [
        (("12", "nowhere"), None, "No grouping factor has the level 'nowhere'"),
        (("12", "C01"), None, "did you mean 'c01'"),
        (("12", "c01"), None, "levels of different factors"),
        (("12", "10"), "county", "--factor county: the study's grouping factors are region, department"),
        (("12", "99"), "region", "region has no level '99'"),
    ],
)
def test_a_contrast_of_what_does_not_exist_is_refused(
    model: SavedModel, levels: tuple[str, str], factor: str | None, complaint: str
) -> None:
    with pytest.raises(StudyError, match=complaint):
        level_contrasts(model, *levels, factor)


def test_a_level_under_several_parents_asks_for_its_parent(frame: pd.DataFrame) -> None:
    formula = "y ~ 1 + (1 | department/size)"
    found = kept(fitted(formula, "gaussian", frame), formula, frame, "gaussian")[0]
    with pytest.raises(StudyError, match="write one of: d0:L, d1:L, d2:L"):
        level_contrasts(found, "L", "d0:M")
    assert level_contrasts(found, "d0:L", "d0:M")[0].grouping_factor == "department:size"


def test_levels_of_two_factors_ask_for_the_factor(frame: pd.DataFrame) -> None:
    doubled = frame.assign(store=frame.region)
    doubled.loc[::7, "store"] = 10
    formula = "y ~ 1 + (1 | region) + (1 | store)"
    found = kept(fitted(formula, "gaussian", doubled), formula, doubled, "gaussian")[0]
    with pytest.raises(StudyError, match="levels of region, store: choose one with --factor"):
        level_contrasts(found, "12", "11")
    assert level_contrasts(found, "12", "11", "store")[0].grouping_factor == "store"


OUTCOMES = [("y", "gaussian"), ("log(spend)", "gaussian"), ("sold", "binomial"), ("items", "poisson"), ("amount", "hurdle_gamma")]


def with_engines(outcomes: list[tuple[str, str]]) -> list[object]:
    """Each outcome with both engines; where the sampler has to compile, in the parity lane."""
    compiled = [pytest.param(*outcome, "bayesian", marks=[] if outcome[1] == "gaussian" else [pytest.mark.parity]) for outcome in outcomes]
    return [*((*outcome, "likelihood") for outcome in outcomes), *compiled]


@pytest.mark.parametrize(("response", "family", "engine"), with_engines(OUTCOMES))
def test_predictions_are_the_published_cells(response: str, family: str, engine: str, frame: pd.DataFrame) -> None:
    """Without other predictors the expected outcome of a pair of levels is what cell_estimates says of it."""
    formula = f"{response} ~ 1 + (1 | region) + (1 | category)"
    sampling = {"chains": 2, "draws": 500, "tune": 500}
    fit = fitted(
        formula, family, frame, engine, cells_pair=("region", "category"), **({"sampling": sampling} if engine == "bayesian" else {})
    )
    cells = table(fit, "cell_estimates").query("not is_new")
    models = kept(fit, formula, frame, family)
    rows = cells.rename(columns={"customer_group": "region", "product_group": "category"})[["region", "category"]]
    found, is_new = predict(models, at(models, rows))
    assert not is_new.any()
    # draws are kept in single precision
    np.testing.assert_allclose(found.estimate, cells.estimate, rtol=2e-3 if engine == "bayesian" else 1e-6)
    # log(y): the tables stretch an interval by sigma's error, here it is drawn; otherwise the same draws in other order of summing
    near = 0.1 if response == "log(spend)" else 0.02
    for name in ("std_error", "lower", "upper"):
        np.testing.assert_allclose(getattr(found, name), cells[name], rtol=near if engine == "bayesian" else 1e-3)


@pytest.mark.parametrize(("response", "family", "engine"), with_engines([("y", "gaussian"), ("sold", "binomial"), ("items", "poisson")]))
def test_a_group_never_seen_is_predicted_as_the_tables_do(response: str, family: str, engine: str, frame: pd.DataFrame) -> None:
    formula = f"{response} ~ 1 + (1 | region)"
    sampling = {"sampling": {"chains": 2, "draws": 1_000, "tune": 500}} if engine == "bayesian" else {}
    fit = fitted(formula, family, frame, engine, **sampling)
    wanted = table(fit, "group_estimates").query("is_new").iloc[0]
    models = kept(fit, formula, frame, family)
    found, is_new = predict(models, at(models, pd.DataFrame({"region": [None, "ATLANTIS"]})))
    assert is_new.all()
    np.testing.assert_allclose(found.estimate, wanted.estimate, rtol=5e-3)
    # an sd between six regions has a heavy tail: the tables' own draws and these agree to its noise, and exp() of it has no sd at all
    if family != "poisson" or engine == "likelihood":
        np.testing.assert_allclose(found.std_error, wanted.std_error, rtol=0.15)
    link = {"gaussian": np.asarray, "binomial": logit, "poisson": np.log}[family]
    lower, upper = link(wanted.lower), link(wanted.upper)
    near = 0.1 * (upper - lower)  # the outer quantiles of either set of draws have an error of a few hundredths of the interval
    np.testing.assert_allclose(link(found.lower), lower, atol=near, rtol=0)
    np.testing.assert_allclose(link(found.upper), upper, atol=near, rtol=0)


def test_every_kind_of_predictor_is_evaluated_as_the_fit_did(frame: pd.DataFrame) -> None:
    """Averaged over the rows of a cell, predictions are the cell's fitted value: linear in every column."""
    fit = fitted(SLOPES, "gaussian", frame)
    models = kept(fit, SLOPES, frame, "gaussian")
    assert fit.fit is not None
    design, mean = fit.fit.design, fit.fit.joint.mean
    p = len(design.population)
    wanted = sum(column_values(design, column) * mean[place] for place, column in enumerate(design.population))
    for block, start in zip(design.blocks, design.starts, strict=True):
        places = p + start + block.factor.codes * len(block.columns)
        wanted = wanted + sum(column_values(design, column) * mean[places + k] for k, column in enumerate(block.columns))
    found, _ = predict(models, at(models, frame))
    overall = np.average(wanted, weights=design.cells.n)
    assert found.estimate.mean() == pytest.approx(overall, rel=1e-9)
    by_region = pd.Series(found.estimate).groupby(frame.region.to_numpy()).mean()
    codes = design.blocks[0].factor.codes
    cells = np.bincount(codes, design.cells.n * wanted) / np.bincount(codes, design.cells.n)
    np.testing.assert_allclose(by_region, cells, rtol=1e-9)


def test_a_new_level_under_a_known_parent_keeps_the_parents_effect(model: SavedModel) -> None:
    rows = pd.DataFrame({"region": ["12"] * 3, "department": ["d0", "d0", "d1"], "category": ["c00", "nothing like it", "nothing like it"]})
    found, is_new = predict([model], at([model], rows))
    assert list(is_new) == [False, True, True]
    assert found.std_error[1] > 2 * found.std_error[0]
    [difference] = level_contrasts(model, "d0", "d1")
    assert found.estimate[1] - found.estimate[2] == pytest.approx(difference.estimate, rel=1e-9)


def test_numbers_name_levels_however_they_are_written(model: SavedModel) -> None:
    rows = pd.DataFrame({"region": ["12", "12.0", "1.2e1"], "department": "d0", "category": "c00"})
    found, is_new = predict([model], at([model], rows))
    assert not is_new.any()
    assert np.ptp(found.estimate) == 0.0


def test_a_mean_of_a_level_never_seen_must_be_given(frame: pd.DataFrame) -> None:
    formula = "y ~ between(z, region) + (1 | region)"
    models = kept(fitted(formula, "gaussian", frame), formula, frame, "gaussian")
    with pytest.raises(DataError, match="add a column named `between\\(z, region\\)`"):
        predict(models, at(models, pd.DataFrame({"region": ["99"], "z": [0.1]})))
    given = pd.DataFrame({"region": ["99"], "between(z, region)": [0.1]})
    found, _ = predict(models, at(models, given))
    beta = dict(zip(models[0].population, models[0].mean, strict=False))
    assert found.estimate[0] == pytest.approx(beta["Intercept"] + 0.1 * beta["between(z, region)"])


def test_an_offset_moves_the_prediction(frame: pd.DataFrame) -> None:
    exposed = frame.assign(visits=np.random.default_rng(3).integers(1, 5, len(frame)))
    formula = "items ~ 1 + offset(log(visits)) + (1 | region)"
    models = kept(fitted(formula, "poisson", exposed), formula, exposed, "poisson")
    found, _ = predict(models, at(models, pd.DataFrame({"region": ["12", "12"], "visits": [1.0, 3.0]})))
    assert found.estimate[1] == pytest.approx(3.0 * found.estimate[0])


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"size": ["XL"]}, "size is 'XL', which the fit has not seen; it has L, M, S"),
        ({"size": [None]}, "size is None"),
        ({"x": [np.nan]}, "`x` is missing or not finite"),
        ({"x": [np.inf]}, "is missing or not finite"),
    ],
)
def test_a_row_that_cannot_be_predicted_is_named(changed: dict[str, list[object]], complaint: str, frame: pd.DataFrame) -> None:
    formula = "y ~ x + size + (1 | region)"
    models = kept(fitted(formula, "gaussian", frame), formula, frame, "gaussian")
    good = pd.DataFrame({"region": ["12"], "x": [1.0], "size": ["M"]})
    with pytest.raises(DataError, match=complaint):
        predict(models, at(models, pd.concat([good, good.assign(**changed)])))


def test_another_interval_is_narrower(model: SavedModel) -> None:
    rows = at([model], pd.DataFrame({"region": ["12"], "department": ["d0"], "category": ["c00"]}))
    (wide, _), (narrow, _) = predict([model], rows), predict([model], rows, interval=0.5)
    assert (narrow.upper - narrow.lower)[0] == pytest.approx((wide.upper - wide.lower)[0] * 0.67449 / 1.95996, rel=1e-2)
