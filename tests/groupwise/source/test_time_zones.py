"""A shop's day is local: windows, latest days and days that a query derives, on the days on which clocks are set forward and back too."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from groupwise.run_folder import RunFolder
from groupwise.source.describe import extract
from groupwise.source.relation import connect
from groupwise.source.time_zones import local_day
from groupwise.study.study import Study
from groupwise.validation.expectation_record import record
from groupwise.validation.validate import validate
from multilevel.errors import StudyError

SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A line item every half hour of 2026 in UTC, in a Parquet file that knows its times are in UTC."""
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(
            "copy (select timestamptz '2026-01-01 00:15:00+00' + interval (30 * i) minute as sold_at, "
            "1.0 + i % 7 as amount, 'g' || i % 3 as g, i as id from range(48 * 365) r(i)) to 'sales.parquet'"
        )
    (tmp_path / "run").mkdir()
    return tmp_path


def study(**fields: Any) -> Study:
    plain = {"name": "day", "formula": "amount ~ 1 + (1 | g)", "source": {"parquet": "sales.parquet"}, "timezone": "Europe/Berlin"}
    return Study(**{**plain, "window": {"column": "sold_at", "days": 1}, **fields})


def answer(made: Study, day: date | None, query: str) -> list[Any]:
    relation = extract(made, day, Path("run"), today=date(2026, 1, 1))
    connection = connect(relation, Path("run"))
    return connection.sql(query.format(rows=f"({relation.sql})")).fetchall()


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), (date(2026, 6, 1), 24)])
def test_a_day_has_the_hours_that_the_clock_gives_it(day: date, hours: int) -> None:
    after = date.fromordinal(day.toordinal() + 1)
    ((n, first, last),) = answer(study(), after, "select count(*), min(cast(sold_at as date)), max(cast(sold_at as date)) from {rows}")
    assert (n, first, last) == (2 * hours, day, day)


def test_without_a_zone_days_are_those_of_utc() -> None:
    ((n,),) = answer(study(timezone=None), date(2026, 3, 30), "select count(*) from {rows}")
    assert n == 48


def test_the_latest_day_is_local() -> None:
    """The last line item is at 23:45 UTC on New Year's Eve, which is New Year's Day in Berlin."""
    assert extract(study(), None, Path("run"), today=date(2026, 1, 1)).as_of == date(2027, 1, 2)
    assert extract(study(timezone=None), None, Path("run"), today=date(2026, 1, 1)).as_of == date(2027, 1, 1)


def test_hours_and_days_that_a_query_derives_are_those_of_the_clock_on_the_wall() -> None:
    Path("q.sql").write_text("select *, hour(sold_at) as clock, cast(sold_at as date) as local_day from source")
    made = study(source={"parquet": "sales.parquet", "line_items": "q.sql"}, window={"column": "local_day", "days": 1})
    skipped = answer(made, date(2026, 3, 30), "select count_if(clock = 2) as two, count_if(clock = 3) as three, count(*) from {rows}")
    twice = answer(made, date(2026, 10, 26), "select count_if(clock = 2) as two, count_if(clock = 3) as three, count(*) from {rows}")
    assert (skipped, twice) == ([(0, 2, 46)], [(4, 2, 50)])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("day", [SPRING, AUTUMN])
def test_rules_compare_what_the_clock_reads_and_the_record_agrees(folder: Path, day: date) -> None:
    """Of the hours before three, spring has two and autumn four; Great Expectations counts the same."""
    rules = [{"check": "between", "column": "sold_at", "min": f"{day}T03:00:00", "id": "open"}, {"check": "unique", "column": "id"}]
    made = study(rules=rules, quarantine_limit=1)
    run = RunFolder(folder / "run")
    run.write_study(made, "")
    relation = extract(made, date.fromordinal(day.toordinal() + 1), run.path, today=date(2026, 1, 1))
    found = validate(made, relation, run.path)
    assert found.n_quarantined == (4 if day == SPRING else 8)
    assert record(run)["results"]["open"]["unexpected"] == found.n_quarantined


def test_the_day_of_a_moment_is_local() -> None:
    late = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)
    assert local_day(late, "Europe/Berlin") == date(2026, 3, 29)
    assert local_day(late, study(timezone=None).zone) == date(2026, 3, 28)
    assert local_day(datetime(2026, 11, 1, 4, 30, tzinfo=UTC), "America/New_York") == date(2026, 11, 1)


@pytest.mark.parametrize(("zone", "meant"), [("europe/berlin", "Europe/Berlin"), ("Berlin", "Europe/Berlin"), ("Mars", "such as")])
def test_a_zone_that_is_none_is_refused_with_one_that_is_close(zone: str, meant: str) -> None:
    with pytest.raises(StudyError, match=f"timezone: '{zone}': write the name of a time zone such as") as caught:
        study(timezone=zone)
    assert meant in str(caught.value)
