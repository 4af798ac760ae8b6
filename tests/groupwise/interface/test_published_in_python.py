"""``gw.open``, ``gw.run``, ``gw.Study``, and of a fit: its charts, its report, its posterior, its publication."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest

import groupwise as gw
from groupwise.report.charts import Figure
from groupwise.report.single_charts import _grid, _ranked, _sampled, nested_name

SLEEP = "Reaction ~ 1 + Days + (1 + Days | Subject)"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleepstudy: pd.DataFrame) -> Path:
    """A working directory with the rows in a file."""
    monkeypatch.chdir(tmp_path)
    sleepstudy.to_parquet("sleep.parquet")
    return tmp_path


STUDY = gw.Study(name="sleep", formula=SLEEP, source={"parquet": "sleep.parquet"}, engine="likelihood", interval=0.9)


@pytest.fixture
def study(place: Path) -> gw.Study:
    return STUDY


type Ran = tuple[Path, str]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory, sleepstudy: pd.DataFrame) -> Ran:
    """A working directory in which the study has run, and the run's id."""
    folder = tmp_path_factory.mktemp("ran") / "here"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sleepstudy.to_parquet("sleep.parquet")
        return folder, gw.run(STUDY).run_id


@pytest.fixture
def run_id(first_run: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the run that was the first in the working directory."""
    folder, run_id = first_run
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return run_id


def test_a_run_publishes_and_its_version_can_be_opened(study: gw.Study) -> None:
    told: list[str] = []
    ran = gw.run(study, interval=0.8, progress=lambda doing, share: told.append(doing))
    assert told[0] == "look for a version of the same inputs"
    assert "publish the tables" in told
    for opened in (ran, gw.open("published/sleep"), gw.open(study), gw.open(ran.folder), gw.open("published/sleep", run_id=ran.run_id)):
        assert opened.run_id == ran.run_id
        assert opened.summary().interval == 0.8
        assert opened.study.interval == 0.8
    assert ran.summary().fixed_effects.loc["Days", "estimate"] == pytest.approx(10.467, abs=5e-4)
    assert ran.contrast(308, 309)["difference"].iloc[0] > 100
    assert ran.predict({"Days": [1], "Subject": [None]})["is_new"].all()
    test = ran.compare(f"{SLEEP[:19]} + (1 | Subject)", folds=0).test
    assert test is not None
    assert test["chi2"] == pytest.approx(42.139, abs=5e-4)
    assert "<title>" in ran.report("a/report.html").read_text(encoding="utf-8")
    with pytest.raises(gw.SourceError, match="keeps no posterior; run it with engine: bayesian and draws"):
        ran.to_arviz()


def test_a_study_is_written_and_read_back(study: gw.Study) -> None:
    file = study.write("study.yaml")
    assert gw.Study.read(file) == study
    text = file.read_text(encoding="utf-8")
    assert "interval: 0.9" in text
    assert "quarantine_limit" not in text, "defaults are left out"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"famly": "poisson"}, "Study: famly: no such field; did you mean family?"),
        ({"family": "poison"}, "Study: family: 'poison': did you mean poisson?"),
    ],
)
def test_a_wrong_study_is_refused_as_a_file_is(fields: dict[str, object], message: str) -> None:
    with pytest.raises(gw.StudyError) as told:
        gw.Study(**{"name": "s", "formula": SLEEP, "source": {"parquet": "x.parquet"}, **fields})  # type: ignore[arg-type]
    assert str(told.value).startswith(message)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: gw.open("nowhere"), gw.SourceError, "nowhere: there is no such folder or file"),
        (lambda: gw.open("."), gw.SourceError, "no published tables here"),
        (lambda: gw.run("nowhere.yaml"), gw.StudyError, "no such study file"),
    ],
)
def test_what_is_not_there_is_named(place: Path, call: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_a_version_that_is_not_there_is_named_with_those_that_are(run_id: str) -> None:
    with pytest.raises(gw.PublishError, match=f"no version has the run id r9; the newest are {run_id}"):
        gw.open(STUDY, run_id="r9")
    with pytest.raises(gw.SourceError, match="nothing is published in elsewhere yet"):
        gw.open(gw.Study(**{**STUDY.model_dump(), "publish_to": "elsewhere"}))
    with pytest.raises(gw.StudyError, match=r"gw.run: intervall: no such field; did you mean interval\?"):
        gw.run(STUDY, intervall=0.8)  # type: ignore[call-arg]


def test_a_run_of_the_same_inputs_is_the_version_that_is_there(run_id: str) -> None:
    assert gw.run(STUDY).run_id == run_id
    assert gw.run(STUDY, force=True).run_id != run_id
    ended = [json.loads(path.read_text())["how"] for path in Path(".groupwise/runs").glob("*/ended.json")]
    assert ended == ["well"] * 3


@pytest.mark.operations
def test_a_fit_is_published_with_everything_that_a_run_publishes(place: Path, sleep_fit: gw.Fit) -> None:
    published = sleep_fit.publish("shelf")
    assert Path(published.folder).is_relative_to(place / "shelf" / "sleep")
    for name, table in sleep_fit.arrow_tables.items():
        assert published.arrow_tables[name].equals(table)
    assert {"report", "validation", "joint_tables", "contract"} <= {name for name, entry in published.manifest.items() if entry}
    pd.testing.assert_frame_equal(published.contrast(308, 309), sleep_fit.contrast(308, 309))
    assert list(published.charts) == [name for name in sleep_fit.charts if name != "predictive"]


def test_a_fit_without_a_name_or_with_a_failed_gate_is_not_published(
    place: Path, sleepstudy: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = gw.fit(SLEEP, sleepstudy, engine="likelihood")
    with pytest.raises(gw.StudyError, match=r"has no name to be published under: gw.fit\(..., name='line_spend'\)"):
        fit.publish("shelf")
    named = gw.fit(SLEEP, sleepstudy, engine="likelihood", name="sleep")
    named._run.write_json("gates", {"failed": [{"check": "max_r_hat", "message": "it is 1.2"}]})
    with pytest.raises(gw.GateError, match=r"max_r_hat: it is 1\.2"):
        named.publish("shelf")
    assert not list(place.glob("shelf/sleep/versions/*"))


def test_every_chart_of_the_report_is_an_altair_chart_with_its_rows(sleep_fit: gw.Fit, tmp_path: Path) -> None:
    charts = sleep_fit.charts
    page = sleep_fit.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert list(charts) == re.findall(r'data-figure="([\w-]+)"', page)
    assert {"caterpillar-subject", "slope-subject-days", "variance"} <= set(charts)
    for name, chart in charts.items():
        assert isinstance(chart, alt.TopLevelMixin)
        # Altair's own schema knows all of it, or this raises
        spec = chart.to_dict()
        assert spec["title"], name
        if name == "caterpillar-subject":
            rows = spec["datasets"]["rows"]
            assert [row["estimate"] for row in rows] == sorted((row["estimate"] for row in rows), reverse=True)


@pytest.mark.operations
def test_a_chart_is_drawn_with_its_levels(sleep_fit: gw.Fit, tmp_path: Path) -> None:
    sleep_fit.charts["caterpillar-subject"].save(tmp_path / "caterpillar.svg")
    assert "308" in (tmp_path / "caterpillar.svg").read_text(encoding="utf-8")


@pytest.mark.operations
def test_every_chart_can_be_drawn(sleep_fit: gw.Fit, tmp_path: Path) -> None:
    for name, chart in sleep_fit.charts.items():
        chart.save(tmp_path / f"{name}.svg")
        assert (tmp_path / f"{name}.svg").read_text(encoding="utf-8").startswith("<svg"), name


def test_charts_show_the_rows_that_the_page_shows() -> None:
    figure = Figure(id="f", title="", caption="", speaks_of="", description="", spec={}, limit=4)
    rows = [{"level": str(n), "estimate": float(n), "n": n} for n in range(10)]
    assert [row["level"] for row in _ranked(rows, figure)] == ["9", "8", "1", "0"]
    # of no line items nothing is shown
    assert [row["level"] for row in _sampled(rows, figure)] == ["9", "6", "4", "1"]
    grid = [
        {"customer": c, "product": p, "estimate": 1.0 + i, "lower": 0.5, "upper": 2.0, "n": i}
        for i, (c, p) in enumerate((c, p) for c in "ab" for p in "vwxyz")
    ]
    assert {row["product"] for row in _grid(grid, figure)} == {"w", "x", "y", "z"}
    assert all(0 < row["certainty"] < 1 for row in _grid(grid, figure))
    assert nested_name("15-24K:GROCERY", "GROCERY / EGGS") == "15-24K: GROCERY / EGGS"
    assert nested_name("GROCERY", "GROCERY / EGGS") == "GROCERY / EGGS"
    assert nested_name("R1", "C1") == "R1 / C1"


@pytest.fixture(scope="module")
def posterior(sleepstudy: pd.DataFrame) -> gw.Fit:
    return gw.fit(SLEEP, sleepstudy, sampling={"draws": 700, "chains": 2}, draws={"rows": 200}, name="sleep")


def test_a_posterior_is_arvizs(posterior: gw.Fit, place: Path) -> None:
    tree = posterior.to_arviz()
    assert tree["posterior"]["beta"].dims == ("chain", "draw", "term")
    slopes = tree["posterior"]["beta"].sel(term="Days")
    assert float(slopes.mean()) == pytest.approx(posterior.summary().fixed_effects.loc["Days", "estimate"])
    np.testing.assert_array_equal(posterior.publish("shelf").to_arviz()["posterior"]["beta"], tree["posterior"]["beta"])


def test_a_fit_without_a_posterior_says_how_to_get_one(sleep_fit: gw.Fit) -> None:
    with pytest.raises(gw.StudyError, match="the fit has no posterior; write engine='bayesian'"):
        sleep_fit.to_arviz()
