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
from typing import Any, Literal

from flows.supervision.news import News

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
    end = time.monotonic() + seconds
    failure = "it did not keep its final state"
    looks = 0
    while time.monotonic() < end:
        try:
            still_open = list(_open_runs(news))
            for flow_run in still_open:
                body = {"state": {"type": state, "message": message}, "force": True}
                _call(news, f"/flow_runs/{flow_run['id']}/set_state", body)
        except (OSError, ValueError) as error:
            failure = str(error)
        else:
            looks = 0 if still_open else looks + 1
            if looks > 1:
                return None
        time.sleep(AGAIN_SECONDS)
    return failure


def _open_runs(news: News) -> Iterator[dict[str, Any]]:
    """The flow runs of the run that have not ended; one, where there is one."""
    for page in range(100):
        found = _call(
            news,
            "/flow_runs/filter",
            {
                "flows": {"name": {"any_": [FLOW]}},
                "flow_runs": {"state": {"type": {"any_": OPEN_STATES}}},
                "sort": "START_TIME_DESC",
                "limit": PAGE,
                "offset": page * PAGE,
            },
        )
        yield from (flow_run for flow_run in found if flow_run["parameters"].get("run_id") == news.run_id)
        if len(found) < PAGE:
            return


def _call(news: News, path: str, body: dict[str, Any]) -> Any:
    try:
        return _post(news, path, body, {})
    except urllib.error.HTTPError as error:
        if error.code != 403:
            raise
    return _post(news, path, body, _token(news))


def _token(news: News) -> dict[str, str]:
    """Headers for a server that protects itself against forged requests."""
    client = str(uuid.uuid4())
    token = _send(news, urllib.request.Request(f"{news.api}/csrf-token?client={client}", headers=news.headers))
    return {"Prefect-Csrf-Token": token["token"], "Prefect-Csrf-Client": client}


def _post(news: News, path: str, body: dict[str, Any], more: dict[str, str]) -> Any:
    headers = {**news.headers, **more, "Content-Type": "application/json"}
    return _send(news, urllib.request.Request(f"{news.api}{path}", json.dumps(body).encode(), headers))


def _send(news: News, request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=CALL_SECONDS, context=_trust(news)) as answer:
        return json.loads(answer.read())


def _trust(news: News) -> ssl.SSLContext | None:
    if news.api is None or not news.api.startswith("https:"):
        return None
    if news.certificates is not None:
        return ssl.create_default_context(cafile=news.certificates)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
