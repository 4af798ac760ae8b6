"""The report draws the estimates of every group over the days of published versions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from groupwise.report.subject import Subject
from groupwise.report.trend import MOST_LINES, trend_figures

DAYS = [date(2017, 11, 30), date(2017, 12, 31), date(2018, 1, 31)]


@pytest.fixture
def subject(make_tables: Any, study: Any) -> Subject:
    versions = [make_tables(seed=seed, as_of=day) for seed, day in enumerate(DAYS)]
    earlier = tuple(tables["group_estimates"] for tables in versions[:-1])
    return replace(Subject(versions[-1], study, {}, {}), earlier=earlier).with_labels()


def rows_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = spec["data"]["values"]
    return rows


def test_every_group_has_a_line_with_a_point_for_every_day(subject: Subject) -> None:
    figures = {figure.id: figure for figure in trend_figures(subject)}
    rows = rows_of(figures["trend-income-group"].spec)
    assert {row["as_of"] for row in rows} == {str(day) for day in DAYS}
    table = subject.seen_estimates.to_pylist()
    last = {row["level"]: row["estimate"] for row in rows if row["as_of"] == str(DAYS[-1])}
    published = {row["level"]: row["estimate"] for row in table if row["grouping_factor"] == "income_group"}
    assert last == pytest.approx(published, rel=1e-4)


def test_of_many_groups_those_with_most_line_items_are_drawn_and_the_others_named(subject: Subject) -> None:
    figure = next(figure for figure in trend_figures(subject) if "category" in figure.id)
    drawn = {row["level"] for row in rows_of(figure.spec)}
    assert len(drawn) == MOST_LINES
    assert "the view group_trend has all" in figure.caption


def test_a_first_day_has_no_trend(subject: Subject) -> None:
    assert trend_figures(replace(subject, earlier=())) == []
