"""Publishing: the layout, the files, the pointer, the catalog, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.publishing.folder.folder_publish import publish
from groupwise.publishing.layout import Layout, check_root, open_layout
from groupwise.publishing.publication import Publication
from groupwise.publishing.stage import Attachments
from multilevel.catalogue.evolution import EARLIER
from multilevel.catalogue.published_tables import TABLES, arrow_schema
from multilevel.errors import PublishError

DAY = date(2026, 11, 1)
type Publish = Callable[..., Publication]


def tables_of(run_id: str, as_of: date) -> dict[str, pa.Table]:
    common = {"study": "small", "as_of": as_of, "run_id": run_id, "engine": "likelihood", "pooling": "partial"}
    number = {"estimate": 1.0, "std_error": 0.5, "lower": 0.0, "upper": 2.0}
    group = common | number | {"grouping_factor": "region", "parent_level": None, "is_new": False, "n": 10}
    group |= {
        "no_pooling_estimate": 1.5,
        "no_pooling_std_error": 0.6,
        "complete_pooling_estimate": 1.0,
        "rank_lower": 1.0,
        "rank_upper": 2.0,
        "headline": "members",
    }
    rows: dict[str, list[dict[str, object]]] = {
        "population_coefficients": [common | number | {"term": "Intercept", "kind": "individual"}],
        "group_estimates": [group | {"level": level} for level in ("Köln", "a'b", 'c"d', "ü/x")],
        "diagnostics": [common | {"check": "singular", "value": 0.0, "passed": True, "message": ""}],
    }
    return {name: pa.Table.from_pylist(rows.get(name, []), arrow_schema(name)) for name in TABLES}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "published"


@pytest.fixture
def put(root: Path, tmp_path: Path) -> Publish:
    """Publish a version of the study ``small`` with a report beside it."""

    def run(run_id: str = "r1", as_of: date = DAY, **changes: object) -> Publication:
        report = tmp_path / "made.html"
        report.write_text(f"report of {run_id}")
        arguments: dict[str, object] = {
            "publish_to": "published",
            "study": "small",
            "as_of": as_of,
            "run_id": run_id,
            "provenance": {"source": {"checksum": "abc"}},
            "attachments": Attachments(report=report),
        }
        return publish(**({"tables": tables_of(run_id, as_of)} | arguments | changes))  # type: ignore[arg-type]

    return run


def test_a_version_lies_where_the_guide_says(put: Publish, root: Path):
    made = put("20261101T000000-1a2b3c4d")
    home = root / "small"
    assert made.folder == home / "versions" / "dt=2026-11-01" / "rev=20261101T000000-1a2b3c4d"
    assert {path.name for path in made.folder.iterdir()} == {f"{name}.parquet" for name in TABLES}
    assert made.manifest == home / "manifests" / "2026-11-01" / "20261101T000000-1a2b3c4d.json"
    assert made.report == home / "reports" / "2026-11-01" / "20261101T000000-1a2b3c4d.html"
    assert made.report.read_text() == "report of 20261101T000000-1a2b3c4d"
    assert made.is_latest
    assert (home / "current").resolve() == made.folder
    assert not (home / "current").readlink().is_absolute()
    assert not (home / ".staging").exists()


def test_nothing_but_parquet_lies_under_versions(put: Publish, root: Path):
    put("r1")
    put("r2")
    files = [path for path in (root / "small" / "versions").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".parquet"}
    assert len(files) == 12


def test_the_manifest_lists_every_file_with_its_digest_and_rows(put: Publish):
    made = put()
    manifest = json.loads(made.manifest.read_text())
    assert manifest["schema"] == "1.1.0"
    assert (manifest["study"], manifest["as_of"], manifest["run_id"]) == ("small", "2026-11-01", "r1")
    assert manifest["source"] == {"checksum": "abc"}
    assert manifest["code_version"]
    assert manifest["tables_version"]
    for entry in manifest["files"]:
        path = made.folder / entry["path"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert (pq.read_metadata(path).num_rows, path.stat().st_size) == (entry["rows"], entry["bytes"])


def test_files_are_plain_parquet_for_everyone(put: Publish):
    path = put().folder / "group_estimates.parquet"
    metadata = pq.read_metadata(path)
    assert metadata.format_version == "2.6"
    assert {metadata.row_group(0).column(i).compression for i in range(metadata.num_columns)} == {"ZSTD"}
    schema = pq.read_schema(path)
    assert not [field.name for field in schema if pa.types.is_dictionary(field.type) or pa.types.is_nested(field.type)]
    assert schema.field("level").type == pa.string()
    assert b"description" in schema.field("estimate").metadata


def test_duckdb_pandas_and_polars_read_the_same_rows(put: Publish):
    path = put().folder / "group_estimates.parquet"
    in_duckdb = duckdb.sql(f"select level, n, as_of from read_parquet('{path}') order by level").fetchall()
    in_pandas = pd.read_parquet(path).sort_values("level")
    in_polars = pl.read_parquet(path).sort("level")
    assert [row[0] for row in in_duckdb] == in_pandas["level"].tolist() == in_polars["level"].to_list()
    assert in_duckdb[0][1:] == (10, DAY)
    assert in_polars.schema["n"] == pl.Int64
    assert in_polars.schema["level"] == pl.String
    assert in_polars.schema["as_of"] == pl.Date


def test_a_tree_of_versions_reads_as_one_hive_table(put: Publish, root: Path):
    put("r1")
    put("r2", DAY + timedelta(days=1))
    glob = root / "small" / "versions" / "*" / "*" / "group_estimates.parquet"
    rows = duckdb.sql(f"select dt, as_of, run_id, count(*) from read_parquet('{glob}', hive_partitioning=true) group by all").fetchall()
    assert sorted(rows) == [(DAY, DAY, "r1", 4), (DAY + timedelta(days=1), DAY + timedelta(days=1), "r2", 4)]
    assert pl.read_parquet(glob).height == 8


def test_the_pointer_names_the_newest_version_of_a_day(put: Publish, root: Path):
    put("r1")
    put("r2")
    pointer = json.loads((root / "small" / "_latest.json").read_text())
    assert pointer["run_id"] == "r2"
    assert (root / "small" / pointer["manifest"]).is_file()
    assert (root / "small" / pointer["report"]).is_file()


def test_a_backfill_publishes_its_version_and_leaves_the_pointer(put: Publish, root: Path):
    put("r1")
    backfill = put("r2", DAY - timedelta(days=1))
    assert not backfill.is_latest
    assert backfill.folder.is_dir()
    assert backfill.manifest.is_file()
    assert json.loads((root / "small" / "_latest.json").read_text())["run_id"] == "r1"
    assert (root / "small" / "current").resolve().name == "rev=r1"


def test_catalog_views_follow_the_latest_version_without_being_made_again(put: Publish, root: Path):
    put("r1")
    with duckdb.connect() as connection:
        connection.execute((root / "catalog.sql").read_text())
        assert connection.sql("select distinct run_id from small.group_estimates").fetchall() == [("r1",)]
        put("r2")
        assert connection.sql("select distinct run_id from small.group_estimates").fetchall() == [("r2",)]
        assert connection.sql("select count(*) from small.diagnostics").fetchall() == [(1,)]


@pytest.mark.parametrize("name", ["pub[1]*", "pub?", "**", "it's [a-z]"])
def test_the_catalog_reads_a_folder_whose_name_holds_wildcards_as_itself(put: Publish, tmp_path: Path, name: str):
    for other in ("pub1x", "pubx", "pub", "it's a"):
        put("another", publish_to=str(tmp_path / other))
    put("r1", publish_to=str(tmp_path / name))
    with duckdb.connect() as connection:
        connection.execute((tmp_path / name / "catalog.sql").read_text())
        assert connection.sql("select distinct run_id from small.group_estimates").fetchall() == [("r1",)]


def test_the_catalog_holds_every_study(put: Publish, root: Path):
    put("r1")
    put("r1", study="other")
    text = (root / "catalog.sql").read_text()
    assert 'create schema if not exists "other"' in text
    # six tables each, the first version's columns of one, and the trend over all versions
    assert text.count("create or replace view") == 16


def test_readers_of_the_first_version_find_its_columns(put: Publish, root: Path):
    put("r1")
    with duckdb.connect() as connection:
        connection.execute((root / "catalog.sql").read_text())
        first = connection.sql("select * from small.group_estimates_1x")
        assert first.columns == list(EARLIER["group_estimates"])
        assert first.fetchall() == connection.sql(f"select {', '.join(first.columns)} from small.group_estimates").fetchall()


def test_a_run_publishes_once(put: Publish):
    put("r1")
    with pytest.raises(PublishError, match="r1 exists already"):
        put("r1")


def test_a_missing_table_publishes_nothing(put: Publish, root: Path):
    tables = tables_of("r1", DAY)
    del tables["diagnostics"]
    with pytest.raises(PublishError, match="this run has cell_estimates"):
        put("r1", tables=tables)
    assert not root.exists()


def test_a_table_that_breaks_its_contract_publishes_nothing(put: Publish, root: Path):
    tables = tables_of("r1", DAY)
    broken = tables["group_estimates"].to_pylist()
    broken[0]["std_error"] = -1.0
    tables["group_estimates"] = pa.Table.from_pylist(broken, arrow_schema("group_estimates"))
    with pytest.raises(PublishError, match="std_error is below 0 in 1 row"):
        put("r1", tables=tables)
    assert not root.exists()


@pytest.mark.parametrize("place", ["../out", "a/../../b", "published/..", "nul\0byte"])
def test_a_place_with_dots_or_nul_is_refused(place: str):
    with pytest.raises(PublishError, match=r"without '[.][.]'"):
        check_root(place)


def test_a_file_in_the_place_of_the_folder_is_refused(root: Path):
    root.write_text("a file")
    with pytest.raises(PublishError, match="this is a file; name a folder"):
        check_root("published")


def test_a_relative_place_whose_link_leaves_the_working_directory_is_refused(root: Path, tmp_path_factory: pytest.TempPathFactory):
    root.symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(PublishError, match="a link leads out of the working directory"):
        check_root("published")


def test_an_absolute_place_is_legal(put: Publish, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert put("r1", publish_to=str(elsewhere)).folder.is_relative_to(elsewhere)


@pytest.mark.parametrize("inside", ["small", "small/versions", "small/reports"])
def test_a_link_below_publish_to_that_leads_out_of_it_is_refused(
    put: Publish, root: Path, tmp_path_factory: pytest.TempPathFactory, inside: str
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (root / inside).parent.mkdir(parents=True)
    (root / inside).symlink_to(elsewhere)
    with pytest.raises(PublishError, match="a link that leads out of it"):
        put("r1")
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a b", ".hidden", "x;drop table y", "nul\0"])
def test_a_study_whose_name_is_no_plain_name_is_refused(root: Path, name: str):
    with pytest.raises(PublishError, match="a published name has letters"):
        open_layout("published", name)


@pytest.mark.parametrize("run_id", ["../r", "a/b", "", ".x"])
def test_a_run_id_that_is_no_plain_name_is_refused(put: Publish, run_id: str):
    with pytest.raises(PublishError, match="run id"):
        put(run_id)


def test_a_pointer_that_cannot_be_read_is_said_and_not_overwritten(put: Publish, root: Path):
    put("r1")
    pointer = root / "small" / "_latest.json"
    pointer.write_text("{")
    with pytest.raises(PublishError, match=r"this is no pointer[.] Remove it"):
        put("r2")
    assert pointer.read_text() == "{"
    assert Layout(root, "small").version(DAY, "r1").is_dir()
