"""The versions in object storage: rollback, prune, difference, catalog, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest
from obstore.fsspec import FsspecStore

from groupwise.publishing.difference import difference
from groupwise.publishing.object_store import store as object_store
from groupwise.publishing.object_store.store import ObjectStore
from groupwise.publishing.publication import Publication
from groupwise.publishing.target import ObjectStorage, open_target
from multilevel.errors import PublishError

pytestmark = pytest.mark.operations

DAY = date(2026, 11, 1)
BUCKET, PREFIX, STUDY = "warehouse", "estimates/shop", "small"
PLACE = f"s3://{BUCKET}/{PREFIX}"
type Put = Callable[..., Publication]
type Fresh = Callable[..., ObjectStorage]


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(PublishError) as refused:
        work()
    return str(refused.value)


def test_rollback_points_at_an_earlier_version_and_later_runs_publish_over_it(bucket: Any, put: Put, target: ObjectStorage):
    put("r1", DAY - timedelta(days=1))
    put("r2")
    rolled = target.rollback("r1")
    assert rolled.run_id == "r1"
    assert bucket.latest() == "r1"
    assert [version.run_id for version in target.versions() if version.is_latest] == ["r1"]
    put("r3")
    assert bucket.latest() == "r3"


def test_rollback_refuses_a_run_that_is_not_there_or_is_not_whole(bucket: Any, put: Put, target: ObjectStorage):
    put("r1")
    put("r2")
    with pytest.raises(PublishError, match="no version has the run id r9; the newest are r2, r1"):
        target.rollback("r9")
    bucket.client.delete_object(Bucket=BUCKET, Key=f"{PREFIX}/{STUDY}/versions/dt=2026-11-01/rev=r1/diagnostics.parquet")
    with pytest.raises(PublishError, match=r"has no whole diagnostics[.]parquet"):
        target.rollback("r1")
    assert bucket.latest() == "r2"


def test_prune_keeps_the_newest_and_always_the_latest(bucket: Any, put: Put, target: ObjectStorage):
    for day in range(4):
        put(f"r{day}", DAY + timedelta(days=day))
    put("r10", DAY + timedelta(days=4))
    target.rollback("r0")
    removed = target.prune(3)
    assert [version.run_id for version in removed] == ["r1"]
    assert bucket.latest() == "r0"
    assert not [name for name in bucket.names() if "/r1." in name or "r1/" in name]
    assert [version.run_id for version in target.versions()] == ["r10", "r3", "r2", "r0"]
    with pytest.raises(PublishError, match="keep at least one"):
        target.prune(0)


def test_a_prune_that_dies_is_finished_by_the_next_and_its_versions_cannot_come_back(bucket: Any, put: Put, target: ObjectStorage):
    for day in range(3):
        put(f"r{day}", DAY + timedelta(days=day))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectStore, "remove", lambda self, name: (_ for _ in ()).throw(PublishError("gone")))
        with pytest.raises(PublishError, match="gone"):
            target.prune(1)
    assert [version.run_id for version in target.versions()] == ["r2"]
    with pytest.raises(PublishError, match="no version has the run id r1"):
        target.rollback("r1")
    target.prune(1)
    assert not [name for name in bucket.names() if "r1" in name or "r0" in name]
    pointer = bucket.pointer()
    assert pointer is not None
    assert pointer["removing"] == []


def test_a_difference_reads_both_versions(bucket: Any, put: Put, target: ObjectStorage):
    put("r1", DAY - timedelta(days=1), mean=1.0)
    put("r2", mean=3.0)
    found = difference(target)
    assert (found.earlier.run_id, found.later.run_id) == ("r1", "r2")
    assert {move.level: move.after - move.before for move in found.groups.moves} == {"Köln": 2.0, "ü/x": 2.0}


def test_the_catalog_looks_the_pointer_up(bucket: Any, put: Put, target: ObjectStorage):
    put("r1")
    text = bucket.read(f"{PREFIX}/catalog.sql").decode()
    with duckdb.connect() as connection:
        connection.register_filesystem(FsspecStore("s3", client_options={"allow_http": True}))
        connection.execute(text)
        assert connection.sql("select distinct run_id from small.group_estimates").fetchall() == [("r1",)]
        assert "dt" not in connection.sql("select * from small.group_estimates").columns
        put("r2")
        connection.execute(text)
        assert connection.sql("select distinct run_id from small.group_estimates").fetchall() == [("r2",)]


def test_refusals_say_what_to_do(bucket: Any, monkeypatch: pytest.MonkeyPatch, put: Put, fresh: Fresh):
    assert "there is no bucket elsewhere" in refusal(lambda: open_target("s3://elsewhere/x", STUDY).latest())
    put("r1")
    bucket.write(f"{PREFIX}/{STUDY}/_latest.json", b"{")
    assert "this is no pointer" in refusal(lambda: put("r2"))
    monkeypatch.setattr(object_store, "CLIENT_TRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "does not answer" in refusal(lambda: fresh().latest())
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert "no credentials; set AWS_ACCESS_KEY_ID" in refusal(lambda: fresh().latest())


@pytest.mark.parametrize("place", [PLACE, "gs://bucket/x", "az://container/x"])
def test_without_obstore_the_extra_is_named(place: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    assert "needs obstore, which is not installed: pip install 'groupwise[object-storage]'" in refusal(lambda: open_target(place, STUDY))
