"""The same publishing over Google's protocol, whose conditions are generations: a small server that keeps to its documentation."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from groupwise.publishing.publication import Publication
from groupwise.publishing.target import ObjectStorage, open_target
from multilevel.catalogue.published_tables import TABLES
from multilevel.errors import PublishError

DAY = date(2026, 11, 1)
BUCKET = "ware_house"
MISSING = "<?xml version='1.0'?><Error><Code>{}</Code><Message>not there</Message></Error>"


class Objects:
    """One bucket's objects, each with the generation that Google gives every write."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, int]] = {}
        self.written, self.one_at_a_time = 1_793_500_000_000_000, threading.Lock()
        self.ignores_conditions = False

    def put(self, name: str, data: bytes, condition: str | None) -> int | None:
        """The new generation; None where the object has another than the condition says (0: is there at all)."""
        with self.one_at_a_time:
            now = self.kept[name][1] if name in self.kept else 0
            if condition is not None and int(condition) != now and not self.ignores_conditions:
                return None
            self.written += 1
            self.kept[name] = (data, self.written)
            return self.written

    def listed(self, prefix: str, delimiter: str) -> str:
        items, folders = [], set()
        for name, (data, _) in sorted(self.kept.items()):
            rest = name.removeprefix(prefix)
            if not name.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
                continue
            modified = "<LastModified>2026-11-01T00:00:00.000Z</LastModified>"
            items.append(f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size>{modified}</Contents>")
        shared = [f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in sorted(folders)]
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(items)}{''.join(shared)}</ListBucketResult>"


def handler_of(objects: Objects) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def asked(self) -> tuple[str, str, dict[str, list[str]]]:
            parts = urlsplit(self.path)
            bucket, _, name = unquote(parts.path).removeprefix("/").partition("/")
            return bucket, name, parse_qs(parts.query)

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for header, value in headers.items():
                self.send_header(header.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self) -> None:
            _, name, _ = self.asked()
            data = self.rfile.read(int(self.headers["Content-Length"]))
            generation = objects.put(name, data, self.headers.get("x-goog-if-generation-match"))
            if generation is None:
                return self.answer(412, MISSING.format("PreconditionFailed").encode())
            return self.answer(200, etag=f'"{hashlib.md5(data).hexdigest()}"', x_goog_generation=str(generation))

        def do_GET(self) -> None:
            bucket, name, query = self.asked()
            if bucket != BUCKET:
                return self.answer(404, MISSING.format("NoSuchBucket").encode())
            if not name:
                return self.answer(200, objects.listed(query.get("prefix", [""])[0], query.get("delimiter", [""])[0]).encode())
            if name not in objects.kept:
                return self.answer(404, MISSING.format("NoSuchKey").encode())
            data, generation = objects.kept[name]
            etag = f'"{hashlib.md5(data).hexdigest()}"'
            return self.answer(200, data, etag=etag, x_goog_generation=str(generation), last_modified=formatdate(usegmt=True))

        def do_DELETE(self) -> None:
            _, name, _ = self.asked()
            if objects.kept.pop(name, None) is None:
                return self.answer(404, MISSING.format("NoSuchKey").encode())
            return self.answer(204)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(objects: Objects) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(objects))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "http://{}:{}".format(*server.server_address)
    server.shutdown()
    server.server_close()


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Objects]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("groupwise.publishing.object_store.store_publish.contract_text", lambda study, definition, tables: f"id: {study}\n")
    found = Objects()
    with serving(found) as address:
        monkeypatch.setenv("GOOGLE_BASE_URL", address)
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token-of-nobody")
        yield found


@pytest.fixture
def place(objects: Objects) -> ObjectStorage:
    return opened(f"gs://{BUCKET}/estimates")


def opened(place: str) -> ObjectStorage:
    found = open_target(place, "small")
    assert isinstance(found, ObjectStorage)
    return found


def test_a_version_is_published_moved_back_and_removed(place: ObjectStorage, objects: Objects, publish: Callable[..., Publication]):
    made = publish(place, "r1")
    assert str(made.folder) == f"gs://{BUCKET}/estimates/small/versions/dt=2026-11-01/rev=r1"
    assert publish(place, "r2").is_latest
    assert place.rollback("r1").run_id == "r1"
    assert publish(place, "r3", date(2026, 10, 31)).why_not_latest is not None
    assert [version.run_id for version in place.prune(1)] == ["r3"]
    assert [version.run_id for version in place.versions()] == ["r2", "r1"]
    assert not [name for name in objects.kept if "r3" in name or ".staging" in name]
    pointer = json.loads(objects.kept["estimates/small/_latest.json"][0])
    assert pointer["run_id"] == "r1"
    catalog = objects.kept["estimates/catalog.sql"][0].decode()
    assert "create secret (type gcs" in catalog
    assert f"gs://{BUCKET}/estimates/small" in catalog
    assert set(place.tables(place.versions()[-1])) == set(TABLES)


def test_a_pointer_of_another_generation_is_not_replaced(place: ObjectStorage, publish: Callable[..., Publication]):
    publish(place, "r1")
    store = place.layout.store
    found = store.read("small/_latest.json")
    assert found is not None
    # the same bytes again: only the generation tells that somebody wrote
    assert store.swap("small/_latest.json", found.data, found.tag)
    assert not store.swap("small/_latest.json", b"{}", found.tag)
    assert not store.swap("small/_latest.json", b"{}", None)
    store.remove("small/none")


def test_conditions_that_are_ignored_are_found_out(place: ObjectStorage, objects: Objects):
    assert place.layout.store.is_conditional
    objects.ignores_conditions = True
    assert not opened(f"gs://{BUCKET}/estimates").layout.store.is_conditional
    assert objects.kept == {}


def test_a_bucket_that_is_not_there_is_named(objects: Objects):
    with pytest.raises(PublishError, match=r"there is no bucket elsewhere; make it, or correct publish_to \(endpoint: GOOGLE_BASE_URL\)"):
        opened("gs://elsewhere/x").check()
