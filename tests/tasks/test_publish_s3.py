"""Publishing to a server that speaks S3: layout, checksums, failures between uploads, runs at once, rollback, prune, show."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

from multilevel.errors import PublishError
from multilevel.tables.catalogue import TABLES, arrow_schema
from tasks import object_store
from tasks.history import difference
from tasks.object_store import ObjectStore
from tasks.object_sweep import sweep
from tasks.publish import Publication
from tasks.publish_stage import Beside
from tasks.target import ObjectStorage, open_target

DAY = date(2026, 11, 1)
BUCKET, PREFIX, STUDY = "warehouse", "estimates/shop", "small"
PLACE = f"s3://{BUCKET}/{PREFIX}"


def tables_of(run_id: str, as_of: date = DAY, mean: float = 1.0) -> dict[str, pa.Table]:
    common = {"study": STUDY, "as_of": as_of, "run_id": run_id, "engine": "likelihood", "pooling": "partial"}
    number = {"estimate": mean, "std_error": 0.5, "lower": mean - 1, "upper": mean + 1}
    group = common | number | {"grouping_factor": "region", "parent_level": None, "is_new": False, "n": 10}
    group |= {
        "no_pooling_estimate": mean,
        "no_pooling_std_error": 0.6,
        "complete_pooling_estimate": 1.0,
        "rank_lower": 1.0,
        "rank_upper": 2.0,
    }
    rows: dict[str, list[dict[str, object]]] = {
        "population_coefficients": [common | number | {"term": "Intercept", "kind": "individual"}],
        "group_estimates": [group | {"level": level} for level in ("Köln", "ü/x")],
        "diagnostics": [common | {"check": "singular", "value": 0.0, "passed": True, "message": ""}],
    }
    return {name: pa.Table.from_pylist(rows.get(name, []), arrow_schema(name)) for name in TABLES}


class Bucket:
    """The bucket as another program sees it."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def names(self) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {item["Key"] for page in pages for item in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def write(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def pointer(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self.read(f"{PREFIX}/{STUDY}/_latest.json")))
        except ClientError:
            return None

    def latest(self) -> str | None:
        """The run id of the latest version after checking all of it as a careful reader would."""
        pointer = self.pointer()
        if pointer is None:
            return None
        home = f"{PREFIX}/{STUDY}"
        manifest = json.loads(self.read(f"{home}/{pointer['manifest']}"))
        assert {entry["table"] for entry in manifest["files"]} == set(TABLES)
        folder = f"{home}/{pointer['version']}/"
        assert {name for name in self.names() if name.startswith(folder)} == {folder + entry["path"] for entry in manifest["files"]}
        for entry in manifest["files"]:
            content = self.read(folder + entry["path"])
            assert hashlib.sha256(content).hexdigest() == entry["sha256"]
            assert set(pq.read_table(pa.BufferReader(content))["run_id"].to_pylist()) <= {pointer["run_id"]}
        return str(pointer["run_id"])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    one_at_a_time = threading.Lock()
    put_object = S3Response.put_object

    def put_whole(response: S3Response) -> object:
        # S3 looks at a condition and writes in one step; here two threads could look before either writes
        with one_at_a_time:
            return put_object(response)

    patch = pytest.MonkeyPatch()
    patch.setattr(S3Response, "put_object", put_whole)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()
    patch.undo()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTONLY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret-but-shown-nowhere")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    found = Bucket(client)
    for key in found.names():
        client.delete_object(Bucket=BUCKET, Key=key)
    return found


def fresh(place: str = PLACE) -> ObjectStorage:
    """As a process of its own opens it."""
    opened = open_target(place, STUDY)
    assert isinstance(opened, ObjectStorage)
    return opened


@cache
def target() -> ObjectStorage:
    """Opened once: a client takes a third of a second to make."""
    return fresh()


def put(run_id: str, as_of: date = DAY, mean: float = 1.0, to: ObjectStorage | None = None, told: list[str] | None = None) -> Publication:
    """Publish a version with a report, a validation page and quarantined rows beside it."""
    made = Path("made")
    made.mkdir(exist_ok=True)
    (made / f"{run_id}.html").write_text(f"<p>{run_id}</p>")
    pq.write_table(pa.table({"id": [1]}), made / f"{run_id}.parquet")
    return (to or target()).publish(
        tables_of(run_id, as_of, mean),
        as_of=as_of,
        run_id=run_id,
        provenance={"rows": {"left": 1}},
        beside=Beside(report=made / f"{run_id}.html", validation=made / f"{run_id}.html", quarantine=made / f"{run_id}.parquet"),
        waiting=None if told is None else told.append,
    )


def test_a_version_lies_where_the_local_layout_has_it(bucket: Bucket):
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


def test_a_bucket_without_a_prefix_will_do(bucket: Bucket):
    opened = fresh(f"s3://{BUCKET}")
    put("r1", to=opened)
    assert {"catalog.sql", f"{STUDY}/_latest.json"} <= bucket.names()
    assert [version.run_id for version in opened.versions()] == ["r1"]


