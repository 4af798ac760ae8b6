"""A study's ``where`` is one row-wise expression over the relation's columns, or it is refused."""

from __future__ import annotations

import duckdb
import pytest

from groupwise.source.conditions import check_type, condition_columns, row_condition
from multilevel.errors import StudyError

ROWS = """select 1.5::decimal(10, 2) as amount, false as is_fuel, timestamp '2024-03-02' as ts, 'GROCERY' as department, 3 as n,
2 as "we ird"" x" """
COLUMNS = ("amount", "is_fuel", "ts", "department", "n", 'we ird" x')


def holds(text: str) -> bool:
    condition = row_condition(text, COLUMNS, study="small")
    with duckdb.connect() as connection:
        check_type(connection, ROWS, condition, study="small")
        return bool(connection.sql(f"select {condition} from ({ROWS})").fetchall()[0][0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amount > 0 and not is_fuel", True),
        ("AMOUNT > 0 or Is_Fuel", True),
        ("n in (1, 2) or department in ('DRUG', 'GROCERY')", True),
        ("n between 4 and 9", False),
        ("department like 'GRO%' and department not ilike '%deli%'", True),
        ("regexp_matches(department, '^G.*Y$')", True),
        ("case when n > 2 then amount < 1 else true end", False),
        ("coalesce(n, 0) % 2 = 1 and n // 2 = 1", True),
        ("ts >= date '2024-03-01' and ts < timestamp '2024-03-03 00:00:00'", True),
        ("year(ts) = 2024 and isodow(ts) = 6 and extract(month from ts) = 3", True),
        ("date_trunc('month', ts) = date '2024-03-01'", True),
        ("ts - interval 2 days < date '2024-03-01'", True),
        ("n::varchar = '3' and try_cast(department as integer) is null", True),
        ("amount is not distinct from 1.5", True),
        ('"we ird"" x" = 2', True),
        ("department = 'it''s'", False),
        ("amount > 0 -- a note */ or is_fuel", True),
        ("abs(n) > 2 and round(amount, 0) = 2 and length(department) = 7", True),
    ],
)
def test_row_wise_conditions_mean_what_they_say(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "amount > (select avg(amount) from transactions)",
        "n in (select 1)",
        "exists (select 1)",
        "sum(amount) > 1",
        "count(*) > 1",
        "row_number() over () < 5",
        "lag(n) over (order by ts) = 1",
        "lead(n) > 1",
        "amount > 0; drop table transactions",
        "amount > 0) or (1 = 1",
        "drop table transactions",
        "insert into transactions values (1)",
        "select true",
        "from transactions",
        "copy transactions to 'x.csv'",
        "attach 'x.duckdb'",
        "read_csv('/etc/passwd') is null",
        "read_text('/etc/passwd') is null",
        "read_parquet('x') is null",
        "glob('/etc/*') is null",
        "getenv('HOME') = 'x'",
        "current_setting('temp_directory') = 'x'",
        "nextval('s') > 1",
        "query('select 1') = 1",
        "unnest([1, 2]) = 1",
        "columns('*') > 0",
        "* = 1",
        "random() < 0.5",
        "uuid() is null",
        "ts < now()",
        "ts < current_timestamp",
        "ts < current_date",
        "$x > 1",
        "? > 1",
        "transactions.amount > 1",
        "amount as x",
        "amount > 1 limit 1",
        "amount > 1 order by n",
        "",
        " ",
        "-- nothing",
        "amount >",
        "'unclosed",
        "(" * 3000 + "n > 1" + ")" * 3000,
    ],
)
def test_anything_else_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(StudyError, match="small: where: ") as caught:
        row_condition(text, COLUMNS, study="small")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_unknown_column_is_named_with_the_nearest() -> None:
    with pytest.raises(StudyError, match=r"no column amont; did you mean amount\?"):
        row_condition("amont > 1", COLUMNS, study="small")
    with pytest.raises(StudyError, match=r"no column GROCERY; they have .* \(text is written in single quotes\)"):
        row_condition('department = "GROCERY"', COLUMNS, study="small")


@pytest.mark.parametrize(("text", "message"), [("n", "of type INTEGER"), ("department > 1", "does not fit")])
def test_a_condition_of_another_type_is_refused(text: str, message: str) -> None:
    with duckdb.connect() as connection, pytest.raises(StudyError, match=message):
        check_type(connection, ROWS, row_condition(text, COLUMNS, study="small"), study="small")


def test_the_columns_of_a_condition_are_found_once_each() -> None:
    condition = row_condition("Amount > 1 and (n > 2 or amount < 9)", COLUMNS, study="small")
    assert condition_columns(condition) == ("amount", "n")
