"""Intervals of shops with few or small groups hold the truth, in every table, contrast and prediction, beside those of an oracle.

Shops share no code with the model (``tests/few_group_shops.py``). Seeds are the numbers of the shops. The oracle is the same model with
its variance parameters known. ``CALIBRATION_SHOPS`` makes a lane shorter; a lane that was stopped goes on at the shop where it was.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from benchmarks._calibration_page import outside
from benchmarks._reliability_page import provenance
from multilevel.cells.from_rows import cells_from_frame
from multilevel.errors import FitError
from multilevel.estimands.fitted_part import FittedPart, expected_outcome
from multilevel.estimands.standardise import standardise
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.intervals.theta_models import LaplaceTheta, LinearTheta
from multilevel.linear.joint_normal import NormalJoint
from multilevel.linear.mapped_joint import mapped_joint
from multilevel.prediction.average_contrast import average_contrasts
from multilevel.prediction.prediction_rows import At
from multilevel.prediction.row_predictions import predict
from multilevel.prediction.save_model import save_model
from multilevel.prediction.saved_averages import saved_averages
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options
from tests.few_group_shops import DESIGNS, FewGroupShop, few_group_shop
from tests.shop_by_shop import shop_by_shop

type Engine = Literal["likelihood", "bayesian"]

SHOPS = {"likelihood": 1_000, "bayesian": 200}
MANY_LEVELS = 10


@dataclass(frozen=True)
class Interval:
    """One published interval, and whether it holds the truth. ``is_few`` : of a factor with fewer than ten levels."""

    kind: str
    is_few: bool
    covers: bool
    width: float


def intervals_of(shop: FewGroupShop, engine: Engine, seed: int) -> Iterator[Interval]:
    """Every interval of one shop's run; raises FitError where the run is refused."""
    design, parsed = shop.design, parse_formula(shop.design.formula)
    crossed = ("g", "h") if len(design.levels) > 1 else None
    sampled = ("member",) if design.member_sd is not None else ()
    options = fit_options("s", date(2026, 1, 31), "r", engine, seed=seed, cells_pair=crossed, sampled=sampled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit_study(parsed, cells_from_frame(parsed, shop.frame, design.family), options)
    yield from _of_tables(shop, found)
    yield from _of_contrasts(shop, found, sampled)
    if engine == "likelihood":
        yield from _of_oracle(shop, found)


def _interval(shop: FewGroupShop, kind: str, factor: str, truth: float, lower: float, upper: float) -> Interval:
    n_levels = shop.design.levels.get(factor, max(shop.design.levels.values()))
    return Interval(kind, n_levels < MANY_LEVELS, bool(lower <= truth <= upper), float(upper - lower))


def _of_tables(shop: FewGroupShop, found: StudyFit) -> Iterator[Interval]:
    truth = shop.truth
    for row in found.tables["group_estimates"].to_pylist():
        factor = row["grouping_factor"]
        if factor not in shop.design.levels:
            continue
        kind = "new group" if row["is_new"] else "group estimate"
        key = ("new", "", factor) if row["is_new"] else ("estimate", "", factor, row["level"])
        if key in truth:
            yield _interval(shop, kind, factor, truth[key], row["lower"], row["upper"])
        if ("population", "", factor, row["level"]) in truth and not row["is_new"]:
            value = truth["population", "", factor, row["level"]]
            yield _interval(shop, "population estimate", factor, value, row["population_lower"], row["population_upper"])
    for row in found.tables["group_coefficients"].to_pylist():
        key = ("deviation", row["part"] or "", row["grouping_factor"], row["level"], row["term"])
        if key in truth and not row["is_new"]:
            yield _interval(shop, "deviation", row["grouping_factor"], truth[key], row["deviation_lower"], row["deviation_upper"])
    for row in found.tables["population_coefficients"].to_pylist():
        key = ("coefficient", row["part"] or "", row["term"])
        if row["pooling"] == "partial" and key in truth:
            yield _interval(shop, "coefficient", "", truth[key], row["lower"], row["upper"])
    for row in found.tables["cell_estimates"].to_pylist():
        value = truth["cell", "", row["customer_group"], row["product_group"]]
        yield _interval(shop, "cell", "", value, row["lower"], row["upper"])


def _of_contrasts(shop: FewGroupShop, found: StudyFit, sampled: tuple[str, ...]) -> Iterator[Interval]:
    """Neighbouring levels of the first factor, one pair at a time, and a row of every level."""
    kept = [save_model(part, shop.design.formula, moments={}, fills={}) for part in found.parts]
    models = [model for model in kept if model is not None]
    assert found.tree is not None
    outcome = expected_outcome(found.parts)
    averages = saved_averages(outcome, found.tree, found.parts[-1].variance, models, found.tables["group_estimates"], sampled)
    of = "population" if sampled else "members"
    kind = "population" if sampled else "estimate"
    mine = next(each for each in averages if each.factor == "g" and each.of == of)
    for place in range(0, len(mine.levels) - 1, 2):
        names = [mine.levels[place], mine.levels[place + 1]]
        [pair] = average_contrasts(mine, [place, place + 1], names)
        difference = shop.truth[kind, "", "g", names[0]] - shop.truth[kind, "", "g", names[1]]
        yield _interval(shop, "contrast", "g", difference, pair.lower, pair.upper)
    levels = [key[2] for key in shop.truth if key[0] == "prediction"]
    if not levels:
        return
    texts = {"g": np.array(levels, dtype=object)}
    if "h" in shop.design.levels:
        texts["h"] = np.array(["000"] * len(levels), dtype=object)
    numbers = {} if shop.design.sides[0].slope is None else {"x": np.ones(len(levels))}
    summary, _ = predict(models, At(len(levels), texts, numbers))
    for level, lower, upper in zip(levels, summary.lower, summary.upper, strict=True):
        yield _interval(shop, "prediction", "g", shop.truth["prediction", "", level], lower, upper)


def _of_oracle(shop: FewGroupShop, found: StudyFit) -> Iterator[Interval]:
    """Group estimates where the variance parameters are known."""
    assert found.tree is not None
    known = [_known(part, shop, place) for place, part in enumerate(found.parts)]
    outcome = expected_outcome(known)
    for factor in shop.design.levels:
        levels, standard = found.tree.factors[factor].levels, standardise(outcome, found.tree, factor, known[-1].variance)
        told = standard.respond()
        for level, lower, upper in zip(levels, told.lower, told.upper, strict=True):
            yield _interval(shop, "oracle", factor, shop.truth["estimate", "", factor, level], lower, upper)


def _known(part: FittedPart, shop: FewGroupShop, place: int) -> FittedPart:
    """The part at its true variance parameters."""
    fit, plain, side = part.fit, part.fit.unit_free, shop.design.sides[place]
    assert plain is not None
    assert isinstance(plain.joint, NormalJoint)
    linear = fit.design.cells.has_moments
    model = LinearTheta.of(fit, plain.joint) if linear else LaplaceTheta(fit, 1)
    roots = []
    for block, own in zip(fit.design.blocks, plain.form.maps.blocks, strict=True):
        factor = block.factor.name
        if factor == "g:member":
            sds = [shop.design.member_sd]
        else:
            sds = [side.slope_sds[factor] if column.label == "x" else side.sds[factor] for column in block.columns]
        inverse = np.linalg.inv(own)
        covariance = inverse @ np.diag(np.square(np.array(sds, float))) @ inverse.T
        roots.append(np.linalg.cholesky(covariance))
    scale = shop.design.scale if model.coordinates.has_scale and shop.design.scale is not None else 1.0
    joint = model.joint(model.coordinates.of(roots, scale))
    known: Fit = replace(fit, joint=mapped_joint(joint, plain.form.maps), theta=None)
    return replace(part, fit=known)


def measured(name: str, engine: Engine, shops: int, kept: Path) -> dict[str, Any]:
    """Coverage by kind, with Monte Carlo errors between shops and the median width; how many runs were refused."""

    def of_shop(seed: int) -> list[tuple[str, bool, bool, float]] | None:
        try:
            return [(own.kind, own.is_few, own.covers, own.width) for own in intervals_of(few_group_shop(name, seed), engine, seed)]
        except FitError:
            return None

    found_shops = shop_by_shop(kept, shops, of_shop)
    refused = found_shops.count(None)
    rows = [(seed, *own) for seed, intervals in enumerate(found_shops) for own in intervals or ()]
    frame = pd.DataFrame(rows, columns=["shop", "kind", "is_few", "covers", "width"])
    found = []
    for (kind, is_few), own in frame.groupby(["kind", "is_few"]):
        by_shop = own.groupby("shop").covers.mean()
        error = float(by_shop.std() / np.sqrt(len(by_shop)))
        found.append(
            {"kind": kind, "is_few": bool(is_few), "covered": float(by_shop.mean()), "error": error, "width": float(own.width.median())}
        )
    return {"design": name, "engine": engine, "shops": shops, "refused": refused, "rows": found, **provenance()}


@pytest.mark.calibration
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("engine", ["likelihood", "bayesian"])
@pytest.mark.parametrize("name", DESIGNS)
def test_coverage(name: str, engine: Engine, figures: Path) -> None:
    slug = "".join(letter if letter.isalnum() else "_" for letter in name)
    file = figures / f"few-groups-{slug}-{engine}.json"
    found = measured(name, engine, int(os.environ.get("CALIBRATION_SHOPS", SHOPS[engine])), file.with_suffix(".lines"))
    file.write_text(json.dumps(found, indent=1))
    wrong = [row for row in found["rows"] if row["kind"] != "oracle" and outside(row, found["shops"])]
    assert not wrong, found
    assert found["refused"] <= 0.02 * found["shops"], found["refused"]


def test_a_small_lane_of_it(tmp_path: Path) -> None:
    rows = measured("gaussian, 12 x 5 crossed", "likelihood", 4, tmp_path / "shops.lines")["rows"]
    found = {row["kind"]: row for row in rows if not row["is_few"]}
    assert set(found) == {"group estimate", "new group", "deviation", "coefficient", "cell", "contrast", "prediction", "oracle"}
    assert all(row["covered"] > 0.6 for row in found.values())
    assert found["group estimate"]["width"] > 0.9 * found["oracle"]["width"]
