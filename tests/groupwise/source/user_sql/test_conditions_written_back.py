"""What a condition becomes is one expression that DuckDB reads as it read the user's text, and that keeps the same rows."""

from __future__ import annotations

import json
import re
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.source.conditions import row_condition
from multilevel.errors import StudyError

COLUMNS = ("amount", "is_fuel", "ts", "department", "n", "Order", 'we ird" x')
ROWS = """select i * 0.5 as amount, i % 3 = 0 as is_fuel, timestamp '2024-01-01' + interval (i) day as ts,
case when i % 7 > 0 then 'GROCERY ' || (i % 5) end as department, i % 10 as n, i as "Order", i % 2 as "we ird"" x"
from range(200) as r(i)"""

numbers = st.sampled_from(
    [
        "n",
        "amount",
        '"Order"',
        '"we ird"" x"',
        "N",
        "1",
        "-2.5",
        "1e3",
        "n + 1",
        "-n",
        "n % 3",
        "n // 2",
        "abs(n)",
        "length(department)",
        "extract(month from ts)",
        "round(amount, 0)",
        "coalesce(n, 0)",
        "n::double",
        "try_cast(department as integer)",
        "year(ts)",
        "n ** 2",
        "case when is_fuel then n else 3 end",
        "case n when 1 then 2 end",
        "greatest(n, 2)",
        "nullif(n, 3)",
        "(n - (2 - 3))",
        "n / (2 / 3.0)",
    ]
)
texts = st.sampled_from(
    [
        "department",
        "'x'",
        "'it''s'",
        "lower(department)",
        "department || '%'",
        "$$a$$",
        "n::varchar",
        "substring(department from 1 for 3)",
        "trim(both 'G' from department)",
        "E'\\n'",
        "concat(department, n)",
        "left(department, 2)",
    ]
)
times = st.sampled_from(
    ["ts", "date '2024-03-01'", "ts - interval 2 days", "ts + interval '1' month", "date_trunc('month', ts)", "ts::date", "last_day(ts)"]
)
signs = st.sampled_from([" = ", " <> ", "<", " >= ", " is distinct from ", " is not distinct from ", " /* not ( */ > ", " -- ;\n <= "])
atoms = st.one_of(
    st.tuples(numbers, signs, numbers).map("".join),
    st.tuples(texts, signs, texts).map("".join),
    st.tuples(times, signs, times).map("".join),
    st.tuples(texts, st.sampled_from([" like ", " not ilike ", " similar to ", " ~ ", " glob "]), texts).map("".join),
    st.tuples(numbers, st.sampled_from([" in ", " not in "]), numbers).map(lambda p: f"{p[0]}{p[1]}({p[2]}, 4)"),
    st.tuples(numbers, st.sampled_from([" between ", " not between "]), numbers).map(lambda p: f"{p[0]}{p[1]}{p[2]} and 9"),
    st.sampled_from(["is_fuel", "IS_FUEL", "department is null", "ts is not null", "is_fuel is not true", "true", "null::boolean"]),
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or ", " AND\n"]), inner).map("".join),
        inner.map(lambda text: f"not ({text})"),
        inner.map(lambda text: f"({text})"),
        st.tuples(inner, inner).map(lambda p: f"case when {p[0]} then true else {p[1]} end"),
        inner.map(lambda text: f"coalesce({text}, false)"),
    ),
    max_leaves=6,
)
scraps = st.lists(
    st.sampled_from(
        [
            "n",
            "amount",
            '"',
            "'",
            "(",
            ")",
            ";",
            "--",
            "/*",
            "*/",
            "$$",
            "::",
            "integer",
            '"int) or ("',
            "select",
            "from",
            "and",
            "or",
            ",",
            "1",
            "=",
            "extract(",
            "year from ts)",
            "interval",
            "'1'",
            "cast(",
            " as ",
            "case",
            "when",
            "then",
            "end",
            "read_text('x')",
            "E'\\''",
            "x'",
            "[",
            "]",
            "{",
            "}",
            ".",
            "lines",
            "random()",
            "::",
            "#1",
            "$1",
            "?",
            "columns(*)",
            "->",
            "\n",
            "in (",
            "exists",
        ]
    ),
    max_size=12,
).map(" ".join)


def read_by_duckdb(text: str) -> Any:
    """The tree that DuckDB reads, without places; this test's own comparison."""
    (answer,) = duckdb.execute("select json_serialize_sql($text)", {"text": text}).fetchall()[0:1]
    tree = re.sub(r'"(query_location(_length)?":\d+|is_operator":(true|false))', '"x":0', answer[0]).replace('"":0', '":0')
    return json.loads(re.sub(r'"type_name":"[^"]*"|"path":\["[^"]*"\]', lambda found: found.group().upper(), tree))


def with_names_as_the_relation_has_them(text: str) -> str:
    return re.sub(r"\bIS_FUEL\b", "is_fuel", re.sub(r"\bN\b", "n", text))


@settings(max_examples=60, deadline=None)
@given(conditions)
def test_a_condition_is_written_back_as_the_same_tree_and_keeps_the_same_rows(text: str) -> None:
    condition = row_condition(text, COLUMNS, study="small")
    assert len(duckdb.extract_statements(f"select ({condition})")) == 1
    assert read_by_duckdb(f"select ({condition})") == read_by_duckdb(f"select (\n{with_names_as_the_relation_has_them(text)}\n)")


@settings(max_examples=150, deadline=None)
@given(scraps)
def test_scraps_of_sql_are_one_expression_or_refused(text: str) -> None:
    try:
        condition = row_condition(text, COLUMNS, study="small")
    except StudyError as error:
        assert "\n" not in str(error)
        return
    assert [str(s.type) for s in duckdb.extract_statements(f"select ({condition})")] == ["StatementType.SELECT"]
    assert read_by_duckdb(f"select ({condition})") == read_by_duckdb(f"select (\n{text}\n)")


@pytest.mark.parametrize(
    "text",
    [
        "amount > 10 and not is_fuel",
        "department like 'GROCERY!_%' escape '!' or department is null",
        "department not like '%!%' escape '!'",
        "(n, amount) in ((1, 0.5), (3, 1.5))",
        "n is distinct from 3 and is_fuel is not true",
        "ts at time zone 'UTC' >= timestamptz '2024-03-01 00:00:00+00'",
        "ts >= date '2024-01-05' + interval 3 weeks and dayname(ts) <> 'Sunday'",
        "regexp_matches(department, '^G.*[12]$') and split_part(department, ' ', 2) = '1'",
        "if(n > 3, is_fuel, not is_fuel)",
        "date_diff('day', date '2024-01-01', ts) % 2 = 0",
        "md5(n::varchar) < '8'",
        "- -n = n and +n > 1",
        'amount::decimal(10, 1) = 1.5 or n::"INTEGER" = 2',
        'lower("department") = \'grocery 1\' and "Order" > 3 and "we ird"" x" = 1',
        "strftime(ts, '%Y-%m') = '2024-02'",
        "amount > 1_0 and amount < .5e2 and n <> 99999999999999999999",
    ],
)
def test_the_same_rows_are_kept_as_by_the_users_own_text(text: str) -> None:
    condition = row_condition(text, COLUMNS, study="small")
    with duckdb.connect() as connection:
        kept = connection.sql(f'select "Order" from ({ROWS}) where {condition}').fetchall()
        assert kept == connection.sql(f'select "Order" from ({ROWS}) where {text}').fetchall()
