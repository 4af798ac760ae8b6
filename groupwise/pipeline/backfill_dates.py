"""The days of a backfill: FROM, then a step further each, up to TO."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Literal, get_args

from multilevel.errors import StudyError

type Step = Literal["day", "week", "month", "month-end"]

STEPS: tuple[str, ...] = get_args(Step.__value__)
MOST_DAYS = 3_660
"""Ten years of days: more is a slip of the pen."""


def backfill_dates(first: date, last: date, every: str) -> list[date]:
    """The days, oldest first, both ends included where they are days of the backfill.

    A month from the 31st is the last day of a shorter month, and the 31st again after it; ``month-end`` gives the last day of every month.

    Raises
    ------
    StudyError : the step is not known, FROM is after TO, or there are none or too many days.
    """
    if every not in STEPS:
        raise StudyError(f"--every {every}: write {', '.join(STEPS[:-1])} or {STEPS[-1]}.")
    if first > last:
        raise StudyError(f"--from {first} is after --to {last}.")
    found: list[date] = []
    for day in _days(first, every):
        if day > last:
            break
        if len(found) == MOST_DAYS:
            raise StudyError(f"--from {first} --to {last} --every {every}: more than {MOST_DAYS:,} days.")
        if day >= first:
            found.append(day)
    if not found:
        raise StudyError(f"--from {first} --to {last} --every {every}: there is no such day.")
    return found


def _days(first: date, every: str) -> Iterator[date]:
    place = 0
    while True:
        try:
            yield _day(first, every, place)
        except (OverflowError, ValueError):
            # the calendar of Python ends
            return
        place += 1


def _day(first: date, every: str, place: int) -> date:
    if every in ("day", "week"):
        return first + timedelta(days=place * (7 if every == "week" else 1))
    months = first.year * 12 + first.month - 1 + place
    year, month = divmod(months, 12)
    length = monthrange(year, month + 1)[1]
    return date(year, month + 1, length if every == "month-end" else min(first.day, length))
