"""``line_items`` and ``standardise_to.query``: what analysts write runs, what reads elsewhere or changes with every run is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from groupwise.compression.mix_query import keep_mix
from groupwise.source.relation import Relation, connect
from groupwise.source.user_sql.objects import SourceObjects, view_query
from groupwise.source.user_sql.sql_errors import RefusedSqlError
from groupwise.source.user_sql.user_query import check_query
from groupwise.study.study import Study
from multilevel.errors import SourceError

type Describe = Callable[..., Relation]
type Change = Callable[[str], None]

SECRET = "seven secret herons"
SOURCE = SourceObjects(tables=frozenset({"lines", "stores"}), schemas=frozenset({"main", "raw"}))

PLAIN = [
    "select *, amount * n as total from lines -- a note; with a semicolon",
    "from lines",
    "table lines",
    "with a as materialized (select * exclude (k) from lines), b(x) as (select 1) select a.*, x from a cross join b",
    "select * replace (amount + 1 as amount) rename (n as items) from lines",
    "select columns('a.*|price|category|day') from lines",
    "select * from lines where n in (select n from lines) and exists (from lines)",
    "select *, sum(amount) over w as running, row_number() over (partition by category order by day) from lines window w as (order by id)",
    "select * from lines qualify row_number() over (partition by category order by day desc) <= 5",
    "select category, any_value(price) as price, sum(amount) as amount, max(day) filter (n > 1) as day from lines group by all",
    "select category, 1.5 as price, count(*)::double as amount from lines group by rollup (category) having category is not null",
    "select * from lines union all by name select * from lines",
    "select distinct on (category, region) * from lines order by category, region, day",
    "select l.*, m.x from lines l asof join (select timestamp '2024-01-01' as day, 1 as x) m on l.day >= m.day",
    "select l.*, part from lines l, lateral (select l.amount / 2 as part) where part > 0",
    "select *, unnest([1, 2]) as copy from lines",
    "select * from lines, unnest([1, 2]) as u(copy), range(2) as r(i), generate_series(1, 2) as s(j)",
    "select lines.* from lines join (values ('C0', 1), ('C1', 2)) as v(category, w) using (category)",
    "select *, list_transform([n, k], lambda x: x + 1) as pair, [x for x in [n, k] if x > 1] as some, {'a': n} as packed from lines",
    "with recursive r as (select 1 as i union all select i + 1 from r where i < 3) select * from lines, r",
    "with z as (select 1 as i) select (with y as (from z) select max(i) from y) as most, list_aggr([n, 2], 'max') as top, l.* from lines l",
    "select day, category, price, sold as amount from (pivot lines on is_sold in (true as sold, false as kept) using sum(amount))",
    "select id, day, category, price, value as amount from (unpivot lines on amount, k::double into name n value value)",
    "select *, date_trunc('month', day) as month, day - interval 3 days as before, age(day, timestamp '2020-01-01') as old from lines",
    "select *, (select max(amount) from lines m where m.category = lines.category) as most, nullif(n, 3), hash(id) as h from lines",
    "select * from source.main.lines",
    "select * from main.lines order by id limit 10 offset 2",
    "select * from lines semi join (select 'C1' as category) c using (category)",
    "select *, case category when 'C0' then 1 end as c, try_cast(region as integer), region ilike 'r%', struct_pack(a := n).a from lines",
    "select *, string_agg(region, ',' order by region) over (), quantile_cont(amount, 0.5) over (partition by category) from lines",
]


@pytest.mark.parametrize("text", PLAIN)
def test_an_analysts_query_gives_the_rows_that_it_gives_in_duckdb(described: Describe, shop: Path, text: str) -> None:
    Path("lines.sql").write_text(text + ";\n")
    found = described(formula="amount ~ 1 + (1 | category)")
    with connect(found) as connection:
        rows = connection.execute(f"select count(*), bit_xor(hash(x)) from ({found.sql}) as x").fetchall()
    with duckdb.connect() as plain:
        plain.execute("attach 'shop.duckdb' as source (read_only); use source.main; set TimeZone = 'UTC'")
        assert rows == plain.execute(f"select count(*), bit_xor(hash(x)) from (\n{text}\n) as x").fetchall()


REFUSED = [
    ("select * from read_text('canary.txt')", "read_text.*declare files under source"),
    ('with a as (select 1), b as (with "x.parquet" as (select 2) select 1) select * from "x.parquet"', "cannot be read by its name"),
    ('with "x.parquet" as (from "x.parquet") select 1', "cannot be read by its name"),
    ("select * from (with sqlite_master as (select 1) select 1), sqlite_master", "describes the database"),
    ("from main.duckdb_tables", "describes the database"),
    ("from pg_am", "describes the database"),
    ("from system.main.lines", "describes the database"),
    ("select list_aggregate([n, 2], 'reservoir_quantile', 0.5) from lines", "another answer"),
    ("select list_aggr([n, 2], 'su' || 'm') from lines", "name of its function"),
    ("select * from read_blob('canary.txt')", "read_blob"),
    ("select * from read_csv('canary.txt')", "read_csv"),
    ("select * from read_parquet('x.parquet')", "read_parquet"),
    ("select * from parquet_scan('x.parquet')", "parquet_scan"),
    ("select * from parquet_metadata('x.parquet')", "parquet_metadata"),
    ("select * from read_json('x')", "read_json"),
    ("select * from sniff_csv('canary.txt')", "sniff_csv"),
    ("select * from glob('*')", "glob"),
    ("select * from 'canary.txt'", "cannot be read by its name"),
    ("from 'x.parquet'", "cannot be read by its name"),
    ('from "/etc/passwd.csv"', "cannot be read by its name"),
    ("from 'https://example.org/x.parquet'", "cannot be read by its name"),
    ("from lines, 'x.parquet'", "cannot be read by its name"),
    ("select (select content from read_text('canary.txt')) as x", "read_text"),
    ("with x as (from read_text('canary.txt')) from x", "read_text"),
    ("select * from duckdb_settings()", "duckdb_settings"),
    ("select * from duckdb_secrets()", "duckdb_secrets"),
    ("select * from duckdb_tables", "describes the database"),
    ("select * from sqlite_master", "describes the database"),
    ("select * from information_schema.tables", "describes the database"),
    ("select * from system.information_schema.tables", "describes the database"),
    ("select * from pg_catalog.pg_class", "describes the database"),
    ("select * from memory.main.x", "no table of the source"),
    ("select * from pragma_table_info('lines')", "pragma_table_info"),
    ("select * from query('select 1')", "runs a text as SQL"),
    ("select * from query_table('lines')", "runs a text as SQL"),
    ("select * from json_execute_serialized_sql('x')", "json_execute_serialized_sql"),
    ("select getenv('HOME') as x", "getenv.*settings"),
    ("select current_setting('temp_directory') as x", "current_setting.*settings"),
    ("select getvariable('x') as x", "getvariable.*settings"),
    ("select random() as amount from lines", "random.*another answer on every run"),
    ("select * from lines where random() < 0.5", "random"),
    ("select * from lines order by random() limit 5", "random"),
    ("select * from lines limit (select random() * 5)", "random"),
    ("select * from lines join stores on random() < 0.5", "random"),
    ("select sum(amount) over (order by uuid()) from lines", "uuid"),
    ("select list_transform([1], x -> x + random()) from lines", "random"),
    ("select count(*) filter (random() < 0.5) from lines", "random"),
    ("select * from lines group by all having random() < 1", "random"),
    ("select * from lines qualify random() < 1", "random"),
    ("with x as (select gen_random_uuid()) from x", "gen_random_uuid"),
    ("select * from (values (random())) as v(x)", "random"),
    ("select * from range(now()::int)", "now"),
    ("select now() - day from lines", "now.*as_of is a study's only clock"),
    ("select today() from lines", "today"),
    ("select current_date from lines", "current_date"),
    ("select current_localtimestamp() from lines", "current_localtimestamp"),
    ("select ago(interval 1 day) from lines", "ago"),
    ("select age(day) from lines", "age"),
    ("select nextval('s') from lines", "nextval"),
    ("select txid_current() from lines", "txid_current"),
    ("select pg_sleep(1) from lines", "pg_sleep.*only waits"),
    ("select setseed(0.1) from lines", "setseed"),
    ("select reservoir_quantile(amount, 0.5) from lines", "reservoir_quantile"),
    ("select * from lines using sample 5", "a sample gives other rows on every run"),
    ("select * from lines tablesample 10%", "a sample"),
    ("select * from lines tablesample reservoir(5 rows) repeatable (1)", "a sample"),
    ("select * from lines at (version => 3)", "another time"),
    ("describe lines", "describe, show and summarize"),
    ("summarize lines", "describe, show and summarize"),
    ("show tables", "describe, show and summarize"),
    ("from (describe lines)", "describe, show and summarize"),
    ("with x as (insert into lines values (1) returning *) from x", "may not write"),
    ("with x as (delete from lines returning *) from x", "may not write"),
    ("explain select 1", "exactly one SELECT"),
    ("copy lines to 'written.txt'", "exactly one SELECT"),
    ("attach 'x'", "exactly one SELECT"),
    ("install httpfs", "exactly one SELECT"),
    ("load httpfs", "exactly one SELECT"),
    ("set threads = 1", "exactly one SELECT"),
    ("pragma version", "exactly one SELECT"),
    ("call pragma_version()", "exactly one SELECT"),
    ("select 1; select 2", "exactly one SELECT"),
    ("select 1; -- note", "no semicolon"),
    ("select 1) from (select 2", "not readable"),
    ("select 1) ; copy (select 2", "not readable"),
    ("select ?", "has parameters"),
    ("pivot lines on category using sum(amount)", "list them"),
    ("(" * 2_000 + "select 1" + ")" * 2_000, "nested too deeply"),
    ("select " + " + ".join(["1"] * 5_000), "nested too deeply"),
    ("select 1" + " union all select 1" * 20_000, "too many to check"),
    ("select '" + "x" * 60_000 + "'", "too many to check"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[text[:40] for text, _ in REFUSED])
def test_anything_else_is_refused_within_two_seconds_saying_why(text: str, reason: str) -> None:
    check_query("select 1", SOURCE)
    started = time.process_time()
    with pytest.raises(RefusedSqlError, match=reason):
        check_query(text, SOURCE)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", [text for text, _ in REFUSED if "canary" in text or "written" in text])
def test_a_hostile_query_touches_no_file(described: Describe, shop: Path, text: str) -> None:
    Path("canary.txt").write_text(SECRET)
    Path("lines.sql").write_text(text)
    before = sorted(shop.rglob("*"))
    with pytest.raises(SourceError, match=r"small: source\.line_items lines\.sql") as caught:
        described()
    assert SECRET not in str(caught.value)
    assert sorted(shop.rglob("*")) == before


def test_the_query_of_a_mix_is_checked_too(shop: Path, study: Callable[..., Study]) -> None:
    Path("mix.sql").write_text("select 'C0' as category, random() as weight")
    with pytest.raises(SourceError, match=r"small: standardise_to\.query mix\.sql: the function random may not be used"):
        keep_mix(study(standardise_to={"database": "shop.duckdb", "query": "mix.sql"}), shop / "run")


def test_a_view_that_reads_a_file_or_a_clock_is_named(described: Describe, change: Change) -> None:
    change("create view secret as select * from read_text('/etc/hostname'); create view fresh as select *, now() as day_read from lines")
    change("create view over_fresh as select * from fresh; copy lines to 'x.parquet'; create view by_name as select * from 'x.parquet'")
    Path("lines.sql").write_text("select * from secret")
    with pytest.raises(SourceError, match=r"read_text\(\) may not be read from: .* \(in the view secret\)"):
        described()
    Path("lines.sql").write_text("select * from over_fresh")
    with pytest.raises(SourceError, match=r"the function now may not be used: .* \(in the view fresh\)"):
        described()
    Path("lines.sql").write_text("select * from by_name")
    with pytest.raises(SourceError, match=r"'x.parquet' cannot be read by its name: .* \(in the view by_name\)"):
        described()


def test_a_macro_is_what_it_is_short_for(described: Describe, change: Change) -> None:
    for macro in ("double_of(x) as x * 2", "dice() as floor(random() * 6)", "few(k) as table from lines limit k"):
        change(f"create macro {macro}")
    Path("lines.sql").write_text("select double_of(amount) as amount, price, category from few(10)")
    assert described().rows == 10
    Path("lines.sql").write_text("select *, dice() as luck from lines")
    with pytest.raises(SourceError, match=r"the function random may not be used: .* \(in the macro dice\)"):
        described()


def test_no_macro_of_the_database_stands_in_for_a_function(described: Describe, change: Change) -> None:
    before = described(where="year(day) = 2024 and n + 1 = 6")
    for macro in ("year(x) as 1999", "hash(x) as 7", '"+"(a, b) as 99', "count_star() as 1", "isnan(x) as true", '"~~"(a, b) as false'):
        change(f"create macro {macro}")
    after = described(where="year(day) = 2024 and n + 1 = 6")
    assert (after.rows, after.checksum) == (before.rows, before.checksum)


@pytest.mark.parametrize("name", ["v", "a as select 1 --", 'quo"te', "semi; colon", "select", "a.b", "tab\tle"])
def test_the_query_of_a_view_is_found_whatever_its_name(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    with duckdb.connect() as connection:
        connection.execute(f"create view {quoted} ({quoted}, b) as select 1 as x, 'a as b' as y")
        [(sql,)] = connection.execute("select sql from duckdb_views() where not internal").fetchall()
    assert view_query(sql) == "SELECT 1 AS x, 'a as b' AS y"
