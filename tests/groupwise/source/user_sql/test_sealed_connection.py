"""A connection that runs users' SQL reaches the declared source and the run's folder, whatever the SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from groupwise.source.relation import Relation, connect, first_line
from groupwise.source.sealing import MOST_LISTED_FILES, places, readable, seal
from groupwise.source.user_sql.statement import one_statement
from multilevel.errors import SourceError

type Describe = Callable[..., Relation]

FRAME = pd.DataFrame({"x": [1]})


@pytest.fixture
def lake(shop: Path) -> Path:
    """Parquet files in two folders, one of them declared, and a file that nobody declared."""
    for folder in ("lake/d=1", "lake/d=2", "other"):
        (shop / folder).mkdir(parents=True)
        duckdb.sql(f"copy (select 1.0 as amount, 2.0 as price, 'a' as category) to '{shop}/{folder}/part.parquet'")
    (shop / "secret.txt").write_text("herons")
    return shop


@pytest.mark.parametrize(
    "statement",
    [
        "select * from read_text('{shop}/secret.txt')",
        "select * from read_text('secret.txt')",
        "select * from read_text('run/../secret.txt')",
        "select * from read_text('run/link.txt')",
        "select * from '{shop}/other/part.parquet'",
        "select * from read_parquet('other/*.parquet')",
        "select * from glob('*')",
        "copy (select 1) to '{shop}/written.txt'",
        "copy (select 1) to 'lake/d=1/part.parquet'",
        "attach '{shop}/new.duckdb'",
        "attach '{shop}/shop.duckdb' as again",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "reset lock_configuration",
        "set threads = 1",
        "install httpfs",
        "load '{shop}/x.duckdb_extension'",
        "export database '{shop}/dump'",
        "import database '{shop}/dump'",
        "select * from FRAME",
        "select * from read_csv('/dev/stdin')",
    ],
)
def test_nothing_else_is_reached(described: Describe, lake: Path, statement: str) -> None:
    (lake / "run" / "link.txt").symlink_to(lake / "secret.txt")
    found = described(source={"parquet": "lake/**/*.parquet"})
    before = sorted(lake.rglob("*"))
    with connect(found, lake / "run") as connection, pytest.raises(duckdb.Error):
        connection.execute(statement.format(shop=lake)).fetchall()
    assert sorted(lake.rglob("*")) == before


def test_the_source_and_the_runs_folder_are_reached(described: Describe, lake: Path) -> None:
    found = described(source={"parquet": "lake/**/*.parquet", "hive": True})
    assert "d" in found.columns
    target = lake / "run" / "cells.partial"
    with connect(found, lake / "run") as connection:
        connection.execute(f"copy ({found.sql}) to '{target}' (format parquet)")
        assert connection.execute(f"select count(*), count(distinct d) from read_parquet('{target}')").fetchall() == [(2, 2)]


def test_a_sealed_connection_spills_to_the_runs_folder(lake: Path) -> None:
    with duckdb.connect(config={"memory_limit": "60MB", "temp_directory": f"{lake}/run/duckdb-1", "threads": 1}) as connection:
        seal(connection, (), lake / "run")
        (rows,) = connection.execute("select count(*) from (select distinct i * 7919 from range(3_000_000) as r(i))").fetchone() or (0,)
        assert rows == 3_000_000
        assert (lake / "run" / "duckdb-1").exists()


def test_many_files_are_reached_by_their_folder(tmp_path: Path) -> None:
    for number in range(MOST_LISTED_FILES + 1):
        (tmp_path / f"{number}.parquet").touch()
    pattern = str(tmp_path / "*.parquet")
    assert places(pattern) == [f"{tmp_path}/"]
    assert readable(pattern) == [pattern]
    assert readable(str(tmp_path / "1*.parquet"))[0].endswith("1.parquet")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("s3://bucket/a/b.parquet", ["s3://bucket/a/b.parquet"]),
        ("s3://bucket/a/year=*/b.parquet", ["s3://bucket/a/"]),
        ("s3://bucket/a/part-?.parquet", ["s3://bucket/a/"]),
    ],
)
def test_an_address_is_reached_as_it_is_written(pattern: str, expected: list[str]) -> None:
    assert places(pattern) == expected


def test_a_closed_file_is_explained() -> None:
    with duckdb.connect() as connection:
        seal(connection, (), None)
        with pytest.raises(duckdb.Error) as caught:
            connection.execute("select * from read_text('/etc/hostname')")
    assert first_line(caught.value) == (
        'Cannot access file "/etc/hostname": it is no part of the declared source, which is all that a run reads; '
        "name it under source if it belongs there"
    )


@pytest.mark.parametrize("address", ["s3://bucket/x.parquet", "https://example.org/x.parquet", "foo://bucket/x.parquet"])
def test_an_address_that_is_not_read_is_told_what_to_do(described: Describe, shop: Path, address: str) -> None:
    with pytest.raises(SourceError, match=r"small: .*a run reads files of this machine only; copy them to one of its disks") as caught:
        described(source={"parquet": address}, formula="amount ~ 1 + (1 | category)")
    assert "view" not in str(caught.value)


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_links_are_followed_among_many_files_as_among_few(described: Describe, shop: Path, linked: str) -> None:
    for folder in ("elsewhere", "lake/part"):
        (shop / folder).mkdir(parents=True)
    duckdb.sql(f"copy (select 1.0 as amount, 'a' as category) to '{shop}/elsewhere/x.parquet'")
    for number in range(MOST_LISTED_FILES + 1):
        (shop / "lake" / "part" / f"{number}.parquet").hardlink_to(shop / "elsewhere" / "x.parquet")
    if linked == "file":
        (shop / "lake" / "part" / "link.parquet").symlink_to(shop / "elsewhere" / "x.parquet")
    else:
        (shop / "lake" / "link").symlink_to(shop / "elsewhere")
    found = described(source={"parquet": "lake/*/*.parquet"}, formula="amount ~ 1 + (1 | category)")
    assert found.rows == MOST_LISTED_FILES + 2


@pytest.mark.parametrize("sql", ["select 1; select 2", "", "-- nothing", "attach 'x'", "set threads = 1", "pivot lines on x using sum(y)"])
def test_exactly_one_query_passes_the_door(sql: str) -> None:
    with pytest.raises(SourceError, match="nothing was run"):
        one_statement(sql)
