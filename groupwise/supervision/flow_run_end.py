"""The flow run of a command that has ended, marked so through Prefect's API.

Standard library only: importing Prefect's client takes longer than a command may take to end.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from groupwise.supervision.news import News

FLOW = "publish-group-estimates"
OPEN_STATES = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]
CALL_SECONDS = 1.0
AGAIN_SECONDS = 0.1
PAGE = 200


def end_flow_run(news: News, state: Literal["CANCELLED", "CRASHED"], message: str, seconds: float) -> str | None:
    """Give the flow run of ``news.run_id`` a final state; answers why that failed, None where nothing is left open.

    A request that the killed command had sent may still be under way, so that the state counts only when a second look finds it kept.
    """
    if news.api is None or news.run_id is None:
        return None
    server = Server(news.api, news.headers, news.certificates, time.monotonic() + seconds)
    failure = "it did not keep its final state"
    looks = 0
    while server.seconds_left() > 0:
        try:
            still_open = [run for run in server.open_runs() if run["parameters"].get("run_id") == news.run_id]
            for flow_run in still_open:
                server.post(f"/flow_runs/{flow_run['id']}/set_state", {"state": {"type": state, "message": message}, "force": True})
        except (OSError, ValueError) as error:
            failure = str(error)
        else:
            looks = 0 if still_open else looks + 1
            if looks > 1:
                return None
        time.sleep(AGAIN_SECONDS)
    return failure


@dataclass(frozen=True)
class Server:
    """Prefect's API at ``api``, which has until ``end`` (of the monotonic clock) to answer everything."""

    api: str
    headers: dict[str, str]
    certificates: str | None
    end: float

    def seconds_left(self) -> float:
        """Seconds until ``end``."""
        return self.end - time.monotonic()

    def open_runs(self) -> Iterator[dict[str, Any]]:
        """The flow runs of our flow that have not ended."""
        wanted = {"flows": {"name": {"any_": [FLOW]}}, "flow_runs": {"state": {"type": {"any_": OPEN_STATES}}}, "limit": PAGE}
        offset = 0
        while True:
            page = self.post("/flow_runs/filter", wanted | {"offset": offset, "sort": "START_TIME_DESC"})
            yield from page
            if len(page) < PAGE:
                return
            offset += PAGE

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to ``body``; OSError or ValueError where there is none."""
        try:
            return self._send(path, body, {})
        except urllib.error.HTTPError as error:
            if error.code != 403:
                raise
        return self._send(path, body, self._token())

    def _token(self) -> dict[str, str]:
        """Headers for a server that protects itself against forged requests."""
        client = str(uuid.uuid4())
        token = self._send(f"/csrf-token?client={client}", None, {})
        return {"Prefect-Csrf-Token": token["token"], "Prefect-Csrf-Client": client}

    def _send(self, path: str, body: dict[str, Any] | None, more: dict[str, str]) -> Any:
        headers = {**self.headers, **more, "Content-Type": "application/json"}
        request = urllib.request.Request(self.api + path, None if body is None else json.dumps(body).encode(), headers)
        seconds = max(0.05, min(CALL_SECONDS, self.seconds_left()))
        with urllib.request.urlopen(request, timeout=seconds, context=self._trust()) as answer:
            return json.loads(answer.read())

    def _trust(self) -> ssl.SSLContext | None:
        if not self.api.startswith("https:"):
            return None
        if self.certificates is not None:
            return ssl.create_default_context(cafile=self.certificates)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
