"""The same rows answer every predicate alike, whoever wrote the Parquet file: as a table in memory does, which has no such statistics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.source.shards.shard_select import parquet_table
from groupwise.source.source_table import ColumnUse

ROWS = 400
COLUMNS = "x, f, k, d"
COMPARED = [f"x {sign} {value}" for sign in ("<", "<=", ">", ">=", "=", "<>") for value in ("0.2", "0", "5", "'nan'::double")]
OTHERS = [
    "x between 0 and 0.3",
    "x not between 0 and 0.3",
    "x between 0.1 and 'nan'::double",
    "x in (0.1, 0.2)",
    "x in (0.1, 'nan'::double)",
    "x not in (0.1, 'nan'::double)",
    "x is null",
    "x is not null",
    "isnan(x)",
    "isfinite(x)",
    "isinf(x)",
    "coalesce(x, 1) < 0.5",
    "case when isnan(x) then false else x < 0.5 end",
    "case when x > 0.3 then true when x is null then true else false end",
    "abs(x) < 0.5",
    "round(x, 1) <= 0.4",
    "least(x, 0.2) < 0.2",
    "greatest(x, 0.2) > 0.3",
    "cast(x as float) > 0.3",
    "cast(x as varchar) like '%nan'",
    "try_cast(x as integer) is null",
    "x + 1 > 1.4",
    "-x < -0.2",
    "x = f",
    "f < 0.2",
    "f > 0.3",
    "isnan(f)",
    "f in (0.25, 0.5)",
    "x is distinct from 'nan'::double",
    "nullif(x, 'nan'::double) is null",
    "x < d",
    "k > 2",
    "k between 1 and 2 and isnan(x)",
    "d >= 1.50 or x > 0.4",
    "k = 9 or isnan(x)",
    "x < 0.5 and f < 0.5",
    "x > 0.39 or f > 0.39",
]
PREDICATES = [*COMPARED, *OTHERS]


def rows() -> pa.Table:
    """NaN of both signs, zeros of both signs, infinities and nulls among fractions; whole numbers and decimals beside them."""
    rng = np.random.default_rng(11)
    x = rng.uniform(0, 0.4, ROWS).round(2)
    x[::8], x[1::16], x[3::50], x[4::50] = np.nan, -np.nan, -0.0, 0.0
    f = rng.choice([0.125, 0.25, 0.375], ROWS).astype(np.float32)
    f[::9] = np.nan
    x[7::90] = np.inf
    missing = np.arange(ROWS) % 13 == 5
    decimals = pa.array([i % 4 * 0.5 for i in range(ROWS)]).cast(pa.decimal128(10, 2))
    return pa.table({"x": pa.array(x, mask=missing), "f": pa.array(f), "k": pa.array(np.arange(ROWS) % 5), "d": decimals})


def by_pyarrow(table: pa.Table, file: Path) -> None:
    pq.write_table(table, file)


def by_pyarrow_in_row_groups(table: pa.Table, file: Path) -> None:
    pq.write_table(table, file, row_group_size=50, write_page_index=True)


def by_pyarrow_without_dictionaries(table: pa.Table, file: Path) -> None:
    pq.write_table(table, file, use_dictionary=False, data_page_version="2.0", data_page_size=512)


def by_duckdb(table: pa.Table, file: Path) -> None:
    with duckdb.connect() as connection:
        connection.register("given", table)
        connection.execute(f"copy given to '{file}' (format parquet, row_group_size 2048, write_bloom_filter true)")


def by_polars(table: pa.Table, file: Path) -> None:
    pl.from_arrow(table).write_parquet(file, statistics="full")  # type: ignore[union-attr]


def by_polars_in_row_groups(table: pa.Table, file: Path) -> None:
    pl.from_arrow(table).write_parquet(file, row_group_size=40)  # type: ignore[union-attr]


WRITERS = (by_pyarrow, by_pyarrow_in_row_groups, by_pyarrow_without_dictionaries, by_duckdb, by_polars, by_polars_in_row_groups)


@pytest.fixture(scope="module")
def memory() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.register("given", rows())
    connection.execute("create table kept as select * from given")
    return connection


def answers(connection: duckdb.DuckDBPyConnection, source: str) -> dict[str, object]:
    """Rows that every predicate and its negation select, and rows for which they are true, alone and joined with others."""
    selecting = [condition for predicate in PREDICATES for condition in (predicate, f"not ({predicate})")]
    found: dict[str, object] = {
        condition: connection.sql(f"select count(*) from ({source}) where {condition}").fetchall() for condition in selecting
    }
    joined = [f"({condition}) {other}" for condition in selecting for other in ("and not isnan(x)", "or k = 1", "and k > 1 or isnan(f)")]
    counts = ", ".join(f"count_if({condition})" for condition in (*selecting, *joined))
    aggregates = "isnan(max(x)), min(x) + 0, count(x), count(distinct x), max(f) = 'nan'::float, sum(k), min(d), count(distinct f)"
    found["aggregates"] = connection.sql(f"select {aggregates} from ({source})").fetchall()
    return found | {"counted": connection.sql(f"select {counts} from ({source})").fetchall()}


@pytest.fixture(scope="module")
def answers_in_memory(memory: duckdb.DuckDBPyConnection) -> dict[str, object]:
    return answers(memory, f"select {COLUMNS} from kept")


FIRST = ((by_pyarrow, 1), (by_duckdb, 1), (by_polars_in_row_groups, 4))
OTHER_FILES = [*((write, 1) for write in WRITERS if (write, 1) not in FIRST), (by_pyarrow, 4)]


@pytest.mark.parametrize(("write", "files"), [*FIRST, *(pytest.param(*each, marks=pytest.mark.parity) for each in OTHER_FILES)])
def test_every_predicate_finds_the_rows_that_it_finds_in_memory(
    memory: duckdb.DuckDBPyConnection,
    answers_in_memory: dict[str, object],
    tmp_path: Path,
    write: Callable[[pa.Table, Path], None],
    files: int,
) -> None:
    table, size = rows(), ROWS // files
    for i in range(files):
        write(table.slice(i * size, size), tmp_path / f"{i}.parquet")
    read = parquet_table(memory, [f"{tmp_path}/*.parquet"], ColumnUse(["x"], (), ()), "s", with_folders=False).sql
    assert answers(memory, read) == answers_in_memory
