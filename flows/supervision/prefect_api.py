"""Prefect's API, as the supervisor will have to reach it."""

from __future__ import annotations

import base64

import certifi
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from flows.supervision.left_behind import end_dead_runs
from flows.supervision.news import tell


def open_api() -> None:
    """Start Prefect's server where none is set, tell the supervisor where it is, and end the flow runs of runs that died."""
    with get_client(sync_client=True) as client:
        tell(api=str(client.api_url).rstrip("/"), headers=_headers(), certificates=_certificates())
        end_dead_runs(client)


def _headers() -> dict[str, str]:
    """What Prefect's client sends with a request, as its settings say."""
    settings = get_current_settings()
    headers = dict(settings.client.custom_headers)
    if settings.api.auth_string is not None:
        token = base64.b64encode(settings.api.auth_string.get_secret_value().encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    elif settings.api.key is not None:
        headers["Authorization"] = f"Bearer {settings.api.key.get_secret_value()}"
    return headers


def _certificates() -> str | None:
    api = get_current_settings().api
    return None if api.tls_insecure_skip_verify else api.ssl_cert_file or certifi.where()
