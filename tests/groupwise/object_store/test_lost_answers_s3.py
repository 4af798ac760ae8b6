"""Answers that are lost on the way: whatever the store had taken, the run goes on, and publishes once."""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress
from typing import Any

import pytest

from groupwise.publishing.object_store import clients


class Dropping:
    """A proxy that hands requests on, and keeps the answer to the first PUT of an object: it breaks the connection, or says nothing."""

    def __init__(self, upstream: str, name: str, how: str) -> None:
        host, _, port = upstream.removeprefix("http://").partition(":")
        self.upstream, self.name, self.how, self.dropped = (host, int(port)), name.encode(), how, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    @property
    def address(self) -> str:
        return "http://{}:{}".format(*self.listening.getsockname())

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                threading.Thread(target=self.hand_on, args=(client,), daemon=True).start()

    def hand_on(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self.upstream) as store:
            asked = client.recv(2**20)
            while asked:
                store.sendall(asked)
                if asked.startswith(b"PUT") and self.name in asked.partition(b"\r\n")[0] and not self.dropped:
                    self.dropped += 1
                    store.recv(2**20)
                    if self.how == "reset":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    if self.how == "silent":
                        client.recv(1)
                    return
                threading.Thread(target=self.hand_back, args=(store, client), daemon=True).start()
                asked = client.recv(2**20)

    def hand_back(self, store: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while answer := store.recv(2**20):
                client.sendall(answer)


@pytest.mark.operations
@pytest.mark.parametrize(
    ("how", "name"),
    [("reset", name) for name in (".conditional-", ".claim", "diagnostics.parquet", "r2.json", "_latest.json", "contract.odcs.yaml")]
    + [("silent", "diagnostics.parquet"), ("silent", "_latest.json"), ("closed", "r2.json")],
)
def test_an_answer_that_is_lost_is_no_failed_run(bucket: Any, put: Any, fresh: Any, name: str, how: str, monkeypatch: pytest.MonkeyPatch):
    put("r1")
    proxy = Dropping(os.environ["AWS_ENDPOINT_URL"], name, how)
    for limit in ("READ_SECONDS", "UPLOAD_SECONDS"):
        monkeypatch.setattr(clients, limit, 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    with proxy.listening:
        assert put("r2", to=fresh()).is_latest
    assert proxy.dropped == 1
    assert bucket.latest() == "r2"
    assert bucket.pointer()["generation"] == 2
    assert b'"conditional_writes": true' in bucket.read("estimates/shop/small/manifests/2026-11-01/r2.json")
