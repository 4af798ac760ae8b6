"""Addresses of local files are plain paths to everything that reads or watches them, and mean what DuckDB takes them for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from groupwise.source.relation import Relation, connect
from groupwise.source.source_files import plain_path
from groupwise.study.study import Study
from groupwise.study.study_source import Mix
from multilevel.errors import SourceError

type Describe = Callable[..., Relation]

FORMS = ("file://", "file:", "file://localhost", "FILE://", "file:///")


def write_lines(path: Path, amount: float) -> None:
    duckdb.sql(f"copy (select {amount}::double as amount, 2.0 as price, 'a' as category) to '{path}' (format parquet)")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file:///data/a.parquet", "/data/a.parquet"),
        ("file:/data/a.parquet", "/data/a.parquet"),
        ("file://localhost/data/a.parquet", "/data/a.parquet"),
        ("file:////data/a.parquet", "/data/a.parquet"),
        ("file:///data/**/[ab]*.parquet", "/data/**/[ab]*.parquet"),
        ("file:///data/a%20b.parquet", "/data/a%20b.parquet"),
        ("data/a.parquet", "data/a.parquet"),
        ("file:a.parquet", "file:a.parquet"),
        ("s3://bucket/a.parquet", "s3://bucket/a.parquet"),
    ],
)
def test_an_address_of_a_local_file_is_its_path(text: str, path: str) -> None:
    assert plain_path(text) == path


@pytest.mark.parametrize(
    "text", ["file://elsewhere/data/a.parquet", "file://127.0.0.1/a.parquet", "file://localhost", "file:///", "file:/"]
)
def test_another_hosts_file_and_no_file_are_refused(study: Callable[..., Study], text: str) -> None:
    with pytest.raises(ValueError, match="names a file of this machine"):
        plain_path(text)
    with pytest.raises(ValueError, match="names a file of this machine"):
        study(source={"parquet": ["lines.parquet", text]})


@pytest.mark.parametrize("name", ["lines.parquet", "a%20b.parquet", "a b.parquet", "a?b.parquet", "a#b.parquet"])
def test_duckdb_reads_the_same_file_behind_the_address_and_the_path(tmp_path: Path, name: str) -> None:
    write_lines(tmp_path / name, 7.0)
    for address in (f"file://{tmp_path}/{name}", f"file:{tmp_path}/{name}", f"file://localhost{tmp_path}/{name}"):
        read = duckdb.sql(f"select amount from read_parquet('{address}')").fetchall()
        assert read == duckdb.sql(f"select amount from read_parquet('{plain_path(address)}')").fetchall() == [(7.0,)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pattern", ["lines.parquet", "li*.parquet"])
def test_a_file_behind_an_address_is_watched(described: Describe, shop: Path, form: str, pattern: str) -> None:
    write_lines(shop / "lines.parquet", 1.0)
    found = described(source={"parquet": f"{form}{shop}/{pattern}"})
    connect(found).close()
    write_lines(shop / "lines.parquet", 1000.0)
    with pytest.raises(SourceError, match="was written to after this run had begun"):
        connect(found)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(described: Describe, shop: Path) -> None:
    write_lines(shop / "lines.parquet", 1.0)
    write_lines(shop / "other.parquet", 2.0)
    status = (shop / "lines.parquet").stat()
    assert (shop / "other.parquet").stat().st_size == status.st_size
    found = described(source={"parquet": "lines.parquet"})
    os.utime(shop / "other.parquet", ns=(status.st_atime_ns, status.st_mtime_ns))
    (shop / "other.parquet").replace(shop / "lines.parquet")
    with pytest.raises(SourceError, match="was written to"):
        connect(found)


def test_a_folder_that_looks_like_a_scheme_is_watched(described: Describe, shop: Path) -> None:
    (shop / "lake:").mkdir()
    write_lines(shop / "lake:" / "lines.parquet", 1.0)
    found = described(source={"parquet": "lake://lines.parquet"})
    write_lines(shop / "lake:" / "lines.parquet", 1000.0)
    with pytest.raises(SourceError, match="was written to"):
        connect(found)


def test_databases_and_mixes_take_addresses(described: Describe, shop: Path) -> None:
    source = {"database": f"file://{shop}/shop.duckdb", "line_items": f"file:{shop}/lines.sql"}
    assert described(source=source).database == str(shop / "shop.duckdb")
    assert Mix(parquet="file:///m/mix.parquet").parquet == "/m/mix.parquet"
