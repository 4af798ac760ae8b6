"""How object stores are reached: credentials, endpoints, refusals, answers that are lost, and a store that says nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from groupwise.publishing.address import SCHEMES, read_address
from groupwise.publishing.object_store import store as object_store
from groupwise.publishing.object_store.clients import KINDS
from groupwise.publishing.object_store.content import Tag
from groupwise.publishing.object_store.store import ObjectStore
from multilevel.errors import PublishError

SECRET = "not-a-secret-but-shown-nowhere"
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"


@dataclass
class Scripted:
    """A server that answers every request in one way, and keeps what it was asked."""

    status: int = 200
    body: str = ""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    said = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said.asked.append((self.command, self.path, dict(self.headers)))
            self.send_response(said.status)
            self.send_header("Content-Length", str(len(said.body.encode())))
            self.end_headers()
            self.wfile.write(said.body.encode())

        do_GET = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    said.address = "http://{}:{}".format(*server.server_address)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield said
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that says nothing of any store."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(object_store, "CLIENT_TRIES", 1)
    return monkeypatch


@pytest.fixture
def keys(no_settings: pytest.MonkeyPatch, scripted: Scripted) -> pytest.MonkeyPatch:
    """Keys and the scripted server's address in the environment."""
    no_settings.setenv("AWS_ENDPOINT_URL", scripted.address)
    no_settings.setenv("AWS_ACCESS_KEY_ID", "AKIATESTONLY")
    no_settings.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return no_settings


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(PublishError) as refused:
        work()
    assert SECRET not in str(refused.value)
    return str(refused.value)


def read(place: str = "s3://warehouse/x") -> object:
    return ObjectStore(read_address(place)).read("small/_latest.json")


def test_every_scheme_that_is_read_has_a_client():
    assert set(KINDS) == set(SCHEMES)


def test_a_profile_gives_keys_region_and_endpoint(no_settings: pytest.MonkeyPatch, scripted: Scripted, tmp_path: Path):
    (tmp_path / "aws_shared_credentials_file").write_text(f"[work]\naws_access_key_id = AKIAOFAPROFILE\naws_secret_access_key = {SECRET}\n")
    (tmp_path / "aws_config_file").write_text(f"[profile work]\nregion = eu-central-1\nendpoint_url = {scripted.address}\n")
    no_settings.setenv("AWS_PROFILE", "work")
    scripted.status, scripted.body = 404, ERROR.format("NoSuchKey", "")
    assert read() is None
    command, path, headers = scripted.asked[0]
    assert (command, path) == ("GET", "/warehouse/x/small/_latest.json")
    assert "Credential=AKIAOFAPROFILE/" in headers["authorization"]
    assert "/eu-central-1/s3/" in headers["authorization"]


def test_a_session_token_is_sent_and_the_region_defaults_to_the_first(keys: pytest.MonkeyPatch, scripted: Scripted):
    keys.setenv("AWS_SESSION_TOKEN", "token-of-a-role")
    scripted.status, scripted.body = 404, ERROR.format("NoSuchKey", "")
    assert read() is None
    headers = scripted.asked[0][2]
    assert headers["x-amz-security-token"] == "token-of-a-role"
    assert "/us-east-1/s3/" in headers["authorization"]


def test_settings_that_do_not_work_are_named(keys: pytest.MonkeyPatch, tmp_path: Path):
    keys.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    assert "Invalid endpoint: localhost:9000; check the AWS_* variables" in refusal(read)
    keys.setenv("AWS_ENDPOINT_URL", f"htp:// x//user:{SECRET}@localhost")
    assert "//***@localhost; check the AWS_* variables" in refusal(read)
    keys.delenv("AWS_ENDPOINT_URL")
    keys.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    assert "the certificates of AWS_CA_BUNDLE cannot be read" in refusal(read)
    (tmp_path / "none.pem").write_text("none")
    assert "none.pem holds no certificates (PEM)" in refusal(read)
    keys.setenv("AWS_PROFILE", "nobody")
    assert "profile (nobody) could not be found" in refusal(read)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "SignatureDoesNotMatch", "access denied (SignatureDoesNotMatch); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (404, "NoSuchBucket", "there is no bucket warehouse; make it, or correct publish_to (endpoint: AWS_ENDPOINT_URL)"),
        (301, "PermanentRedirect", "the bucket is in another region; set AWS_DEFAULT_REGION to it"),
        pytest.param(
            400,
            "AuthorizationHeaderMalformed",
            "the bucket is in another region; set AWS_DEFAULT_REGION to it",
            marks=pytest.mark.operations,
        ),
        pytest.param(400, "InvalidRequest", "the store refused (InvalidRequest: of the store)", marks=pytest.mark.operations),
        (503, "SlowDown", "the store refused (SlowDown: of the store)"),
    ],
)
def test_what_the_store_answers_is_said_in_words(keys: pytest.MonkeyPatch, scripted: Scripted, status: int, code: str, said: str):
    scripted.status, scripted.body = status, ERROR.format(code, "of the store")
    store = ObjectStore(read_address("s3://warehouse/x"))
    for work in (lambda: store.read("a"), lambda: store.sha256("a"), lambda: store.names("a/"), store.folders, lambda: store.remove("a")):
        message = refusal(work)
        assert message.startswith("s3://warehouse/x")
        assert said in message
        assert "Debug source" not in message


def test_a_store_that_knows_no_conditions_is_told_from_one_that_fails(keys: pytest.MonkeyPatch, scripted: Scripted):
    scripted.status = 501
    store = ObjectStore(read_address("s3://warehouse/x"))
    with pytest.raises(PublishError, match="the store refused"):
        store.read("a")
    # removing the trial object is refused as well here
    assert "refused (501" in refusal(lambda: store.is_conditional)
    puts = [headers for command, _, headers in scripted.asked if command == "PUT"]
    assert puts[0]["if-none-match"] == "*"
    assert puts[0]["cache-control"] == "no-cache"