def test_nothing_of_the_credentials_is_published(bucket: Bucket):
    put("r1")
    for name in bucket.names():
        content = bucket.read(name)
        assert b"AKIATESTONLY" not in content
        assert b"not-a-secret" not in content
        assert b"127.0.0.1" not in content


def test_a_backfill_publishes_its_version_and_leaves_the_pointer(bucket: Bucket):
    put("r1")
    backfill = put("r2", DAY - timedelta(days=1))
    assert not backfill.is_latest
    assert bucket.latest() == "r1"
    assert [version.run_id for version in target().versions()] == ["r1", "r2"]


def test_a_run_publishes_once(bucket: Bucket):
    put("r10")
    put("r1")
    with pytest.raises(PublishError, match="rev=r1 exists already"):
        put("r1")
    assert bucket.latest() == "r1"


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


def writes_of_a_publication() -> list[int]:
    """At which steps something is written, moved or removed: a failure there is one between two of them."""
    with announced(Failing(-2)) as counting:
        put("counted")
    return [at for at, step in enumerate(counting.steps) if step.split()[0] in ("put", "swap", "remove", "probe")]


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_a_failure_between_any_two_uploads_leaves_the_previous_version(bucket: Bucket, for_good: bool):
    put("good")
    writes = writes_of_a_publication()
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
        known = {version.run_id for version in target().versions()}
        assert known >= {"good", "counted"}
        assert (run_id in known) == (moved or failing.steps[at].endswith("_latest.json")), failing.steps[at]
    put("last")
    assert bucket.latest() == "last"


def test_a_failure_on_the_way_takes_back_what_was_uploaded(bucket: Bucket):
    put("good")
    before = bucket.names()
    with announced(Failing(18)) as failing, pytest.raises(PublishError):
        put("bad")
    assert any(step.startswith("put") and "rev=bad" in step for step in failing.steps[:18])
    assert bucket.names() == before


def test_a_first_publication_that_fails_leaves_no_pointer_and_no_catalog(bucket: Bucket):
    with announced(Failing(20, for_good=True)), pytest.raises(PublishError):
        put("first")
    assert bucket.latest() is None
    assert f"{PREFIX}/catalog.sql" not in bucket.names()
    assert target().latest() is None
    assert target().versions() == []


def test_an_interrupted_run_leaves_the_previous_version(bucket: Bucket):
    put("good")
    with announced(Failing(22, error=KeyboardInterrupt)), pytest.raises(KeyboardInterrupt):
        put("bad")
    assert bucket.latest() == "good"


def test_an_object_that_reads_back_otherwise_publishes_nothing(bucket: Bucket):
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


def test_what_a_dead_run_left_is_swept_after_a_day_and_not_before(bucket: Bucket):
    put("good")
    with announced(Failing(24, for_good=True)), pytest.raises(PublishError):
        put("dead")
    left = {name for name in bucket.names() if "dead" in name}
    assert left
    put("next")
    assert {name for name in bucket.names() if "dead" in name} == left
    sweep(target().layout, datetime.now(UTC) + timedelta(hours=25))
    assert not [name for name in bucket.names() if "dead" in name]
    assert {version.run_id for version in target().versions()} == {"good", "next"}
    assert bucket.latest() == "next"


def test_runs_that_publish_at_once_all_get_in_and_the_pointer_never_goes_back(bucket: Bucket):
    days = [DAY + timedelta(days=day) for day in (3, 0, 4, 1, 4, 2)]
    with polling(bucket) as seen, ThreadPoolExecutor(len(days)) as pool:
        made = list(pool.map(lambda given: put(f"r{given[0]}", given[1], to=fresh()), enumerate(days)))
    assert {version.run_id for version in target().versions()} == {f"r{i}" for i in range(len(days))}
    assert bucket.latest() in ("r2", "r4")
    assert any(publication.is_latest for publication in made)
    assert seen == sorted(seen)
    contract = bucket.read(f"{PREFIX}/{STUDY}/contract.odcs.yaml")
    assert contract == bucket.read(f"{PREFIX}/{STUDY}/contracts/{DAY + timedelta(days=4)}/{bucket.latest()}.odcs.yaml")


@contextmanager
def polling(bucket: Bucket) -> Iterator[list[str]]:
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


def test_two_runs_of_one_id_at_once_leave_one_whole_version(bucket: Bucket):
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


def test_a_pointer_that_moved_meanwhile_is_read_again(bucket: Bucket):
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


