"""Every table of a real run of either engine, as DuckDB, pandas and Polars see it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import date
from functools import cmp_to_key
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.pipeline.model_fit import check
from groupwise.pipeline.release import release
from groupwise.shop.simulate_shop import simulate_shop
from multilevel.catalogue.published_tables import EVERY_TABLE, arrow_schema, check_table

ROOT = Path(__file__).parents[3]
STUDY = """
name: spend
title: Spend by region and category
unit: log dollars
formula: log_amount ~ 1 + discount + channel + (1 | region) + (1 + discount | department/category)
family: gaussian
source: {database: shop.duckdb, line_items: line_items.sql}
cells: [region, category]
draws: {rows: 100}
seed: 1
"""
IN_DUCKDB = {"float64": "DOUBLE", "int64": "BIGINT", "string": "VARCHAR", "bool": "BOOLEAN", "date": "DATE"}
IN_PANDAS = {"float64": "float64", "int64": "int64", "string": "str", "bool": "bool", "date": "object"}
IN_POLARS = {"float64": pl.Float64, "int64": pl.Int64, "string": pl.String, "bool": pl.Boolean, "date": pl.Date}


@dataclass(frozen=True)
class Published:
    """A finished run: its version's folder and the root that it was published to."""

    engine: str
    folder: Path
    root: Path

    def file(self, name: str) -> Path:
        """The table at its fixed path; inside ``versions/`` DuckDB would add the hive keys of the folders."""
        return self.root / "spend" / "current" / f"{name}.parquet"


@pytest.fixture(scope="module", params=["likelihood", pytest.param("bayesian", marks=pytest.mark.operations)])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, run_until_fitted: Any) -> Published:
    """The steps of a run, one after the other, on a small simulated shop."""
    place = tmp_path_factory.mktemp(request.param)
    back = Path.cwd()
    os.chdir(place)
    try:
        simulate_shop(place / "shop.duckdb", 20_000, customers=400, products=100, categories=20, regions=6, seed=3)
        shutil.copyfile(ROOT / "sql" / "simulated_line_items.sql", "line_items.sql")
        Path("spend.yaml").write_text(STUDY)
        run = run_until_fitted("spend.yaml", engine=request.param)
        check(run)
        return Published(request.param, release(run).folder, place / "published")
    finally:
        os.chdir(back)


def key_order(name: str, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows in the order of the table's key, by code points, nulls last."""

    def compare(left: dict[str, object], right: dict[str, object]) -> int:
        for column in EVERY_TABLE[name].sort_key:
            one, two = left[column], right[column]
            if one != two:
                if one is None or two is None:
                    return 1 if one is None else -1
                return -1 if one < two else 1  # type: ignore[operator]
        return 0

    return sorted(rows, key=cmp_to_key(compare))


def test_a_run_publishes_every_table_with_rows(published: Published):
    assert {path.stem for path in published.folder.iterdir()} == set(EVERY_TABLE)
    assert all(pq.read_metadata(published.file(name)).num_rows > 0 for name in EVERY_TABLE)


@pytest.mark.parametrize("name", list(EVERY_TABLE))
def test_duckdb_sees_the_catalogues_types(published: Published, name: str):
    described = duckdb.sql(f"describe select * from read_parquet('{published.file(name)}')").fetchall()
    assert [(row[0], row[1]) for row in described] == [(c.name, IN_DUCKDB[c.type]) for c in EVERY_TABLE[name].columns]


@pytest.mark.parametrize("name", list(EVERY_TABLE))
def test_pandas_sees_the_catalogues_types(published: Published, name: str):
    frame = pd.read_parquet(published.file(name))
    all_null = [column for column in frame if frame[column].isna().all()]
    seen = {column: str(frame[column].dtype) for column in frame if column not in all_null}
    assert seen == {c.name: IN_PANDAS[c.type] for c in EVERY_TABLE[name].columns if c.name not in all_null}
    assert set(frame["as_of"].map(type)) == {date}
    assert frame.index.equals(pd.RangeIndex(len(frame)))


@pytest.mark.parametrize("name", list(EVERY_TABLE))
def test_polars_sees_the_catalogues_types(published: Published, name: str):
    frame = pl.read_parquet(published.file(name))
    assert dict(frame.schema) == {c.name: IN_POLARS[c.type] for c in EVERY_TABLE[name].columns}


@pytest.mark.parametrize("name", list(EVERY_TABLE))
def test_all_three_see_the_same_values(published: Published, name: str):
    file = published.file(name)
    in_arrow = pq.read_table(file).to_pylist()
    in_duckdb = duckdb.sql(f"select * from read_parquet('{file}')")
    columns = in_duckdb.columns
    assert [dict(zip(columns, row, strict=True)) for row in in_duckdb.fetchall()] == in_arrow
    assert pl.read_parquet(file).to_dicts() == in_arrow
    frame = pd.read_parquet(file)
    for column in columns:
        assert [None if pd.isna(value) else value for value in frame[column]] == [row[column] for row in in_arrow]


@pytest.mark.parametrize("name", list(EVERY_TABLE))
def test_files_hold_plain_columns_sorted_by_key_under_zstd(published: Published, name: str):
    file = pq.ParquetFile(published.file(name))
    for field in file.schema_arrow:
        assert not pa.types.is_nested(field.type), field
        assert not pa.types.is_dictionary(field.type), field
        assert not (pa.types.is_large_string(field.type) or pa.types.is_string_view(field.type)), field
        if pa.types.is_timestamp(field.type):
            assert (field.type.unit, field.type.tz) == ("us", "UTC"), field
    group = file.metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}
    names = file.schema_arrow.names
    assert [names[column.column_index] for column in group.sorting_columns] == list(EVERY_TABLE[name].sort_key)
    rows = file.read().to_pylist()
    assert key_order(name, rows) == rows


@pytest.mark.parametrize("name", list(EVERY_TABLE))
def test_what_was_written_still_keeps_its_contract(published: Published, name: str):
    table = pq.read_table(published.file(name))
    assert check_table(name, table) == []
    assert table.schema.equals(arrow_schema(name), check_metadata=True)
    assert set(table["engine"].to_pylist()) == {published.engine}


def test_times_in_the_manifest_are_utc(published: Published):
    manifest = json.loads((published.root / "spend" / "manifests" / published.folder.parent.name[3:] / "r1.json").read_text())
    assert manifest["published_at"].endswith("+00:00")


def test_catalog_views_work_from_another_directory(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as connection:
        connection.execute((published.root / "catalog.sql").read_text())
        for name in EVERY_TABLE:
            [(rows,)] = connection.sql(f"select count(*) from spend.{name}").fetchall()
            assert rows == pq.read_metadata(published.file(name)).num_rows
        joined = """
            select count(*)
            from spend.group_estimates as estimates
            inner join spend.group_coefficients as coefficients
                on estimates.grouping_factor = coefficients.grouping_factor
                and estimates.level is not distinct from coefficients.level
                and estimates.parent_level is not distinct from coefficients.parent_level
            where coefficients.term = 'Intercept'
        """
        assert connection.sql(joined).fetchall() == connection.sql("select count(*) from spend.group_estimates").fetchall()
