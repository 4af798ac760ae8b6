"""The data contract lies beside what it describes, changes with the pointer, and is YAML of the Open Data Contract Standard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from groupwise.publishing import durable
from groupwise.publishing.folder.folder_publish import publish
from groupwise.publishing.folder.folder_versions import prune, rollback
from groupwise.publishing.layout import Layout
from groupwise.publishing.publication import Publication
from multilevel.catalogue.published_tables import CATALOGUE_VERSION, TABLES, arrow_schema
from multilevel.errors import PublishError

DAY = date(2026, 11, 1)
type Put = Callable[..., Publication]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "published", "small")


@pytest.fixture
def put(layout: Layout) -> Put:
    """Publish empty tables of a study with a title and a unit."""

    def run(run_id: str, as_of: date = DAY, title: str = "Spend per line item") -> Publication:
        return publish(
            {name: pa.Table.from_pylist([], arrow_schema(name)) for name in TABLES},
            publish_to=str(layout.root),
            study="small",
            as_of=as_of,
            run_id=run_id,
            provenance={"study_definition": {"title": title, "unit": "spend", "currency": "USD"}},
        )

    return run


def contract_of(layout: Layout) -> dict[str, Any]:
    return dict(yaml.safe_load(layout.contract.read_text(encoding="utf-8")))


def test_a_contract_is_published_with_the_tables(put: Put, layout: Layout):
    put("r1")
    contract = contract_of(layout)
    assert layout.contract == layout.root / "small" / "contract.odcs.yaml"
    assert (contract["apiVersion"], contract["kind"], contract["version"]) == ("v3.1.0", "DataContract", CATALOGUE_VERSION)
    assert contract["description"]["purpose"] == "Spend per line item"
    assert [table["name"] for table in contract["schema"]] == list(TABLES)
    estimate = next(p for p in contract["schema"][3]["properties"] if p["name"] == "estimate")
    assert {"property": "unit", "value": "spend (USD)"} in estimate["customProperties"]


def test_the_manifest_names_the_contract_with_its_digest(put: Put, layout: Layout):
    entry = json.loads(put("r1").manifest.read_text())["contract"]
    content = (layout.home / entry["path"]).read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["bytes"])
    assert content == layout.contract.read_bytes()


def test_the_contract_follows_the_pointer_forward_back_and_not_into_a_backfill(put: Put, layout: Layout):
    put("r1", title="first")
    put("r2", title="second")
    put("r0", DAY - timedelta(days=9), title="backfill")
    assert contract_of(layout)["description"]["purpose"] == "second"
    rollback(layout, "r1")
    assert contract_of(layout)["description"]["purpose"] == "first"


def test_pruned_versions_take_their_contracts_with_them(put: Put, layout: Layout):
    put("r1")
    put("r2", DAY + timedelta(days=1))
    prune(layout, 1)
    assert [path.name for path in layout.contracts.glob("*/*")] == ["r2.odcs.yaml"]


def test_a_contract_that_ran_ahead_of_a_pointer_is_set_back(put: Put, layout: Layout, monkeypatch: pytest.MonkeyPatch):
    put("r1", title="first")

    def full(step: str, path: Path) -> None:
        if (step, path.name) == ("rename", "_latest.json"):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "announce", full)
        with pytest.raises(PublishError, match="No space left"):
            put("r2", title="second")
    assert contract_of(layout)["description"]["purpose"] == "first"
    assert [path.name for path in layout.contracts.glob("*/*")] == ["r1.odcs.yaml"]


def test_a_first_publication_that_fails_leaves_no_contract(put: Put, layout: Layout, monkeypatch: pytest.MonkeyPatch):
    def full(step: str, path: Path) -> None:
        if (step, path.name) == ("rename", "_latest.json"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "announce", full)
    with pytest.raises(PublishError, match="No space left"):
        put("r1")
    assert not layout.contract.exists()


def test_what_a_killed_run_left_of_a_contract_is_removed(put: Put, layout: Layout):
    put("r1", title="first")
    dead = layout.version_contract(DAY, "dead")
    dead.write_text("kind: DataContract")
    layout.contract.write_text("kind: DataContract")
    put("r0", DAY - timedelta(days=9))
    assert not dead.exists()
    assert contract_of(layout)["description"]["purpose"] == "first"
