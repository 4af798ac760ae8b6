"""A family that no other file knows: exponential waiting times, from the formula through both engines to tables, report and plan."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp

from groupwise.compression.compress import compress
from groupwise.planning.dry_run import plan
from groupwise.report.page import write_report
from groupwise.source.relation import Relation
from groupwise.study.study_file import load_study
from multilevel.arrays import Floats
from multilevel.cells.files import read_cells
from multilevel.errors import StudyError
from multilevel.families.compiled import compiled
from multilevel.families.family import Family, Support, Words, refuse
from multilevel.families.likelihood import ByDispersion, Curvature, no_dispersion
from multilevel.families.link import LOG, Link
from multilevel.families.notation import DISTRIBUTED, EXP_ETA, Notation, Y, call
from multilevel.families.outcome import Outcome
from multilevel.families.registry import family_named, register
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

STUDY = """
name: waits
formula: wait ~ 1 + express + (1 | shop)
source: {database: waits.duckdb, line_items: select * from waits}
family: exponential
engine: likelihood
quadrature_points: 25
"""


def _density(y, size, once, histogram, eta, scale, g_eta, g_scale):  # type: ignore[no-untyped-def]
    value = 0.0
    for r in range(len(eta)):
        ratio = y[r] * math.exp(-eta[r])
        value -= size[r] * eta[r] + ratio
        g_eta[r] = ratio - size[r]
    g_scale[0] = 0.0
    return value


class Exponential(Family):
    """Rows ``y ~ Exponential(mean exp(eta))``; sums of rows and their number are all that the likelihood needs."""

    name: ClassVar[str] = "exponential"
    link: ClassVar[Link] = LOG
    support: ClassVar[Support | None] = Support("{y} <= 0", "family exponential needs an outcome above zero")
    words: ClassVar[Words] = Words(
        distribution="is a waiting time with an exponential distribution", latent_variance="Waits vary by log 2."
    )
    notation: ClassVar[Notation] = Notation(Y + DISTRIBUTED + call("Exponential", EXP_ETA))

    def refuse_sums(self, total: Floats, size: Floats, once: Mapping[str, float]) -> None:
        refuse(~(total > 0), total, "summed outcome", "above zero")

    def likelihood(self, outcome: Outcome) -> ExponentialLikelihood:
        return ExponentialLikelihood(outcome.outcome, outcome.size)

    @property
    def log_density(self) -> Any:
        return compiled(_density)

    def moments(self, size: Floats, eta: Floats, scale: float, *, floor: float = 0.0) -> tuple[Floats, Floats]:
        mean = np.maximum(size * np.exp(eta), floor)
        return mean, mean**2 / size

    def draw_sums(self, size: Floats, eta: Floats, scale: float, rng: np.random.Generator, *, floor: float = 0.0) -> Floats:
        return rng.gamma(size, np.exp(eta))

    def latent_variance(self, mean: float, scale: float) -> float:
        return math.log(2.0)


@dataclass(frozen=True)
class ExponentialLikelihood:
    total: Floats
    n: Floats
    has_dispersion: bool = False

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        return np.asarray(-self.n * eta - self.total * np.exp(-eta))

    def constant(self, log_dispersion: float) -> float:
        return 0.0

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        ratio = self.total * np.exp(-eta)
        return Curvature(ratio - self.n, ratio, -ratio)

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        return np.asarray(self.n + self.total * np.exp(-eta))

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        return no_dispersion(eta)

    def typical_predictor(self) -> float:
        return float(np.log(self.total.sum() / self.n.sum()))


@pytest.fixture(scope="module", autouse=True)
def known() -> Iterator[None]:
    from multilevel.families import registry

    register(Exponential())
    yield
    del registry._registered["exponential"]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(20_261_128)
    shop, express = rng.integers(8, size=900), rng.integers(2, size=900)
    mean = np.exp(1.0 - 0.7 * express + rng.normal(0, 0.5, 8)[shop])
    return pd.DataFrame({"shop": [f"s{i}" for i in shop], "express": express, "wait": rng.exponential(mean)})


@pytest.fixture(scope="module")
def folder(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("waits")
    with duckdb.connect(str(place / "waits.duckdb")) as connection:
        connection.register("frame", rows)
        connection.execute("create table waits as select * from frame")
    (place / "waits.yaml").write_text(STUDY)
    return place


def relation_in(folder: Path) -> Relation:
    return Relation("waits", str(folder / "waits.duckdb"), (), "select * from waits", date(2026, 11, 28))


def fitted(folder: Path, engine: str, **more: Any) -> StudyFit:
    formula = parse_formula("wait ~ 1 + express + (1 | shop)")
    cells = compress(relation_in(folder), "select * from waits", formula, "exponential", folder / engine)
    options = fit_options("waits", date(2026, 11, 28), "r1", engine, seed=1, **more)  # type: ignore[arg-type]
    return fit_study(formula, read_cells(cells.cells_path, cells.spec_path), options)


def marginal(rows: pd.DataFrame, beta: Floats, sd: float) -> float:
    """Log-likelihood of the rows at beta and sd, each shop's effect integrated numerically."""
    total = 0.0
    for _, own in rows.groupby("shop"):
        fixed, wait = beta[0] + beta[1] * own.express.to_numpy(), own.wait.to_numpy()

        def inside(b: float, fixed: Floats = fixed, wait: Floats = wait) -> float:
            prior = b**2 / (2 * sd**2) + math.log(sd * math.sqrt(2 * math.pi))
            return float(np.sum(-fixed - b - wait * np.exp(-fixed - b))) - prior

        grid = np.linspace(-3, 3, 401)
        predictors = fixed[:, None] + grid
        peak = float(grid[np.argmax((-predictors - wait[:, None] * np.exp(-predictors)).sum(axis=0) - grid**2 / (2 * sd**2))])
        top = inside(peak)
        area = quad(lambda b, top=top: math.exp(inside(b) - top), peak - 1.5, peak + 1.5, epsabs=0, epsrel=1e-11)[0]
        total += top + math.log(area)
    return total


