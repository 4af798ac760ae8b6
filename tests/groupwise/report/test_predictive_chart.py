"""The predictive picture in the report: a chart for each part, its sentence, nothing where there is no picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from groupwise.report.predictive_chart import predictive_figures
from groupwise.report.subject import Subject

BINS = [
    {"from": -0.5, "to": 0.0, "observed": 0.4, "lower": 0.3, "upper": 0.5},
    {"from": 0.0, "to": 0.5, "observed": 0.6, "lower": 0.4, "upper": 0.7},
]
FAR = {"observed": 0.31, "lower": 0.03, "upper": 0.06}


@pytest.fixture
def subject(make_tables: Callable[..., Any]) -> Subject:
    return Subject(make_tables(), {}, {}, {})


def subject_with(subject: Subject, *parts: str | None) -> Subject:
    return replace(subject, report={**subject.report, "predictive_pictures": [{"part": part, "bins": BINS, "far": FAR} for part in parts]})


def test_a_picture_says_how_many_cells_lie_far_out(subject: Subject) -> None:
    [figure] = predictive_figures(subject_with(subject, None))
    assert figure.id == "predictive"
    assert figure.caption.startswith("31.0% of the cells lie more than two standard deviations")
    assert "3.0% to 6.0% do" in figure.caption
    assert "31.0%" in figure.description


def test_a_two_part_model_has_two(subject: Subject) -> None:
    figures = predictive_figures(subject_with(subject, "occurrence", "amount"))
    assert [figure.id for figure in figures] == ["predictive-occurrence", "predictive-amount"]
    assert figures[0].title != figures[1].title


def test_a_report_written_before_there_were_any_has_none(subject: Subject) -> None:
    assert predictive_figures(subject) == []
