"""``observed_mean``, ``no_pooling_estimate`` and ``estimate`` of a level: what lies between them is mix, and pooling."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options


def rows(seed: int = 2, n: int = 1_200) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = rng.integers(0, 8, n)
    # groups buy from different categories: their plain means differ by mix
    h = np.minimum(rng.poisson(1.0 + g / 4), 5)
    x = rng.normal(size=n)
    eta = 0.4 * rng.normal(size=8)[g] + 0.6 * rng.normal(size=6)[h] + 0.3 * x
    frame = pd.DataFrame({"g": g, "h": h, "x": x, "half": x > 0})
    frame["y"] = 2.0 + eta + rng.normal(size=n)
    frame["bought"] = rng.random(n) < expit(eta)
    frame["count"] = rng.poisson(np.exp(eta))
    frame["spend"] = np.where(rng.random(n) < expit(1 + eta), np.exp(1 + eta + 0.5 * rng.normal(size=n)), 0.0)
    return frame


def fitted(formula: str, frame: pd.DataFrame, family: str = "gaussian", engine: Any = "likelihood", **options: Any) -> StudyFit:
    parsed = parse_formula(formula)
    return fit_study(parsed, cells_from_frame(parsed, frame, family), fit_options("s", date(2026, 1, 31), "r", engine, **options))


def levels(study: StudyFit, factor: str = "g") -> pd.DataFrame:
    table = study.tables["group_estimates"].to_pandas()
    return table[(table.grouping_factor == factor) & ~table.is_new].set_index("level")


def test_without_a_mix_no_pooling_is_the_plain_mean() -> None:
    frame = rows()
    study = fitted("y ~ 1 + (1 | g)", frame)
    table, grouped = levels(study), frame.groupby(frame.g.astype(str)).y
    np.testing.assert_allclose(table.observed_mean, grouped.mean(), rtol=1e-12)
    np.testing.assert_allclose(table.observed_std_error, grouped.sem(), rtol=1e-10)
    np.testing.assert_allclose(table.no_pooling_estimate, grouped.mean(), rtol=1e-9)
    assert study.fit is not None
    np.testing.assert_allclose(table.no_pooling_std_error, study.fit.sigma / np.sqrt(grouped.count()), rtol=1e-6)


def test_pooling_draws_towards_what_is_common_and_the_rest_is_mix() -> None:
    table = levels(fitted("y ~ x + (1 | g) + (1 | h)", rows()))
    pooled, free = table.estimate - table.estimate.mean(), table.no_pooling_estimate - table.no_pooling_estimate.mean()
    # with levels of similar size pooling shrinks every distance, by a share between 0 and 1
    assert ((pooled / free).to_numpy() > 0).all() and ((pooled / free).to_numpy() < 1).all()
    assert np.abs(table.observed_mean - table.no_pooling_estimate).max() > 3 * np.abs(table.estimate - table.no_pooling_estimate).max()


@pytest.mark.parametrize("shift", [5.0, 1e6])
@pytest.mark.parity
def test_a_slopes_origin_changes_nothing(shift: float) -> None:
    frame = rows()
    near, far = (levels(fitted("y ~ x + (1 + x | g) + (1 | h)", frame.assign(x=frame.x + by))) for by in (0.0, shift))
    np.testing.assert_allclose(far.no_pooling_estimate, near.no_pooling_estimate, atol=1e-6)
    np.testing.assert_allclose(far.no_pooling_std_error, near.no_pooling_std_error, rtol=1e-5)


def test_shares_are_averaged_over_the_common_mix() -> None:
    frame = rows()
    study = fitted("bought ~ half + (1 | g) + (1 | h)", frame, "binomial")
    assert study.fit is not None
    from multilevel.pooling.free_intercepts import free_intercepts

    found = free_intercepts(study.fit, "g")
    assert found is not None
    design, coefficients = study.fit.design, found.fit.joint.mean
    p, effects = len(design.population), dict(zip("gh", np.split(coefficients[len(design.population) :], [8]), strict=True))
    places = {name: {level: at for at, level in enumerate(block.factor.levels)} for name, block in zip("gh", design.blocks, strict=True)}
    common = coefficients[0] + coefficients[p - 1] * frame.half + frame.h.astype(str).map(places["h"]).map(dict(enumerate(effects["h"])))
    expected = [expit(common + effects["g"][places["g"][level]]).mean() for level in levels(study).index]
    np.testing.assert_allclose(levels(study).no_pooling_estimate, expected, rtol=1e-9)


def test_levels_that_all_bought_or_never_did_have_none_and_the_reason_is_said() -> None:
    frame = rows()
    frame.loc[frame.g == 3, "bought"] = True
    study = fitted("bought ~ 1 + (1 | g) + (1 | h)", frame, "binomial")
    table = levels(study)
    assert table.no_pooling_estimate.isna().tolist() == [level == "3" for level in table.index]
    said = {row["check"]: row["message"] for row in study.tables["diagnostics"].to_pylist()}
    assert said["no_pooling_averages[g]"].startswith("1 of 8 levels of g")


@pytest.mark.parity
def test_both_parts_of_a_hurdle_are_free_at_once() -> None:
    table = levels(fitted("spend ~ 1 + (1 | g) + (1 | h)", rows(), "hurdle_lognormal"))
    assert table.no_pooling_estimate.notna().all() and (table.no_pooling_std_error > 0).all()
    np.testing.assert_allclose(table.observed_mean, rows().groupby("g").spend.mean(), rtol=1e-12)


@pytest.mark.parity
def test_both_engines_agree_where_the_variances_are_known_well() -> None:
    frame = rows(n=6_000)
    ours, theirs = (levels(fitted("y ~ x + (1 | g) + (1 | h)", frame, engine=engine)) for engine in ("likelihood", "bayesian"))
    np.testing.assert_allclose(theirs.no_pooling_estimate, ours.no_pooling_estimate, atol=0.01)
    np.testing.assert_allclose(theirs.no_pooling_std_error, ours.no_pooling_std_error, rtol=0.1)


def test_a_level_without_its_own_slope_has_an_average() -> None:
    frame = rows()
    frame.loc[frame.g == 4, "half"] = False
    table = levels(fitted("y ~ half + (1 + half | g) + (1 | h)", frame))
    assert table.no_pooling_estimate.notna().all()
