"""What Prefect's server or its folder refuses is said in one error of ours, with what to do, before anything expensive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from flows.supervision.prefect_api import open_api
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


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    assert "PREFECT_API_URL nonsense: write" in refusal({PREFECT_API_URL: "nonsense", PREFECT_HOME: tmp_path})


def test_a_folder_or_a_database_that_cannot_be_used_is_named_before_a_server_is_started(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert f"Prefect's folder {tmp_path / 'file'} (PREFECT_HOME) cannot be used" in refusal({PREFECT_HOME: tmp_path / "file"})
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "prefect.db").write_bytes(b"no database" * 1_000)
    assert "file is not a database" in refusal({PREFECT_HOME: tmp_path / "home"})


# it starts and stops the one server of its process, which other tests of the flow share
@pytest.mark.faults
def test_a_server_that_does_not_start_in_time_is_told_with_the_setting(tmp_path: Path) -> None:
    try:
        said = refusal({PREFECT_HOME: tmp_path, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 1})
    finally:
        SubprocessASGIServer().stop()
    assert "did not start within 1 seconds" in said
    assert "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS" in said
