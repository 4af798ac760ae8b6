"""Extract describes the line items as of a date and refuses, in one clear line, whatever it cannot read."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from groupwise.source import relation as relations
from groupwise.source.describe import extract
from groupwise.source.relation import Relation, connect
from groupwise.study.study import Study
from multilevel.errors import DataError, SourceError, StudyError

TODAY = date(2026, 1, 1)
WINDOW = {"column": "day", "days": 10}
type Describe = Callable[..., Relation]
type Change = Callable[[str], None]
type MakeStudy = Callable[..., Study]


def test_a_relation_survives_its_json(described: Describe, shop: Path) -> None:
    found = described(window=WINDOW)
    assert Relation.from_json((shop / "run" / "relation.json").read_text()) == found


def test_latest_is_the_day_after_the_last_row_and_the_window_is_half_open(described: Describe) -> None:
    found = described(window=WINDOW)
    assert (found.start, found.end, found.as_of) == (date(2024, 1, 31), date(2024, 2, 10), date(2024, 2, 10))
    with connect(found) as connection:
        first, last, rows = connection.sql(f"select min(day)::date, max(day)::date, count(*) from ({found.sql})").fetchall()[0]
    assert (first, last, rows) == (date(2024, 1, 31), date(2024, 2, 9), found.rows)
    assert found.rows == 100


def test_a_midnight_row_of_as_of_itself_is_outside_and_of_the_first_day_inside(described: Describe, change: Change) -> None:
    change("delete from lines; insert into lines select 1, t, 'C', 'R', 1, 5, 1, true, 1 from (values (timestamp '2024-01-01'), "
           "(timestamp '2024-01-11')) as v(t)")  # fmt: skip
    found = described(window=WINDOW, as_of=date(2024, 1, 11))
    assert found.rows == 1


def test_a_given_date_comes_before_the_studys(described: Describe) -> None:
    assert described(window=WINDOW, as_of=date(2024, 2, 1)).start == date(2024, 1, 22)
    assert described(window={"column": "day", "days": 3000}).start == date(2024, 2, 10) - timedelta(days=3000)


def test_without_a_window_latest_is_the_runs_date_and_all_rows_count(described: Describe) -> None:
    found = described()
    assert (found.as_of, found.rows, found.window_column) == (TODAY, 400, None)


def test_a_scheduled_study_takes_the_runs_date(described: Describe) -> None:
    assert described(as_of=None, window={"column": "day", "days": 900}, **{"expectations": None}).as_of == date(2024, 2, 10)


def test_the_checksum_ignores_the_order_of_rows(described: Describe, change: Change) -> None:
    before = described()
    change("create table shuffled as select * from lines order by hash(id); drop table lines; alter table shuffled rename to lines")
    assert described().checksum == before.checksum


@pytest.mark.parametrize(
    "statement",
    [
        "update lines set amount = 99 where id = 7",
        "insert into lines select * from lines where id = 7",
        "insert into lines select * from lines where id = 7 union all select * from lines where id = 7",
        "update lines set category = 'C9' where id = 7",
    ],
)
def test_the_checksum_sees_a_changed_and_a_repeated_row(described: Describe, change: Change, statement: str) -> None:
    before = described()
    change(statement)
    assert described().checksum != before.checksum


def test_the_checksum_covers_columns_of_where(described: Describe, change: Change) -> None:
    before = described(where="is_sold")
    change("update lines set is_sold = not is_sold where id = 7")
    assert described(where="is_sold").checksum != before.checksum


def test_a_missing_file_is_named_with_the_working_directory(described: Describe, shop: Path) -> None:
    with pytest.raises(SourceError, match=rf"small: source.database none.duckdb does not exist \(working directory {shop}\)"):
        described(source={"database": "none.duckdb", "line_items": "lines.sql"})


@pytest.mark.parametrize("content", [b"", b"id,amount\n1,2\n" * 1000])
def test_a_file_that_is_no_database_is_refused(described: Describe, content: bytes) -> None:
    Path("blocked.duckdb").write_bytes(content)  # its name has the word lock in it, which must not look like a lock
    started = time.monotonic()
    with pytest.raises(SourceError, match="not a valid DuckDB database file"):
        described(source={"database": "blocked.duckdb", "line_items": "lines.sql"})
    assert time.monotonic() - started < relations.LOCK_WAITS_SECONDS[0] + 2


def test_a_folder_is_no_database(described: Describe) -> None:
    with pytest.raises(SourceError, match=r"source\.database run does not exist"):
        described(source={"database": "run", "line_items": "lines.sql"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select * from nothing_here", "there is no table nothing_here"),
        ("select id, amnt as amount from lines", "amnt"),
        ("select from where", "not readable as SQL"),
        ("select 1 as amount; select 2 as amount", "exactly one SELECT"),
        ("create table x as select 1 as amount", "exactly one SELECT"),
        ("drop table lines", "exactly one SELECT"),
        ("", "exactly one SELECT"),
        ("select * from lines where id = $x", r"has parameters \(\$x\)"),
        ("select * from 'https://example.org/x.parquet'", "cannot be read"),
    ],
)
def test_a_query_that_does_not_run_is_refused_in_one_line(described: Describe, text: str, message: str) -> None:
    Path("lines.sql").write_text(text)
    with pytest.raises(SourceError, match=message) as caught:
        described()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("small: ")


def test_a_missing_query_file_is_named(described: Describe) -> None:
    with pytest.raises(SourceError, match=r"source.line_items other.sql does not exist"):
        described(source={"database": "shop.duckdb", "line_items": "other.sql"})


def test_the_projects_own_query_is_found_from_any_working_directory(described: Describe) -> None:
    with pytest.raises(SourceError, match=r"sql/line_items.sql cannot be read from this source: there is no table transactions"):
        described(source={"database": "shop.duckdb", "line_items": "sql/line_items.sql"})


def test_a_missing_column_is_named_with_the_nearest(described: Describe) -> None:
    with pytest.raises(SourceError, match=r"no column amuont; did you mean amount\? they have id, day"):
        described(formula="amuont ~ 1 + (1 | category)")
    with pytest.raises(SourceError, match="no column regoin"):
        described(missing={"regoin": "level"})
    with pytest.raises(SourceError, match="no column date"):
        described(window={"column": "date", "days": 3})


def test_an_empty_window_says_which_dates_the_data_has(described: Describe) -> None:
    with pytest.raises(DataError, match=r"window 2022-12-22 to 2023-01-01 \(end not included\); the data has 2024-01-01 to 2024-02-09"):
        described(window=WINDOW, as_of=date(2023, 1, 1))


def test_an_empty_table_is_refused(described: Describe, change: Change) -> None:
    change("delete from lines")
    with pytest.raises(DataError, match="no line items"):
        described()
    with pytest.raises(DataError, match="no line items with a day"):
        described(window=WINDOW)


def test_a_window_over_something_else_than_dates_is_refused(described: Describe) -> None:
    with pytest.raises(SourceError, match=r"window.column amount is DOUBLE; it must be a date or a timestamp"):
        described(window={"column": "amount", "days": 3}, as_of=date(2024, 1, 5))
    with pytest.raises((SourceError, DataError), match=r"window.column category"):
        described(window={"column": "category", "days": 3})


def test_a_placeholder_date_is_not_taken_for_the_last_day(described: Describe, change: Change) -> None:
    change("update lines set day = timestamp 'infinity' where id = 3")
    with pytest.raises(DataError, match=r"9999-12-31, which is no real day; give a date"):
        described(window=WINDOW)


def test_a_date_before_the_calendar_is_refused(described: Describe) -> None:
    with pytest.raises(DataError, match=r"as_of 0001-01-03 less window.days 10 is no date"):
        described(window=WINDOW, as_of=date(1, 1, 3))


@pytest.mark.parametrize("name", ['quo"te', "semi; drop table lines", "it's", "--comment", "ünï côde"])
def test_any_column_name_is_data(described: Describe, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    Path("lines.sql").write_text(f"select amount, price, category, day, day as {quoted} from lines")
    found = described(window={"column": name, "days": 10})
    assert (found.rows, name in found.columns) == (100, True)


def test_any_file_name_is_data(described: Describe) -> None:
    Path("shop.duckdb").rename("it's; drop table lines --.duckdb")
    assert described(source={"database": "it's; drop table lines --.duckdb", "line_items": "lines.sql"}).rows == 400


def test_parquet_files_are_read_together(described: Describe, shop: Path) -> None:
    (shop / "lake's" / "x").mkdir(parents=True)
    duckdb.sql("copy (select 1.0 as amount, 2.0 as price, 'a' as category) to 'lake''s/x/one.parquet'")
    duckdb.sql("copy (select 3.0 as amount, 2.0 as price, 'b' as category) to 'lake''s/two.parquet'")
    assert described(source={"parquet": "lake's/**/*.parquet"}).rows == 2
    assert described(source={"parquet": ["lake's/two.parquet"]}).rows == 1
    with pytest.raises(SourceError, match=r"source.parquet lake's/\*.pq matches no file"):
        described(source={"parquet": "lake's/*.pq"})


def test_a_file_that_is_no_parquet_is_refused(described: Describe) -> None:
    Path("bad.parquet").write_text("id,amount\n1,2\n")
    with pytest.raises(SourceError, match=r"bad.parquet cannot be read"):
        described(source={"parquet": "bad.parquet"})


def test_nothing_can_be_written_through_the_connection(described: Describe) -> None:
    with connect(described()) as connection, pytest.raises(duckdb.Error, match="read-only"):
        connection.execute("delete from lines")


def test_the_connection_is_bounded_and_in_utc(described: Describe, shop: Path) -> None:
    with connect(described(), shop / "run") as connection:
        settings = (
            "current_setting('TimeZone'), current_setting('autoinstall_known_extensions'), current_setting('autoload_known_extensions')"
        )
        assert connection.sql(f"select {settings}").fetchall() == [("UTC", False, False)]
        (kept,) = connection.sql("select current_setting('temp_directory')").fetchall()[0]
    assert kept.startswith(str(shop / "run"))
    assert (shop / "run").is_dir(), "closing the connection must leave the run's folder"


def test_views_of_the_database_work_under_the_alias(described: Describe, change: Change) -> None:
    change("create view v as select * from shop.main.lines; create schema source; create table source.lines as select 1 as other")
    Path("lines.sql").write_text("select * from v")
    assert described().rows == 400


def test_a_source_that_is_written_to_during_the_run_is_refused(described: Describe, change: Change) -> None:
    found = described()
    connect(found).close()
    change("insert into lines select * from lines limit 1")
    with pytest.raises(SourceError, match=r"was written to after this run had begun to read it\. Start the run again"):
        connect(found)


def test_a_new_parquet_file_during_the_run_is_refused(described: Describe) -> None:
    duckdb.sql("copy (select 1.0 as amount, 2.0 as price, 'a' as category) to 'one.parquet'")
    found = described(source={"parquet": "*.parquet"})
    connect(found).close()
    duckdb.sql("copy (select 1.0 as amount, 2.0 as price, 'a' as category) to 'two.parquet'")
    with pytest.raises(SourceError, match="written to"):
        connect(found)


@pytest.fixture
def writer(shop: Path) -> subprocess.Popen[str]:
    """Another process that holds the database open for writing until its stdin closes."""
    code = "import duckdb, sys; c = duckdb.connect('shop.duckdb'); print('open', flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "open"
    return process


def test_a_locked_database_is_refused_saying_who_holds_it(
    described: Describe, writer: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations, "LOCK_WAITS_SECONDS", (0.01, 0.02))
    try:
        with pytest.raises(SourceError, match=rf"shop.duckdb is locked by a process that writes to it \(.*{writer.pid}.*\)") as caught:
            described()
        assert "3 attempts" in str(caught.value)
    finally:
        writer.communicate()


def test_a_database_that_is_released_in_time_is_read(
    described: Describe, writer: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def release(seconds: float) -> None:
        waits.append(seconds)
        writer.communicate()

    monkeypatch.setattr(relations.time, "sleep", release)
    assert described().rows == 400
    assert waits == [relations.LOCK_WAITS_SECONDS[0]]


def test_where_is_refused_before_anything_is_counted(described: Describe) -> None:
    with pytest.raises(StudyError, match="where"):
        described(where="amount > (select max(amount) from lines)")
    with pytest.raises(StudyError, match="true or false"):
        described(where="amount + 1")


def test_an_indicator_that_exists_already_is_refused(described: Describe) -> None:
    Path("lines.sql").write_text("select *, 1 as price_missing from lines")
    with pytest.raises(SourceError, match="makes a column price_missing, but the line items have one"):
        described(missing={"price": "mean_and_indicator"})


def test_a_scheduled_study_speaks_for_the_runs_date(study: MakeStudy, shop: Path) -> None:
    made = study(window={"column": "day", "days": 30}, as_of="scheduled")
    assert extract(made, None, shop / "run", today=date(2024, 2, 1)).as_of == date(2024, 2, 1)


def test_a_suite_that_does_not_exist_fails_before_the_source_is_opened(described: Describe) -> None:
    with pytest.raises(StudyError, match=r"there is no suite expectations/none\.json"):
        described(expectations="none", source={"database": "none.duckdb", "line_items": "lines.sql"})


def test_a_suite_for_other_columns_fails_before_rows_are_read(described: Describe, change: Change) -> None:
    change("delete from lines")
    with pytest.raises(StudyError, match="rule ts_present reads ts, which the line items do not have"):
        described(expectations="line_items")
