"""Publishing to a server that speaks S3: layout, checksums, and a failure between any two uploads."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from groupwise.publishing.object_store import store as object_store
from groupwise.publishing.object_store.store_clean_up import clean_up
from groupwise.publishing.publication import Publication
from groupwise.publishing.target import ObjectStorage
from multilevel.catalogue.published_tables import TABLES
from multilevel.errors import PublishError

DAY = date(2026, 11, 1)
BUCKET, PREFIX, STUDY = "warehouse", "estimates/shop", "small"
PLACE = f"s3://{BUCKET}/{PREFIX}"
type Put = Callable[..., Publication]
type Fresh = Callable[..., ObjectStorage]


class Failing:
    """Stands in for ``object_store.announce``: fails at the n-th step, and at every later one if the store stays away."""

    def __init__(self, at: int, *, for_good: bool = False, error: type[BaseException] = OSError) -> None:
        self.at, self.for_good, self.error = at, for_good, error
        self.steps: list[str] = []

    def __call__(self, step: str, name: str) -> None:
        self.steps.append(f"{step} {name}")
        if len(self.steps) == self.at + 1 or (self.for_good and len(self.steps) > self.at):
            raise self.error(errno.ECONNRESET, "connection reset")


@contextmanager
def announced(listener: Failing) -> Iterator[Failing]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "announce", listener)
        yield listener


def writes_of_a_publication(put: Put) -> list[int]:
    """At which steps something is written, moved or removed: a failure there is one between two of them."""
    with announced(Failing(-2)) as counting:
        put("counted")
    return [at for at, step in enumerate(counting.steps) if step.split()[0] in ("put", "swap", "remove", "probe")]


def test_a_version_lies_where_the_local_layout_has_it(bucket: Any, put: Put):
    made = put("r1")
    home = f"{PREFIX}/{STUDY}"
    assert str(made.folder) == f"{PLACE}/{STUDY}/versions/dt=2026-11-01/rev=r1"
    assert made.is_latest
    assert bucket.names() == {
        *(f"{home}/versions/dt=2026-11-01/rev=r1/{name}.parquet" for name in TABLES),
        f"{home}/manifests/2026-11-01/r1.json",
        f"{home}/reports/2026-11-01/r1.html",
        f"{home}/reports/2026-11-01/r1.validation.html",
        f"{home}/quarantine/2026-11-01/r1/r1.parquet",
        f"{home}/contracts/2026-11-01/r1.odcs.yaml",
        f"{home}/contract.odcs.yaml",
        f"{home}/_latest.json",
        f"{PREFIX}/catalog.sql",
    }
    assert bucket.latest() == "r1"
    assert bucket.read(f"{home}/contract.odcs.yaml") == bucket.read(f"{home}/contracts/2026-11-01/r1.odcs.yaml")
    pointer = bucket.pointer()
    assert pointer is not None
    assert (pointer["report"], pointer["generation"]) == ("reports/2026-11-01/r1.html", 1)


def test_a_bucket_without_a_prefix_will_do(bucket: Any, put: Put, fresh: Fresh):
    opened = fresh(f"s3://{BUCKET}")
    put("r1", to=opened)
    assert {"catalog.sql", f"{STUDY}/_latest.json"} <= bucket.names()
    assert [version.run_id for version in opened.versions()] == ["r1"]


def test_nothing_of_the_credentials_is_published(bucket: Any, put: Put):
    put("r1")
    for name in bucket.names():
        content = bucket.read(name)
        assert b"AKIATESTONLY" not in content
        assert b"not-a-secret" not in content
        assert b"127.0.0.1" not in content


def test_a_backfill_publishes_its_version_and_leaves_the_pointer(bucket: Any, put: Put, target: ObjectStorage):
    put("r1")
    backfill = put("r2", DAY - timedelta(days=1))
    assert not backfill.is_latest
    assert bucket.latest() == "r1"
    assert [version.run_id for version in target.versions()] == ["r1", "r2"]


def test_a_run_publishes_once(bucket: Any, put: Put):
    put("r10")
    put("r1")
    with pytest.raises(PublishError, match="rev=r1 exists already"):
        put("r1")
    assert bucket.latest() == "r1"


@pytest.mark.operations
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_a_failure_between_any_two_uploads_leaves_the_previous_version(bucket: Any, for_good: bool, put: Put, target: ObjectStorage):
    put("good")
    writes = writes_of_a_publication(put)
    assert len(writes) >= 14
    pointed = "counted"
    for at in writes[:: 3 if for_good else 1]:
        run_id = f"try-{at}"
        with announced(Failing(at, for_good=for_good)) as failing, pytest.raises(PublishError) as refused:
            put(run_id)
        moved = any(step.endswith(f"{STUDY}/_latest.json") for step in failing.steps[:at] if step.startswith("swap"))
        pointed = run_id if moved else pointed
        assert bucket.latest() == pointed, failing.steps[at]
        assert "connection reset" in str(refused.value)
        known = {version.run_id for version in target.versions()}
        assert known >= {"good", "counted"}
        assert (run_id in known) == (moved or failing.steps[at].endswith("_latest.json")), failing.steps[at]
    put("last")
    assert bucket.latest() == "last"


def test_a_failure_on_the_way_takes_back_what_was_uploaded(bucket: Any, put: Put):
    put("good")
    before = bucket.names()
    with announced(Failing(18)) as failing, pytest.raises(PublishError):
        put("bad")
    assert any(step.startswith("put") and "rev=bad" in step for step in failing.steps[:18])
    assert bucket.names() == before


@pytest.mark.operations
def test_a_first_publication_that_fails_leaves_no_pointer_and_no_catalog(bucket: Any, put: Put, target: ObjectStorage):
    with announced(Failing(20, for_good=True)), pytest.raises(PublishError):
        put("first")
    assert bucket.latest() is None
    assert f"{PREFIX}/catalog.sql" not in bucket.names()
    assert target.latest() is None
    assert target.versions() == []


@pytest.mark.operations
def test_an_interrupted_run_leaves_the_previous_version(bucket: Any, put: Put):
    put("good")
    with announced(Failing(22, error=KeyboardInterrupt)), pytest.raises(KeyboardInterrupt):
        put("bad")
    assert bucket.latest() == "good"


def test_an_object_that_reads_back_otherwise_publishes_nothing(bucket: Any, put: Put):
    put("good")

    def damage(step: str, name: str) -> None:
        if step == "get" and name.endswith("rev=bad/diagnostics.parquet"):
            bucket.write(f"{PREFIX}/{name}", b"damaged on its way")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "announce", damage)
        with pytest.raises(PublishError, match=r"diagnostics[.]parquet does not read back as it was uploaded"):
            put("bad")
    assert bucket.latest() == "good"
    assert not [name for name in bucket.names() if "bad" in name]


def test_what_a_dead_run_left_is_removed_after_a_day_and_not_before(bucket: Any, put: Put, target: ObjectStorage):
    put("good")
    with announced(Failing(24, for_good=True)), pytest.raises(PublishError):
        put("dead")
    bucket.write(f"{PREFIX}/.conditional-of-the-dead", b"1")
    left = {name for name in bucket.names() if "dead" in name}
    assert left
    put("next")
    assert {name for name in bucket.names() if "dead" in name} == left
    clean_up(target.layout, datetime.now(UTC) + timedelta(hours=25))
    assert not [name for name in bucket.names() if "dead" in name]
    assert {version.run_id for version in target.versions()} == {"good", "next"}
    assert bucket.latest() == "next"
