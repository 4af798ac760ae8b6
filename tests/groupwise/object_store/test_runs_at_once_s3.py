"""Runs that publish, roll back and prune at the same moment in object storage."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import pytest

from groupwise.publishing.object_store import store as object_store
from groupwise.publishing.object_store.content import Tag
from groupwise.publishing.object_store.store import ObjectStore
from groupwise.publishing.publication import Publication
from groupwise.publishing.target import ObjectStorage
from multilevel.errors import PublishError

pytestmark = pytest.mark.operations

DAY = date(2026, 11, 1)
BUCKET, PREFIX, STUDY = "warehouse", "estimates/shop", "small"
PLACE = f"s3://{BUCKET}/{PREFIX}"
type Put = Callable[..., Publication]
type Fresh = Callable[..., ObjectStorage]


@contextmanager
def polling(bucket: Any) -> Iterator[list[str]]:
    """A reader that follows the pointer and checks every file, over and over; the list holds the as_of of all it saw."""
    stop, failures = threading.Event(), []
    seen: list[str] = []

    def read() -> None:
        try:
            while not stop.is_set():
                bucket.latest()
                pointer = bucket.pointer()
                if pointer is not None:
                    seen.append(pointer["as_of"])
        except BaseException as error:  # noqa: BLE001  handed to the test below
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        stop.set()
        reader.join()
    assert not failures
    assert seen


@pytest.mark.operations
def test_runs_that_publish_at_once_all_get_in_and_the_pointer_never_goes_back(bucket: Any, put: Put, target: ObjectStorage, fresh: Fresh):
    days = [DAY + timedelta(days=day) for day in (3, 0, 4, 1, 4, 2)]
    with polling(bucket) as seen, ThreadPoolExecutor(len(days)) as pool:
        made = list(pool.map(lambda given: put(f"r{given[0]}", given[1], to=fresh()), enumerate(days)))
    assert {version.run_id for version in target.versions()} == {f"r{i}" for i in range(len(days))}
    assert bucket.latest() in ("r2", "r4")
    assert any(publication.is_latest for publication in made)
    assert seen == sorted(seen)
    contract = bucket.read(f"{PREFIX}/{STUDY}/contract.odcs.yaml")
    assert contract == bucket.read(f"{PREFIX}/{STUDY}/contracts/{DAY + timedelta(days=4)}/{bucket.latest()}.odcs.yaml")


def test_two_runs_of_one_id_at_once_leave_one_whole_version(bucket: Any, put: Put, fresh: Fresh):
    def run(mean: float) -> str:
        try:
            put("same", mean=mean, to=fresh())
        except PublishError as refused:
            return str(refused)
        return "published"

    with ThreadPoolExecutor(2) as pool:
        results = sorted(pool.map(run, (1.0, 2.0)))
    assert results[0] == "published"
    assert "publishes once" in results[1]
    assert bucket.latest() == "same"


def test_a_pointer_that_moved_meanwhile_is_read_again(bucket: Any, put: Put):
    put("old")
    raced = []

    def overtake(step: str, name: str) -> None:
        if step == "swap" and name.endswith("_latest.json") and not raced:
            raced.append(name)
            put("overtaker", DAY + timedelta(days=1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "announce", overtake)
        slow = put("slow")
    assert not slow.is_latest
    assert bucket.latest() == "overtaker"


def test_a_move_whose_answer_was_lost_is_recognised(bucket: Any, monkeypatch: pytest.MonkeyPatch, put: Put):
    put("old")
    swap = ObjectStore.swap

    def lost(self: ObjectStore, name: str, data: bytes, tag: Tag | None) -> bool:
        swap(self, name, data, tag)
        return False

    monkeypatch.setattr(ObjectStore, "swap", lost)
    monkeypatch.setattr("groupwise.publishing.object_store.store_publish.follow_pointer", lambda layout: None)
    assert put("new").is_latest
    assert bucket.latest() == "new"
    pointer = bucket.pointer()
    assert pointer is not None
    assert pointer["generation"] == 2


def test_a_rollback_and_a_prune_at_once_never_leave_a_pointer_to_nothing(bucket: Any, put: Put, target: ObjectStorage):
    put("r0")
    put("r1", DAY + timedelta(days=1))
    pruned = []

    def prune_meanwhile(step: str, name: str) -> None:
        if step == "swap" and name.endswith("_latest.json") and not pruned:
            pruned.append(name)
            target.prune(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "announce", prune_meanwhile)
        with pytest.raises(PublishError, match="is not there; the version was removed"):
            target.rollback("r0")
    assert bucket.latest() == "r1"


def test_a_store_that_ignores_conditions_is_found_out(bucket: Any, monkeypatch: pytest.MonkeyPatch, fresh: Fresh):
    assert fresh().layout.store.is_conditional
    put_object = ObjectStore._put
    monkeypatch.setattr(ObjectStore, "_put", lambda self, name, data, mode: put_object(self, name, data, "overwrite"))
    assert not fresh().layout.store.is_conditional
    assert bucket.names() == set()


def test_without_conditional_writes_the_user_is_told_and_runs_in_turn_are_safe(bucket: Any, put: Put, fresh: Fresh):
    told: list[str] = []
    weak = fresh()
    weak.layout.store.__dict__["is_conditional"] = False
    put("r1", to=weak, told=told)
    put("r2", to=weak, told=told)
    put("r3", DAY - timedelta(days=1), to=weak, told=told)
    assert "does not know conditional writes" in told[0]
    assert bucket.latest() == "r2"
    manifest = json.loads(bucket.read(f"{PREFIX}/{STUDY}/manifests/2026-11-01/r1.json"))
    assert manifest["conditional_writes"] is False