def test_the_likelihood_is_that_of_the_rows(folder: Path, rows: pd.DataFrame) -> None:
    fit = fitted(folder, "likelihood", quadrature_points=25).fit
    assert fit is not None
    beta, sd = fit.joint.mean[:2], math.sqrt(float(fit.covariances[0][0, 0]))
    assert fit.log_likelihood == pytest.approx(marginal(rows, beta, sd), abs=1e-6)
    for step in ((1e-3, 0, 0), (0, 1e-3, 0), (0, 0, 1e-3)):
        for sign in (1, -1):
            moved = marginal(rows, beta + sign * np.array(step[:2]), sd + sign * step[2])
            assert moved < fit.log_likelihood


def test_complete_pooling_is_the_log_of_the_means(folder: Path, rows: pd.DataFrame) -> None:
    table = fitted(folder, "likelihood").tables["population_coefficients"].to_pandas()
    found = table[table.pooling == "complete"].set_index("term")["estimate"]
    means = np.log(rows.groupby("express").wait.mean())
    assert found["Intercept"] == pytest.approx(means[0], rel=1e-9)
    assert found["express"] == pytest.approx(means[1] - means[0], rel=1e-9)


def test_the_samplers_density_has_the_gradient_of_its_value() -> None:
    rng = np.random.default_rng(3)
    outcome = Outcome(family_named("exponential"), rng.gamma(3, 2, 5), np.arange(1.0, 6.0), np.arange(1.0, 6.0), 15)
    eta, gradient = rng.normal(size=5), np.empty(5)
    arguments = (outcome.outcome, outcome.size, outcome.numbers, outcome.histogram)
    outcome.family.log_density(*arguments, eta, 1.0, gradient, np.empty(1))
    for at in range(5):
        step = np.zeros(5)
        step[at] = 1e-6
        slope = (outcome.log_likelihood(eta + step, 1.0) - outcome.log_likelihood(eta - step, 1.0)) / 2e-6
        assert gradient[at] == pytest.approx(slope, rel=1e-6, abs=1e-8)
    weights, score = outcome.working(eta, 1.0)
    np.testing.assert_allclose(weights, outcome.size)
    np.testing.assert_allclose(score, gradient)


def test_tables_report_and_plan_know_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fitted(folder, "likelihood")
    assert not found.failed_gates
    assert {row["grouping_factor"] for row in found.tables["group_estimates"].to_pylist()} == {"shop"}
    page = write_report(found.tables, json.loads(json.dumps(found.report, default=str)), {}, folder / "report.html").read_text()
    assert "Exp" in page
    assert "Waits vary by log 2." in page
    monkeypatch.chdir(folder)
    study = load_study("waits.yaml")
    made = plan(study, relation_in(folder), "select * from waits")
    assert not made.refusals
    assert any("exponential distribution" in sentence for sentence in made.words)
    assert any("Exponential(exp" in line for line in made.mathematics.plain)


@pytest.mark.parity
def test_the_posterior_is_that_of_quadrature(folder: Path, rows: pd.DataFrame) -> None:
    found = fitted(folder, "bayesian", sampling={"chains": 2, "draws": 1_000})
    assert not found.failed_gates
    fit = found.fit
    assert fit is not None
    draws = fit.joint.draws(2_000, 0)[:, :2]
    # at fixed sd the posterior of beta given flat-ish priors is near the likelihood's: compare with a grid over the intercept and the sd
    sds = np.linspace(0.15, 1.6, 30)
    shifts = np.linspace(-1.2, 1.2, 41)
    centre = fitted(folder, "likelihood", quadrature_points=25).fit
    assert centre is not None
    beta = centre.joint.mean[:2]
    log_density = np.array([[marginal(rows, beta + np.array([shift, 0.0]), sd) for shift in shifts] for sd in sds])
    # default priors: normal(log mean, 2.5) on the intercept at the mean of the other columns, half_normal(2.5) on the sd
    log_density -= 0.5 * (sds[:, None] / 2.5) ** 2 + 0.5 * (shifts[None, :] / 2.5) ** 2
    weights = np.exp(log_density - logsumexp(log_density))
    expected_sd = float(np.sum(weights * sds[:, None]))
    drawn_sd = np.sqrt(np.asarray(fit.covariance_draws[0])[:, 0, 0]) if fit.covariance_draws else np.zeros(1)
    assert float(drawn_sd.mean()) == pytest.approx(expected_sd, rel=0.06)
    assert draws[:, 1].mean() == pytest.approx(beta[1], abs=0.02)
    assert draws[:, 0].mean() == pytest.approx(beta[0] + float(np.sum(weights * shifts[None, :])), abs=0.08)


def test_the_name_is_free_once_only() -> None:
    class Other(Exponential):
        """Of the same name."""

    with pytest.raises(StudyError, match="'exponential' is taken"):
        register(Other())
