"""What Prefect's server or its folder refuses is said in one error of ours, with what to do, before anything expensive."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_HOME,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

from flows import prefect_api
from flows.prefect_api import open_api, patience
from multilevel.errors import ResourceError

type Answering = Callable[[int], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """A server that answers everything with one HTTP status; gives its address."""
    started: list[HTTPServer] = []

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}/api"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def refusal(settings: dict[object, object]) -> str:
    with (
        temporary_settings({PREFECT_SERVER_EPHEMERAL_ENABLED: True, **settings}, restore_defaults={PREFECT_API_URL}),  # type: ignore[dict-item]
        pytest.raises(ResourceError) as refused,
    ):
        open_api(None)
    return str(refused.value)


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "PREFECT_API_KEY"), (403, "PREFECT_API_AUTH_STRING"), (404, "ends in /api"), (500, "see the server's log")],
)
def test_a_server_that_refuses_is_named_with_its_answer(status: int, advice: str, answering: Answering, tmp_path: Path) -> None:
    address = answering(status)
    said = refusal({PREFECT_API_URL: address, PREFECT_HOME: tmp_path})
    assert address in said
    assert f"HTTP status {status}" in said
    assert advice in said


def test_a_server_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path) -> None:
    said = refusal({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_HOME: tmp_path})
    assert "http://127.0.0.1:9/api" in said
    assert "Connection refused" in said
    assert "prefect server start" in said


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_api, "ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        began = time.monotonic()
        said = refusal({PREFECT_API_URL: address, PREFECT_HOME: tmp_path})
        assert time.monotonic() - began < 10
    assert address in said
    assert "(PREFECT_API_URL) cannot be used" in said
    assert "the run then needs no server" in said


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    assert "PREFECT_API_URL nonsense: write" in refusal({PREFECT_API_URL: "nonsense", PREFECT_HOME: tmp_path})


def test_a_folder_or_a_database_that_cannot_be_used_is_named_before_a_server_is_started(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert f"Prefect's folder {tmp_path / 'file'} (PREFECT_HOME) cannot be used" in refusal({PREFECT_HOME: tmp_path / "file"})
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "prefect.db").write_bytes(b"no database" * 1_000)
    assert "file is not a database" in refusal({PREFECT_HOME: tmp_path / "home"})


def test_a_database_that_another_process_holds_is_named_before_a_server_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_api, "LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(tmp_path / "prefect.db", isolation_level=None)) as holder:
        holder.execute("pragma journal_mode = wal")  # as Prefect has it; readers see nothing of the lock
        holder.execute("begin exclusive")
        said = refusal({PREFECT_HOME: tmp_path})
    assert f"Prefect's folder {tmp_path} (PREFECT_HOME) cannot be used: {tmp_path}/prefect.db: database is locked; " in said
    assert "end that process or wait for it, or set PREFECT_HOME to another folder" in said


def test_a_server_of_the_run_is_waited_for_less_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES}), patience():
        assert get_current_settings().client.max_retries == 2
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 7}, restore_defaults={PREFECT_API_URL}), patience():
        assert get_current_settings().client.max_retries == 7
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}, restore_defaults={PREFECT_CLIENT_MAX_RETRIES}), patience():
        assert get_current_settings().client.max_retries == 5


# it starts and stops the one server of its process, which other tests of the flow share
@pytest.mark.faults
def test_a_server_that_does_not_start_in_time_is_told_with_the_setting(tmp_path: Path) -> None:
    # takes seconds to import
    from prefect.server.api.server import SubprocessASGIServer

    try:
        said = refusal({PREFECT_HOME: tmp_path, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 1})
    finally:
        SubprocessASGIServer().stop()
    assert "did not start within 1 seconds" in said
    assert "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS" in said
