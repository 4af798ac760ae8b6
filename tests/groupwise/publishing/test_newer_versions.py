"""A pointer, a manifest or tables of a newer major version are refused by every reader, and never overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from groupwise.publishing.folder.folder_publish import publish
from groupwise.publishing.folder.folder_versions import prune, rollback, versions
from groupwise.publishing.layout import Layout
from groupwise.publishing.pointer import MANIFEST_SCHEMA
from groupwise.publishing.sealed import SEAL, sealed
from multilevel.catalogue.published_tables import CATALOGUE_VERSION, TABLES, arrow_schema
from multilevel.errors import PublishError

DAY = date(2026, 11, 1)
NEWER = "99.0.0"
MINOR, TABLES_MINOR = (f"{version.split('.')[0]}.99.0" for version in (MANIFEST_SCHEMA, CATALOGUE_VERSION))


def put(root: Path, run_id: str) -> None:
    tables = {name: pa.Table.from_pylist([], arrow_schema(name)) for name in TABLES}
    publish(tables, publish_to=str(root), study="small", as_of=DAY, run_id=run_id, provenance={})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    put(tmp_path / "published", "r1")
    put(tmp_path / "published", "r2")
    return Layout(tmp_path / "published", "small")


def rewrite(file: Path, **changes: Any) -> str:
    """As a program of another version would have written it: with a seal of its own."""
    text = sealed({name: value for name, value in (json.loads(file.read_text()) | changes).items() if name != SEAL})
    file.write_text(text)
    return text


@pytest.mark.parametrize("field", ["schema", "tables_version"])
@pytest.mark.parametrize(
    "read",
    [
        lambda layout: layout.latest(),
        lambda layout: layout.latest_folder(),
        versions,
        lambda layout: rollback(layout, "r1"),
        lambda layout: prune(layout, 1),
        lambda layout: put(layout.root, "r3"),
    ],
)
def test_a_newer_pointer_is_refused_and_stays(layout: Layout, read: Callable[[Layout], object], field: str):
    text = rewrite(layout.pointer, **{field: NEWER})
    with pytest.raises(PublishError, match=rf"_latest[.]json: {field} {NEWER}: .* install a newer groupwise"):
        read(layout)
    assert layout.pointer.read_text() == text
    assert layout.version(DAY, "r1").is_dir()


@pytest.mark.parametrize("field", ["schema", "tables_version"])
def test_a_newer_manifest_is_refused(layout: Layout, field: str):
    rewrite(layout.manifest(DAY, "r1"), **{field: NEWER})
    with pytest.raises(PublishError, match=rf"r1[.]json: {field} {NEWER}"):
        versions(layout)


def test_a_newer_minor_version_is_read(layout: Layout):
    rewrite(layout.pointer, schema=MINOR, tables_version=TABLES_MINOR)
    assert layout.latest_folder() == layout.version(DAY, "r2")


def test_a_rollback_keeps_the_tables_version_under_which_the_version_was_published(layout: Layout):
    rewrite(layout.manifest(DAY, "r1"), tables_version="0.9.0")
    assert json.loads(layout.pointer.read_text())["tables_version"] == CATALOGUE_VERSION
    rollback(layout, "r1")
    assert json.loads(layout.pointer.read_text())["tables_version"] == "0.9.0"


@pytest.mark.parametrize("content", ["{}", '{"schema": "new"}'])
def test_a_pointer_without_a_version_is_no_pointer(layout: Layout, content: str):
    layout.pointer.write_text(content)
    with pytest.raises(PublishError, match="this is no pointer"):
        layout.latest()
