"""Levels in which nothing was ever above zero: they have an amount drawn from the distribution of amounts, wherever they stand."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from multilevel.catalogue.published_tables import check_table
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.model import Factor
from multilevel.errors import FitError
from multilevel.estimands.level_variance import level_variance
from multilevel.formula.parse import parse_formula
from multilevel.prediction.coefficient_contrast import level_contrasts
from multilevel.prediction.prediction_rows import At
from multilevel.prediction.row_predictions import predict
from multilevel.prediction.save_model import save_model
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

HURDLES = ["hurdle_lognormal", "hurdle_gamma"]
EMPTY: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "the first level": lambda d: d.r == "r0",
    "one between": lambda d: d.r == "r2",
    "the last level": lambda d: d.r == "r4",
    "all levels but two": lambda d: ~d.r.isin(["r1", "r3"]),
    "a whole parent": lambda d: d.dep == "d3",
    "a child of a parent that has some": lambda d: (d.dep == "d1") & (d.cat == "c2"),
}


def shop(empty: str) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    dep, cat, r = rng.integers(0, 4, 300), rng.integers(0, 3, 300), rng.integers(0, 5, 300)
    frame = pd.DataFrame({"dep": [f"d{at}" for at in dep], "cat": [f"c{at}" for at in cat], "r": [f"r{at}" for at in r]})
    frame["x"] = rng.integers(0, 3, 300).astype(float)
    amount = np.exp(1 + 0.2 * frame.x + 0.8 * rng.normal(size=5)[r] + rng.normal(0, 0.5, 300))
    frame["y"] = np.where(rng.random(300) < 0.5, amount, 0.0)
    frame.loc[EMPTY[empty](frame), "y"] = 0.0
    return frame


def study(frame: pd.DataFrame, text: str, family: str, engine: str = "likelihood", **options: object) -> StudyFit:
    formula = parse_formula(text)
    asked = fit_options("spend", datetime.date(2026, 11, 1), "run", engine, **options)  # type: ignore[arg-type]
    return fit_study(formula, cells_from_frame(formula, frame, family), asked)


@pytest.mark.parametrize("family", [HURDLES[0], pytest.param(HURDLES[1], marks=pytest.mark.parity)])
@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("text", ["y ~ x + (1 | r)", pytest.param("y ~ 1 + (1 | dep/cat) + (1 | r)", marks=pytest.mark.parity)])
def test_every_table_has_every_level(family: str, empty: str, text: str) -> None:
    frame = shop(empty)
    pair = ("dep", "r") if "dep" in text else None
    fit = study(frame, text, family, cells_pair=pair)
    assert [check_table(name, found) for name, found in fit.tables.items()] == [[]] * len(fit.tables)
    for name in ("group_estimates", "group_coefficients"):
        found = fit.tables[name].to_pandas()
        seen = found[~found.is_new & (found.grouping_factor == "r")]
        assert sorted(set(seen.level)) == sorted(set(frame.r))
        assert np.isfinite(seen[["estimate", "std_error", "lower", "upper"]].to_numpy(float)).all()
    kept = [save_model(part, text, moments={}, fills={}) for part in fit.parts]
    for model in kept:
        assert model is not None
        [contrast] = level_contrasts(model, "r0", "r4", "r")
        assert np.isfinite([contrast.estimate, contrast.lower, contrast.upper]).all()
    texts = {name: list(frame[name]) for name in ("dep", "cat", "r")}
    predicted, is_new = predict([model for model in kept if model], At(len(frame), texts, {"x": frame.x.to_numpy()}))
    assert np.isfinite(predicted.estimate).all()
    assert not is_new.any()


@pytest.mark.parametrize("family", HURDLES)
def test_the_amount_of_such_a_level_is_that_of_the_distribution(family: str) -> None:
    found = study(shop("the last level"), "y ~ x + (1 | r)", family).tables["group_coefficients"].to_pandas()
    rows = found[(found.part == "amount") & ~found.is_new].set_index("level")
    new = found[(found.part == "amount") & found.is_new].iloc[0]
    assert rows.deviation["r4"] == pytest.approx(0.0, abs=1e-9)
    assert rows.estimate["r4"] == pytest.approx(new.estimate)
    assert rows.std_error["r4"] == pytest.approx(new.std_error)
    assert rows.std_error["r4"] > rows.std_error.drop("r4").max()


@pytest.mark.parity
def test_the_bayesian_engine_has_it_too() -> None:
    fit = study(
        shop("the last level"), "y ~ 1 + (1 | r)", "hurdle_lognormal", "bayesian", sampling={"chains": 2, "draws": 200, "tune": 300}
    )
    found = fit.tables["group_estimates"].to_pandas()
    assert list(found.level[~found.is_new]) == ["r0", "r1", "r2", "r3", "r4"]
    assert np.isfinite(found[["estimate", "lower", "upper"]].to_numpy(float)).all()


def test_levels_without_rows_do_not_move_the_spread_of_log_variances() -> None:
    rng = np.random.default_rng(5)
    n, ss = np.full(12, 40), 40 * np.exp(rng.normal(0, 0.4, 12)) * 0.3
    codes = np.arange(12).astype(np.int32)
    few = level_variance(n, ss, {"g": Factor("g", ("g",), codes, np.array([f"{at}" for at in range(12)], object))})
    more = level_variance(n, ss, {"g": Factor("g", ("g",), codes, np.array([f"{at}" for at in range(30)], object))})
    assert more.omega["g"] == pytest.approx(few.omega["g"])
    assert more.effects["g"][:12] == pytest.approx(few.effects["g"])
    assert more.effects["g"][12:] == pytest.approx(0.0)
    assert (more.std_errors["g"][12:] > more.std_errors["g"][:12].max()).all()


def test_only_levels_with_amounts_need_rows_of_their_own() -> None:
    frame = shop("all levels but two")
    paid = frame[frame.y > 0]
    kept = paid.groupby("r").head(2).index  # four amounts, in two of five levels
    frame.loc[paid.index.difference(kept), "y"] = 0.0
    fit = study(frame, "y ~ 1 + (1 | r)", "hurdle_lognormal")
    assert [check_table(name, found) for name, found in fit.tables.items()] == [[]] * len(fit.tables)


@pytest.mark.parametrize("family", HURDLES)
def test_amounts_in_one_level_alone_say_nothing_of_how_levels_differ(family: str) -> None:
    frame = shop("all levels but two")
    frame.loc[frame.r == "r1", "y"] = 0.0
    with pytest.raises(FitError, match=r"r has one level \(r3\).*among the line items with an outcome above zero"):
        study(frame, "y ~ x + (1 | r)", family)


def test_amounts_whose_logarithms_spread_beyond_use_are_refused() -> None:
    frame = shop("the first level")
    frame["y"] = np.where(frame.y > 0, frame.y**60, 0.0)
    with pytest.raises(FitError, match="logarithm has a residual standard deviation of"):
        study(frame, "y ~ 1 + (1 | r)", "hurdle_lognormal")
