"""Checks of a fit see the fault that a shop has, and leave alone the shops that have none.

Shops share no code with the model (``tests/faulty_shops.py``). Seeds are the numbers of the shops. A run counts as one: it is well
specified and any of its fit checks fails, or it has a fault and the check that is meant for it fails. ``CALIBRATION_SHOPS`` makes a lane
shorter.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

from benchmarks._reliability_page import provenance
from multilevel.cells.from_rows import cells_from_frame
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options
from tests.faulty_shops import FORMULA, KINDS, LOG_FORMULA, Fault, faulty_shop
from tests.shop_by_shop import shop_by_shop

type Engine = Literal["likelihood", "bayesian"]

WELL_SPECIFIED, FAULTY = 1_000, 200

MENDED_EVERY = 10
"""One shop in so many is fitted again as the message advises."""

SAMPLING = {"chains": 2, "draws": 500, "tune": 400}
"""Of the Bayesian engine: a third of what a study samples. Its gates may fail; fit checks are made of means and medians of 1,000 draws."""

FIT_CHECKS = ("omitted_", "uneven_", "predictive_", "dispersion_ratio", "calibration_of_means", "lognormal_shape", "laplace_accuracy")
"""Of the outcome and of what the formula leaves out: not of the computation, and not of how the rows were sampled."""

WITH_INTERACTION, WITH_SLOPE = f"{FORMULA} + (1 | g:h)", FORMULA.replace("(1 | g)", "(1 + x | g)")

type Study = tuple[pd.DataFrame, str, str]
"""Line items, formula and family."""


def with_terms(right: str) -> Callable[[pd.DataFrame, str], list[Study]]:
    """The kind's outcome with the right-hand side of another formula."""
    return lambda frame, kind: [(frame, formula_of(kind, right), KINDS[kind].family)]


def weighted(frame: pd.DataFrame, kind: str) -> list[Study]:
    """Rows weighted by one over the residual variance of their level of g, from the rows about the means of their combinations."""
    residual = frame.y - frame.groupby(["g", "h", "x"]).y.transform("mean")
    weight = 1.0 / residual.groupby(frame.g).transform("var")
    return [(frame.assign(w=weight), FORMULA.replace("y ~", "y | weights(w) ~"), KINDS[kind].family)]


def with_family(family: str) -> Callable[[pd.DataFrame, str], list[Study]]:
    """The outcome itself, of another family."""
    return lambda frame, kind: [(frame, FORMULA, family)]


def apart(frame: pd.DataFrame, kind: str) -> list[Study]:
    """A study for each half of g, whose levels vary alike."""
    even = frame.g.astype(int) % 2 == 0
    return [(frame[own].reset_index(drop=True), KINDS[kind].formula, KINDS[kind].family) for own in (even, ~even)]


FAULTS: dict[tuple[str, str], tuple[Fault, str, Callable[[pd.DataFrame, str], list[Study]]]] = {
    **{("interaction", kind): (Fault(interaction=0.5), "omitted_interaction[g, h]", with_terms(WITH_INTERACTION)) for kind in KINDS},
    **{("slope", kind): (Fault(slope=0.5), "omitted_slope[x, g]", with_terms(WITH_SLOPE)) for kind in KINDS},
    ("twofold residual sd", "gaussian"): (Fault(uneven=2.0), "uneven_spread[g]", weighted),
    **{("twofold residual sd", kind): (Fault(uneven=2.0), "uneven_spread[g]", apart) for kind in ("log(y)", "gamma", "hurdle_gamma")},
    **{
        ("30 % zeros", kind): (Fault(zeros=0.3), "predictive_zeros", with_family("hurdle_gamma"))
        for kind in ("poisson", "negative_binomial")
    },
    ("counts that vary more", "poisson"): (Fault(instead="negative_binomial"), "predictive_zeros", with_family("negative_binomial")),
    ("gamma errors, cv 0.7", "log(y)"): (Fault(instead="gamma"), "lognormal_shape", with_family("gamma")),
    ("gamma errors, cv 0.7", "hurdle_lognormal"): (Fault(instead="hurdle_gamma"), "lognormal_shape", with_family("hurdle_gamma")),
}
"""(fault, outcome) -> the fault, the check that sees it, and the studies that its message advises."""


