"""The picture of the predictive check stays inside its band where the model is right, and leaves it where it is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.cells.from_rows import cells_from_frame
from multilevel.checking.predictive_picture import predictive_picture
from multilevel.design.build import build_design
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear

FORMULA = "y ~ 1 + x + (1 | g) + (1 | h)"


def frame(seed: int = 2, n: int = 3_000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, h, x = rng.integers(12, size=n), rng.integers(10, size=n), rng.integers(2, size=n)
    eta = 0.4 + 0.3 * x + rng.normal(0, 0.4, 12)[g] + rng.normal(0, 0.3, 10)[h]
    return pd.DataFrame({"g": [f"g{i}" for i in g], "h": [f"h{i}" for i in h], "x": x, "eta": eta})


def outcome(rows: pd.DataFrame, family: str, rng: np.random.Generator) -> np.ndarray:
    mean = np.exp(rows["eta"].to_numpy())
    drawn: dict[str, Any] = {
        "gaussian": rows["eta"] + rng.normal(size=len(rows)),
        "binomial": rng.random(len(rows)) < 1 / (1 + np.exp(-rows["eta"])),
        "poisson": rng.poisson(mean),
        "negative_binomial": rng.negative_binomial(2, 2 / (2 + mean)),
        "gamma": rng.gamma(2.0, mean / 2.0),
    }
    return np.asarray(drawn[family])


def fitted(rows: pd.DataFrame, family: str) -> Fit:
    formula = parse_formula(FORMULA)
    design = build_design(formula, cells_from_frame(formula, rows, family))
    return fit_linear(design) if family == "gaussian" else fit_generalised(design, family, interval=0.95, seed=1)


def outside(picture: dict[str, Any] | None) -> int:
    assert picture is not None
    return sum(not bin_["lower"] <= bin_["observed"] <= bin_["upper"] for bin_ in picture["bins"])


@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson", "negative_binomial", "gamma"])
def test_data_of_the_model_stay_inside_the_band(family: str) -> None:
    rows = frame()
    picture = predictive_picture(fitted(rows.assign(y=outcome(rows, family, np.random.default_rng(5))), family))
    # a bin in twenty may leave a 95 % band; the likelihood engine has also fitted the cells it is compared with
    assert outside(picture) <= 3
    assert picture is not None
    shares = [[bin_[name] for bin_ in picture["bins"]] for name in ("observed", "lower", "upper")]
    assert sum(shares[0]) == pytest.approx(1.0)
    assert sum(shares[1]) < 1.0 < sum(shares[2])


def test_counts_that_vary_more_than_poisson_leave_the_band_at_both_ends() -> None:
    rows = frame()
    wild = rows.assign(y=np.random.default_rng(5).negative_binomial(0.2, 0.2 / (0.2 + np.exp(rows["eta"]))))
    picture = predictive_picture(fitted(wild, "poisson"))
    assert picture is not None
    bins, far = picture["bins"], picture["far"]
    assert isinstance(bins, list)
    assert isinstance(far, dict)
    assert far["observed"] > 2 * far["upper"]
    assert bins[0]["observed"] > bins[0]["upper"] or bins[1]["observed"] > bins[1]["upper"] or bins[2]["observed"] > bins[2]["upper"]
    assert bins[-1]["observed"] > bins[-1]["upper"]


@pytest.mark.parity
def test_a_missing_interaction_shows_in_a_gaussian_model_with_draws() -> None:
    rows = frame()
    rng = np.random.default_rng(6)
    both = {key: rng.normal(0, 1.5) for key in {*zip(rows["g"], rows["h"], strict=True)}}
    moved = [both[key] for key in zip(rows["g"], rows["h"], strict=True)]
    formula = parse_formula(FORMULA)
    design = build_design(formula, cells_from_frame(formula, rows.assign(y=rows["eta"] + moved + rng.normal(size=len(rows))), "gaussian"))
    picture = predictive_picture(fit_bayesian(design, "gaussian", seed=1))
    assert picture is not None
    far = picture["far"]
    assert isinstance(far, dict)
    assert far["observed"] > 1.5 * far["upper"]


def test_a_sample_of_cells_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = frame()
    fit = fitted(rows.assign(y=outcome(rows, "poisson", np.random.default_rng(5))), "poisson")
    monkeypatch.setattr("multilevel.checking.predictive_picture.MOST_CELLS", 60)
    picture = predictive_picture(fit)
    assert picture is not None
    # shares of sixty cells, averaged over a hundred draws
    assert all(bin_["observed"] * 6_000 == pytest.approx(round(bin_["observed"] * 6_000), abs=1e-6) for bin_ in picture["bins"])


def test_a_few_cells_have_no_picture() -> None:
    rows = frame().assign(h="h0", x=0)
    rows = rows.assign(
        x=np.arange(len(rows)) % 2, g=np.where(np.arange(len(rows)) % 3, "a", "b"), h=np.where(np.arange(len(rows)) % 5, "c", "d")
    )
    formula = parse_formula(FORMULA)
    cells = cells_from_frame(formula, rows.assign(y=np.random.default_rng(1).poisson(2, len(rows))), "poisson")
    assert predictive_picture(fit_generalised(build_design(formula, cells), "poisson", interval=0.95, seed=1)) is None
