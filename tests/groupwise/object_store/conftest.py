"""A server that speaks S3 on loopback, its bucket as another program sees it, and small versions to publish there."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler

from groupwise.publishing.publication import Publication
from groupwise.publishing.stage import Attachments
from groupwise.publishing.target import ObjectStorage, open_target
from multilevel.catalogue.published_tables import TABLES, arrow_schema

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
        "headline": "members",
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


@pytest.fixture(scope="session")
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
    # without this every small answer waits 40 milliseconds for an acknowledgement
    patch.setattr(WSGIRequestHandler, "disable_nagle_algorithm", True)
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
    # a contract of its own for each version: that of another is told apart, and none takes a tenth of a second to word
    contracts = count()
    monkeypatch.setattr(
        "groupwise.publishing.object_store.store_publish.contract_text",
        lambda study, definition, tables: f"id: {study}-{next(contracts)}\n",
    )
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    found = Bucket(client)
    for key in found.names():
        client.delete_object(Bucket=BUCKET, Key=key)
    return found


def opened(place: str = PLACE) -> ObjectStorage:
    found = open_target(place, STUDY)
    assert isinstance(found, ObjectStorage)
    return found


@pytest.fixture
def fresh(bucket: Bucket) -> Callable[..., ObjectStorage]:
    """Open the place as a process of its own does."""
    return opened


@pytest.fixture(scope="session")
def opened_once(server: str) -> ObjectStorage:
    return opened()


@pytest.fixture
def target(bucket: Bucket, opened_once: ObjectStorage) -> ObjectStorage:
    """The place, opened once: a client takes a third of a second to make."""
    return opened_once


@pytest.fixture
def put(target: ObjectStorage) -> Callable[..., Publication]:
    """Publish a version by run id."""

    def run(
        run_id: str, as_of: date = DAY, mean: float = 1.0, to: ObjectStorage | None = None, told: list[str] | None = None, **more: Any
    ) -> Publication:
        return publish_version(to or target, run_id, as_of, mean, told, **more)

    return run


@pytest.fixture
def publish() -> Callable[..., Publication]:
    """Publish a version to any place by run id."""
    return lambda target, run_id, as_of=DAY: publish_version(target, run_id, as_of, 1.0, None)


def publish_version(target: ObjectStorage, run_id: str, as_of: date, mean: float, told: list[str] | None, **more: Any) -> Publication:
    """Publish a version with a report, a validation page, quarantined rows and, where it was made, a joint distribution beside it."""
    made = Path("made")
    made.mkdir(exist_ok=True)
    (made / f"{run_id}.html").write_text(f"<p>{run_id}</p>")
    pq.write_table(pa.table({"id": [1]}), made / f"{run_id}.parquet")
    return target.publish(
        tables_of(run_id, as_of, mean),
        as_of=as_of,
        run_id=run_id,
        provenance={"rows": {"left": 1}},
        attachments=Attachments(
            report=made / f"{run_id}.html",
            validation=made / f"{run_id}.html",
            quarantine=made / f"{run_id}.parquet",
            joint_tables=made / f"{run_id}.joint" if (made / f"{run_id}.joint").exists() else None,
        ),
        waiting=None if told is None else told.append,
        **more,
    )
