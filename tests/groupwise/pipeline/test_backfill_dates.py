"""The days of a backfill are FROM, a step further each, up to and including TO."""

from __future__ import annotations

from datetime import date

import pytest

from groupwise.pipeline.backfill_dates import backfill_dates
from multilevel.errors import StudyError


def days(first: str, last: str, every: str) -> list[str]:
    return [str(day) for day in backfill_dates(date.fromisoformat(first), date.fromisoformat(last), every)]


def test_months() -> None:
    assert days("2024-11-15", "2025-02-15", "month") == ["2024-11-15", "2024-12-15", "2025-01-15", "2025-02-15"]
    assert days("2024-11-15", "2025-02-14", "month") == ["2024-11-15", "2024-12-15", "2025-01-15"]
    assert days("2024-02-01", "2024-02-01", "month") == ["2024-02-01"]


def test_a_month_from_the_31st_comes_back_to_it() -> None:
    assert days("2024-01-31", "2024-04-30", "month") == ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"]


def test_ends_of_months() -> None:
    assert days("2024-01-10", "2024-03-31", "month-end") == ["2024-01-31", "2024-02-29", "2024-03-31"]
    assert days("2024-01-31", "2024-03-30", "month-end") == ["2024-01-31", "2024-02-29"]
    assert len(days("2023-01-31", "2025-12-31", "month-end")) == 36


def test_days_and_weeks() -> None:
    assert days("2024-02-28", "2024-03-01", "day") == ["2024-02-28", "2024-02-29", "2024-03-01"]
    assert days("2024-02-01", "2024-02-20", "week") == ["2024-02-01", "2024-02-08", "2024-02-15"]


def test_the_calendar_ends() -> None:
    assert days("9999-11-30", "9999-12-31", "month") == ["9999-11-30", "9999-12-30"]


@pytest.mark.parametrize(
    ("first", "last", "every", "message"),
    [
        ("2024-02-01", "2024-01-01", "month", "--from 2024-02-01 is after --to 2024-01-01"),
        ("2024-02-01", "2024-03-01", "quarter", "--every quarter: write day, week, month or month-end"),
        ("2024-02-01", "2024-02-20", "month-end", "there is no such day"),
        ("1900-01-01", "2024-01-01", "day", "more than 3,660 days"),
    ],
)
def test_what_gives_no_days_is_refused(first: str, last: str, every: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        days(first, last, every)