def test_a_move_whose_answer_was_lost_is_recognised(bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
    put("old")
    swap = ObjectStore.swap

    def lost(self: ObjectStore, name: str, data: bytes, etag: str | None) -> bool:
        swap(self, name, data, etag)
        return False

    monkeypatch.setattr(ObjectStore, "swap", lost)
    monkeypatch.setattr("tasks.object_publish.follow_pointer", lambda layout: None)
    assert put("new").is_latest
    assert bucket.latest() == "new"
    pointer = bucket.pointer()
    assert pointer is not None
    assert pointer["generation"] == 2


def test_rollback_points_at_an_earlier_version_and_later_runs_publish_over_it(bucket: Bucket):
    put("r1", DAY - timedelta(days=1))
    put("r2")
    rolled = target().rollback("r1")
    assert rolled.run_id == "r1"
    assert bucket.latest() == "r1"
    assert [version.run_id for version in target().versions() if version.is_latest] == ["r1"]
    put("r3")
    assert bucket.latest() == "r3"


def test_rollback_refuses_a_run_that_is_not_there_or_is_not_whole(bucket: Bucket):
    put("r1")
    put("r2")
    with pytest.raises(PublishError, match="no version has the run id r9; the newest are r2, r1"):
        target().rollback("r9")
    bucket.client.delete_object(Bucket=BUCKET, Key=f"{PREFIX}/{STUDY}/versions/dt=2026-11-01/rev=r1/diagnostics.parquet")
    with pytest.raises(PublishError, match=r"has no whole diagnostics[.]parquet"):
        target().rollback("r1")
    assert bucket.latest() == "r2"


def test_prune_keeps_the_newest_and_always_the_latest(bucket: Bucket):
    for day in range(4):
        put(f"r{day}", DAY + timedelta(days=day))
    put("r10", DAY + timedelta(days=4))
    target().rollback("r0")
    removed = target().prune(3)
    assert [version.run_id for version in removed] == ["r1"]
    assert bucket.latest() == "r0"
    assert not [name for name in bucket.names() if "/r1." in name or "r1/" in name]
    assert [version.run_id for version in target().versions()] == ["r10", "r3", "r2", "r0"]
    with pytest.raises(PublishError, match="keep at least one"):
        target().prune(0)


def test_a_prune_that_dies_is_finished_by_the_next_and_its_versions_cannot_come_back(bucket: Bucket):
    for day in range(3):
        put(f"r{day}", DAY + timedelta(days=day))
    with announced(Failing(-2)) as counting, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectStore, "remove", lambda self, name: (_ for _ in ()).throw(PublishError("gone")))
        with pytest.raises(PublishError, match="gone"):
            target().prune(1)
    assert counting.steps
    assert [version.run_id for version in target().versions()] == ["r2"]
    with pytest.raises(PublishError, match="no version has the run id r1"):
        target().rollback("r1")
    target().prune(1)
    assert not [name for name in bucket.names() if "r1" in name or "r0" in name]
    pointer = bucket.pointer()
    assert pointer is not None
    assert pointer["removing"] == []


def test_a_rollback_and_a_prune_at_once_never_leave_a_pointer_to_nothing(bucket: Bucket):
    put("r0")
    put("r1", DAY + timedelta(days=1))
    pruned = []

    def prune_meanwhile(step: str, name: str) -> None:
        if step == "swap" and name.endswith("_latest.json") and not pruned:
            pruned.append(name)
            target().prune(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "announce", prune_meanwhile)
        with pytest.raises(PublishError, match="is not there; the version was removed"):
            target().rollback("r0")
    assert bucket.latest() == "r1"


def test_a_difference_reads_both_versions(bucket: Bucket):
    put("r1", DAY - timedelta(days=1), mean=1.0)
    put("r2", mean=3.0)
    found = difference(target())
    assert (found.earlier.run_id, found.later.run_id) == ("r1", "r2")
    assert {move.level: move.after - move.before for move in found.groups.moves} == {"Köln": 2.0, "ü/x": 2.0}


def test_the_catalog_looks_the_pointer_up(bucket: Bucket):
    put("r1")
    text = bucket.read(f"{PREFIX}/catalog.sql").decode()
    with duckdb.connect() as connection:
        connection.register_filesystem(target().layout.store._files)
        connection.execute(text)
        assert connection.sql("select distinct run_id from small.group_estimates").fetchall() == [("r1",)]
        assert "dt" not in connection.sql("select * from small.group_estimates").columns
        put("r2")
        connection.execute(text)
        assert connection.sql("select distinct run_id from small.group_estimates").fetchall() == [("r2",)]


def test_a_store_that_ignores_conditions_is_found_out(bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
    assert fresh().layout.store.is_conditional
    put_object = ObjectStore._put
    monkeypatch.setattr(ObjectStore, "_put", lambda self, address, data, condition: put_object(self, address, data, {}))
    assert not fresh().layout.store.is_conditional
    assert bucket.names() == set()


def test_without_conditional_writes_the_user_is_told_and_runs_in_turn_are_safe(bucket: Bucket):
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


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(PublishError) as refused:
        work()
    return str(refused.value)


def test_refusals_say_what_to_do(bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
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


def test_without_s3fs_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    assert "pip install 'groupwise[s3]'" in refusal(lambda: open_target(PLACE, STUDY))