def test_names_that_are_no_paths_are_said(keys: pytest.MonkeyPatch, scripted: Scripted):
    item = "<Contents><Key>x/small/a/../b</Key><Size>1</Size><LastModified>2026-11-01T00:00:00Z</LastModified></Contents>"
    scripted.body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{item}</ListBucketResult>"
    message = refusal(lambda: ObjectStore(read_address("s3://warehouse/x")).names("small/"))
    assert "an object there has a name that is no path" in message
    assert "x/small/a/../b" in message


@pytest.mark.parametrize(
    ("place", "settings", "said"),
    [
        ("gs://bucket/x", {"GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent.json"}, "/nonexistent.json: No such file"),
        (
            "gs://bucket/x",
            {"GOOGLE_BASE_URL": "http://127.0.0.1:9", "GOOGLE_SKIP_SIGNATURE": "true"},
            "check GOOGLE_BASE_URL and the network",
        ),
        ("az://container/x", {}, "Account must be specified); check AZURE_STORAGE_ACCOUNT_NAME"),
        (
            "az://container/x",
            {
                "AZURE_STORAGE_ACCOUNT_NAME": "account",
                "AZURE_STORAGE_ACCOUNT_KEY": "bm90LWEta2V5",
                "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9",
            },
            "Connection refused); check AZURE_STORAGE_ENDPOINT and the network",
        ),
    ],
)
def test_other_stores_name_their_own_settings(no_settings: pytest.MonkeyPatch, place: str, settings: dict[str, str], said: str):
    for name, value in settings.items():
        no_settings.setenv(name, value)
    message = refusal(lambda: read(place))
    assert message.startswith(place)
    assert said in message
    assert "bm90LWEta2V5" not in message


def test_an_azure_container_that_is_not_there_is_named(no_settings: pytest.MonkeyPatch, scripted: Scripted):
    no_settings.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    no_settings.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90LWEta2V5")
    no_settings.setenv("AZURE_STORAGE_ENDPOINT", scripted.address)
    scripted.status, scripted.body = 404, ERROR.format("ContainerNotFound", "")
    assert "there is no container warehouse; make it" in refusal(lambda: read("az://warehouse/x"))


def test_an_azure_object_is_replaced_under_its_tag(no_settings: pytest.MonkeyPatch, scripted: Scripted):
    no_settings.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    no_settings.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90LWEta2V5")
    no_settings.setenv("AZURE_STORAGE_ENDPOINT", scripted.address)
    store = ObjectStore(read_address("az://warehouse/x"))
    store.__dict__["is_conditional"] = True
    scripted.status, scripted.body = 412, ERROR.format("ConditionNotMet", "")
    assert not store.swap("a", b"1", Tag('"0x8DE"'))
    scripted.status, scripted.body = 409, ERROR.format("BlobAlreadyExists", "")
    assert not store.swap("a", b"1", None)
    (_, path, replacing), (_, _, creating) = scripted.asked
    assert path == "/warehouse/x/a"
    assert (replacing["if-match"], creating["if-none-match"]) == ('"0x8DE"', "*")
    assert replacing["x-ms-blob-cache-control"] == "no-cache"


@pytest.mark.operations
def test_a_file_too_large_for_one_request_goes_up_in_parts_and_not_over_another(bucket: Any, fresh: Any, tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(object_store, "LARGEST_REQUEST", 2**20)
    monkeypatch.setattr(object_store, "PART", 5 * 2**20)
    file, store = tmp_path / "large", fresh().layout.store
    file.write_bytes(os.urandom(11 * 2**20))
    store.upload(file, "large")
    assert bucket.read("estimates/shop/large") == file.read_bytes()
    assert bucket.client.head_object(Bucket="warehouse", Key="estimates/shop/large")["ETag"].endswith('-3"')
    before = file.read_bytes()
    file.write_bytes(os.urandom(2 * 2**20))
    store.upload(file, "large")
    assert bucket.read("estimates/shop/large") == before


@pytest.mark.operations
def test_the_objects_that_are_replaced_are_never_cached(bucket: Any, put: Any):
    put("r1")
    for key in ("small/_latest.json", "small/contract.odcs.yaml", "catalog.sql"):
        assert bucket.client.head_object(Bucket="warehouse", Key=f"estimates/shop/{key}")["CacheControl"] == "no-cache"


@pytest.mark.operations
def test_a_signal_ends_the_wait_for_a_store_that_says_nothing(keys: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        keys.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*silent.getsockname()))
        keys.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        code = (
            "from groupwise.publishing.address import read_address\n"
            "from groupwise.publishing.object_store.store import ObjectStore\n"
            "ObjectStore(read_address('s3://warehouse/x')).read('a')\n"
        )
        waiting = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        connection, _ = silent.accept()
        with connection:
            connection.recv(2**16)
            waiting.send_signal(signal.SIGINT)
            try:
                _, said = waiting.communicate(timeout=60)
            finally:
                waiting.kill()
    assert waiting.returncode in (130, -signal.SIGINT)
    assert "KeyboardInterrupt" in said


@pytest.mark.operations
def test_a_client_that_is_told_to_use_no_conditions_publishes_with_the_warning(bucket: Any, put: Any, fresh: Any, monkeypatch: Any):
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    told: list[str] = []
    assert put("r1", to=fresh(), told=told).is_latest
    assert put("r2", to=fresh()).is_latest
    assert "does not know conditional writes" in told[0]
    assert bucket.latest() == "r2"
    assert not [name for name in bucket.names() if ".conditional-" in name]