def failed_checks(frame: pd.DataFrame, formula: str, family: str, engine: Engine, seed: int) -> list[str]:
    """Names of the fit checks that a run's ``diagnostics`` have as failed."""
    parsed = parse_formula(formula)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = fit_options("s", date(2026, 1, 31), "r", engine, seed=seed, sampling=SAMPLING if engine == "bayesian" else None)
        found = fit_study(parsed, cells_from_frame(parsed, frame, family), options)
    rows = found.tables["diagnostics"].to_pylist()
    return [row["check"] for row in rows if not row["passed"] and row["check"].startswith(FIT_CHECKS)]


def formula_of(kind: str, advised: str) -> str:
    """The advised formula for the kind's outcome."""
    return f"{KINDS[kind].formula.split('~')[0]}~{advised.split('~')[1]}"


def is_of(check: str, meant: str) -> bool:
    """Whether a check is the one that is meant, of any part."""
    return check == meant or check.startswith(f"{meant}[")


@pytest.mark.calibration
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("engine", ["likelihood", "bayesian"])
@pytest.mark.parametrize("kind", KINDS)
def test_well_specified_runs_pass(kind: str, engine: Engine, figures: Path) -> None:
    shops = int(os.environ.get("CALIBRATION_SHOPS", WELL_SPECIFIED))
    file, own = figures / f"checks-well-specified-{_slug(kind)}-{engine}.json", KINDS[kind]

    def of_shop(seed: int) -> list[str]:
        return failed_checks(faulty_shop(kind, Fault(), seed), own.formula, own.family, engine, seed)

    runs = shop_by_shop(file.with_suffix(".lines"), shops, of_shop)
    failed = sum(bool(names) for names in runs)
    which = dict(Counter(name for names in runs for name in names))
    entry: dict[str, Any] = {"outcome": kind, "engine": engine, "shops": shops, "failed": failed, "which": which, **provenance()}
    file.write_text(json.dumps(entry, indent=1))
    assert failed <= max(1, 0.01 * shops + 2 * (0.01 * shops) ** 0.5), entry


@pytest.mark.calibration
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("engine", ["likelihood", "bayesian"])
@pytest.mark.parametrize(("name", "kind"), FAULTS)
def test_a_fault_is_seen_and_mended_by_the_advice(name: str, kind: str, engine: Engine, figures: Path) -> None:
    shops = min(FAULTY, int(os.environ.get("CALIBRATION_SHOPS", FAULTY)))
    fault, meant, advised = FAULTS[name, kind]
    file = figures / f"checks-fault-{_slug(name)}-{_slug(kind)}-{engine}.json"

    def of_shop(seed: int) -> tuple[bool, bool | None]:
        frame = faulty_shop(kind, fault, seed)
        seen = any(is_of(check, meant) for check in failed_checks(frame, KINDS[kind].formula, KINDS[kind].family, engine, seed))
        if seed % MENDED_EVERY:
            return seen, None
        again = [check for study in advised(frame, kind) for check in failed_checks(*study, engine, seed)]
        return seen, not any(is_of(check, meant) for check in again)

    found = shop_by_shop(file.with_suffix(".lines"), shops, of_shop)
    seen, again = sum(own[0] for own in found), [own[1] for own in found if own[1] is not None]
    entry: dict[str, Any] = {"fault": name, "outcome": kind, "check": meant, "engine": engine, "shops": shops, "seen": seen}
    entry |= {"advised": len(again), "mended": sum(again), **provenance()}
    file.write_text(json.dumps(entry, indent=1))
    assert seen >= 0.8 * shops, entry
    assert sum(again) >= 0.9 * len(again), entry


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def test_a_small_lane_of_it() -> None:
    kind = KINDS["gaussian"]
    assert failed_checks(faulty_shop("gaussian", Fault(), 0), kind.formula, kind.family, "likelihood", 0) == []
    fault, meant, advised = FAULTS["slope", "gaussian"]
    frame = faulty_shop("gaussian", fault, 0)
    assert meant in failed_checks(frame, kind.formula, kind.family, "likelihood", 0)
    assert [check for study in advised(frame, "gaussian") for check in failed_checks(*study, "likelihood", 0)] == []
    assert formula_of("log(y)", WITH_SLOPE) == LOG_FORMULA.replace("(1 | g)", "(1 + x | g)")
