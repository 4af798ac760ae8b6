"""Conditions that try to be more than a condition are refused, quickly and in one line, and reach no file."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import pytest

from groupwise.commands.plan import show_plan
from groupwise.source.conditions import row_condition
from multilevel.errors import GroupwiseError, StudyError

COLUMNS = ("amount", "is_fuel", "ts", "department", "n")
WRITES = """g::"integral) is not null) as z from (select '1' as g); copy (select content from read_text('canary.txt')) to 'written.txt' \
(format csv, header false, quote ''); select ((g::varchar" is not null"""
READS = """extract("year from ts) > 0 and (select content from read_text(lower('canary.txt'))) like lower('%') \
and extract(year" from ts) > 0"""
SECRET = "seven secret herons"

BREAKING_OUT = [
    "amount > 0) or (1 = 1",
    "amount > 0) from (select 1 as amount",
    "amount > 0)::varchar || (department",
    "amount > 0 -- )\n) or (true",
    "amount > 0 /* ( */ ) or ( true",
    "amount > 0 /* unclosed",
    "amount > 0; copy (select 1) to 'written.txt'",
    "amount > 0;",
    ";",
    "amount > 0\0",
    "amount > 0 as x",
    "amount > 0, n > 1",
    "amount > 0 from lines",
    "amount > 0 where true",
    "amount > 0 union select true",
    "amount > 0 order by random()",
    "amount > 0 limit 1",
    "amount > 0 qualify true",
    "distinct amount > 0",
    "all amount > 0",
    "* exclude (n)",
    "department = 'unclosed",
    "department = $$unclosed",
    'department = "unclosed',
    "department = E'unclosed\\'",
]
QUOTED_NAMES = [
    WRITES,
    READS,
    'amount::"foo bar" is null',
    'cast(amount as "integer) is null or (1") is null',
    'try_cast(amount as "x") is null',
    'amount::"decimal(10,2)) is null or (true" is null',
    'amount::decimal("10)) or (true", 2) is null',
    'amount::struct(a "int) or (true") is null',
    'amount::"integer"[] is null',
    'amount::"main"."integer" is null',
    "amount::enum('a', 'b') is null",
    "amount::my_type is null",
    'extract("year from ts) is null or (true) or extract(year" from ts) > (select 1)',
    "interval '1' foo > interval 1 day",
    'department collate "de) or (true" = 1',
    '"lower"("no such column") = 1',
    'timestamp "ts" > ts',
    'ts at time zone "x"',
    '"random"() < 1',
    '"main"."lower"(department) = 1',
    "system.main.lower(department) = 1",
    "department.lower() = 1",
    "amount.n > 1",
    "lines.amount > 1",
    '"a\nb" > 1',
    '"a\x1b[31m\u202eb" > 1',
]
MORE_THAN_A_ROW = [
    "(select 1) = 1",
    "exists (from lines)",
    "n in (select n from lines)",
    "n = any(select 1)",
    "n = any([1, 2])",
    "n = all(select 1)",
    "array(select 1) = [1]",
    "case when (select true) then true end",
    "coalesce((select true), false)",
    "n between (select 1) and 2",
    "abs((select 1)) > 0",
    "not (select true)",
    "n::integer in ((select 1), 2)",
    "sum(n) > 1",
    "sum(n) filter (n > 1) > 1",
    "count(*) > 1",
    "count(distinct n) > 1",
    "string_agg(department, ',' order by n) = 'x'",
    "max(n) over (partition by department) = n",
    "rank() over (order by n) = 1",
    "lag(n) over () = 1",
    "grouping(n) = 1",
    "unnest([true])",
    "generate_subscripts([1], 1) = 1",
    "columns('n') > 1",
    "columns(*) > 1",
    "columns(c -> c = 'n') > 1",
    "*columns('n') > 1",
    "#1 > 1",
    "$1 > 1",
    "$x > 1",
    "? > 1",
    "default",
    "[x for x in [1, 2] if x > 1] = [2]",
    "list_transform([1], x -> x + 1) = [2]",
    "list_filter([1], lambda x : x > 1) = []",
    "list_reduce([1, 2], (a, b) -> a + b) = 3",
    "[1, 2][1] = 1",
    "department[1] = 'G'",
    "{'a': 1}.a = 1",
    "struct_pack(a := 1) is null",
    "map {'a': 1}['a'] = 1",
    "row(1, 2).a = 1",
    "lower(string := department) = 'x'",
]
OUTSIDE = [
    "read_text('canary.txt') is null",
    "read_blob('canary.txt') is null",
    "read_csv('canary.txt') is null",
    "read_parquet('x') is null",
    "read_json('x') is null",
    "sniff_csv('canary.txt') is null",
    "glob('*') is null",
    "parquet_metadata('x') is null",
    "query('select 1') = 1",
    "query_table('lines') = 1",
    "json_execute_serialized_sql('x') is null",
    "json_serialize_plan('x') is null",
    "getenv('HOME') = 'x'",
    "getvariable('x') = 1",
    "current_setting('temp_directory') = 'x'",
    "current_query() = 'x'",
    "duckdb_settings() is null",
    "pragma_version() is null",
    "write_log('x') is null",
    "error('x') is null",
    "pg_get_viewdef(1) = 'x'",
    "has_table_privilege('x', 'y')",
]
ANOTHER_ANSWER = [
    "random() < 0.5",
    "setseed(0.5) is null",
    "uuid() is null",
    "uuidv7() is null",
    "gen_random_uuid() is null",
    "now() > ts",
    "today() > ts",
    "current_date > ts",
    "current_date() > ts",
    "current_time is null",
    "current_timestamp > ts",
    "current_localtimestamp() > ts",
    "localtimestamp > ts",
    "transaction_timestamp() > ts",
    "get_current_timestamp() > ts",
    "ago(interval 1 day) > ts",
    "age(ts) > interval 1 day",
    "nextval('s') = 1",
    "currval('s') = 1",
    "txid_current() = 1",
    "pg_sleep(1) is null",
    "sleep_ms(1) is null",
    "lower(department) = uuid()::varchar",
]
STATEMENTS = [
    "copy lines to 'written.txt'",
    "attach 'written.txt'",
    "install httpfs",
    "load httpfs",
    "pragma version",
    "set threads = 1",
    "call pragma_version()",
    "explain select 1",
    "describe lines",
    "summarize lines",
    "show tables",
    "create macro f() as 1",
    "export database 'written'",
    "select true",
    "from 'canary.txt'",
    "values (true)",
    "with x as (select true) from x",
    "pivot lines on n using sum(amount)",
]
CORPUS = [*BREAKING_OUT, *QUOTED_NAMES, *MORE_THAN_A_ROW, *OUTSIDE, *ANOTHER_ANSWER, *STATEMENTS]


@pytest.mark.parametrize("text", CORPUS)
def test_hostile_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(StudyError, match="small: where: ") as caught:
        row_condition(text, COLUMNS, study="small")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    assert "unexpected" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("random() < 0.5", r"the function random may not be used in a condition: it gives another answer on every run"),
        ("ts < now()", r"now may not .*: it reads the clock; as_of is a study's only clock"),
        ("ts < current_date", r"current_date may not .*: it reads the clock"),
        ("getenv('HOME') = 'x'", r"getenv may not .*: it reads settings"),
        ("read_text('x') = 'x'", r"read_text may not .*: it reads what does not belong to the source"),
        ("sum(n) > 1", r"sum may not .*: it looks at other rows; calculate it in the query \(line_items\)"),
        ("lowr(department) = 'x'", r"the function lowr may not be used in a condition; did you mean lower\?$"),
        ("amount::geometry is null", r"a cast to 'GEOMETRY' may not be used; cast to numbers, varchar, dates or times"),
        ("n in (select 1)", "may not hold a query"),
    ],
)
def test_a_refusal_says_why_and_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        row_condition(text, COLUMNS, study="small")


@pytest.mark.parametrize(
    "text",
    [
        " and ".join(["n > 1"] * 20_000),
        "n > 1" + " and n > 1" * 1_500 + " and",
        "n in (" + ", ".join(["1"] * 4_000) + ")",
        "(" * 4_000 + "n > 1" + ")" * 4_000,
        "(" * 4_000,
        "- " * 4_500 + ")",
        "-/**/" * 1_900 + "n",
        "not " * 2_400 + "is_fuel",
        "case when " * 900,
        "case when is_fuel then " * 400 + "true" + " end" * 400,
        "abs(" * 1_900 + "n" + ")" * 1_900 + " > 1",
        "n" + "::integer" * 1_000 + " > 1",
        "department = '" + "x" * 1_000_000 + "'",
        "n + " * 2_000 + "n > 1",
    ],
)
def test_what_is_too_large_to_check_is_refused_at_once(text: str) -> None:
    row_condition("n > 1", COLUMNS, study="small")
    started = time.process_time()
    with pytest.raises(StudyError, match="small: where: "):
        row_condition(text, COLUMNS, study="small")
    assert time.process_time() - started < 2


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of a Parquet file in a folder with a file that nobody declared."""
    monkeypatch.chdir(tmp_path)
    Path("canary.txt").write_text(SECRET)
    rows = "select i::double as x, 'g' || (i % 5) as g, timestamp '2024-01-01' + interval (i) day as ts, 1.5 as amount, true as is_fuel"
    duckdb.sql(f"copy (select *, 'a' as department, 1 as n from ({rows} from range(100) as r(i))) to 'rows.parquet'")
    Path("study.yaml").write_text("name: small\nformula: x ~ 1 + (1 | g)\nsource: {parquet: rows.parquet}\nengine: likelihood\n")
    return tmp_path


@pytest.mark.parametrize("text", [WRITES, READS, *BREAKING_OUT[:3], *STATEMENTS[:3], "(select content from read_text('canary.txt')) = 'x'"])
def test_a_dry_run_of_a_hostile_setting_touches_no_file(study_file: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(study_file.iterdir())
    quoted = "'" + text.replace("'", "''") + "'"
    with pytest.raises(GroupwiseError) as caught:
        show_plan("study.yaml", as_of=None, settings=(f"where={quoted}",))
    out, err = capsys.readouterr()
    assert SECRET not in str(caught.value) + out + err
    assert sorted(study_file.iterdir()) == before
