"""Prefect's API, as the supervisor will have to reach it."""

from __future__ import annotations

import base64
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import certifi
import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from flows.left_behind import end_dead_runs
from groupwise.faults import told
from groupwise.run_folder import check_room
from groupwise.supervision.news import tell
from multilevel.errors import ResourceError
from multilevel.text import shorten

HOME_BYTES = 5_000_000
"""What the database of Prefect's server and its journal take after a first run."""

LOCK_SECONDS = 15.0
"""How long another process may hold the database before a run begins; runs hold it for parts of a second."""
DATABASE_ADVICE = {
    "SQLITE_BUSY": f"another process has held it for {LOCK_SECONDS:g} seconds: end that process or wait for it",
    "SQLITE_READONLY": "let this user write to it",
    "SQLITE_FULL": "free some room on that disk",
}
"""By SQLite's name of the error."""
OWN_SERVER = {PREFECT_API_REQUEST_TIMEOUT: 20.0, PREFECT_CLIENT_MAX_RETRIES: 2}
"""A server that was started for this run is not restarted by anybody, so that long waits for it are in vain."""

ANSWER_SECONDS = 10.0
"""How long a server may take to answer the first request."""

KEYS = "set PREFECT_API_KEY or PREFECT_API_AUTH_STRING to what it asks for"
ADVICE = {401: KEYS, 403: KEYS, 404: "the address of Prefect's API mostly ends in /api"}


def patience() -> AbstractContextManager[object]:
    """How long calls of Prefect's API wait within the block: less than by default for a server of this run, where the user says nothing."""
    is_own = get_current_settings().api.url is None
    return temporary_settings({key: value for key, value in OWN_SERVER.items() if is_own and key.value() == key.default()})


def configured_api() -> str | None:
    """The address of the server that Prefect is configured to use; None where there is none."""
    return get_current_settings().api.url


def open_api(log: Path | None) -> None:
    """Start Prefect's server where none is set, tell the supervisor where it is, and end the flow runs of runs that died.

    Parameters
    ----------
    log : where a server that is started here writes what it says; None: on stderr.

    Raises
    ------
    ResourceError : the server does not start, does not answer or refuses; or its folder cannot be used.
    """
    address = configured_api()
    client = _own_server(log) if address is None else _server(address)
    with _refusals(str(client.api_url)), client:
        _require_answer()
        tell(api=str(client.api_url).rstrip("/"), headers=_headers(), certificates=_certificates())
        end_dead_runs(client)


def _server(address: str) -> SyncPrefectClient:
    """Prefect's client for a server that runs; only the address has been looked at."""
    if httpx.URL(address).scheme not in ("http", "https"):
        raise ResourceError(f"PREFECT_API_URL {shorten(address)}: write the server's address, such as http://127.0.0.1:4200/api.")
    return get_client(sync_client=True)


def _require_answer() -> None:
    """Raise unless the server answers within ``ANSWER_SECONDS``: a run that it could not record is refused, never moved elsewhere."""
    once = {PREFECT_CLIENT_MAX_RETRIES: 0}
    # connecting may take half of the time, and the answer the other half
    with temporary_settings(once), get_client(sync_client=True, httpx_settings={"timeout": ANSWER_SECONDS / 2}) as client:
        client.raise_for_api_version_mismatch()


def _own_server(log: Path | None) -> SyncPrefectClient:
    """Prefect's client for a server that is started for this run."""
    settings = get_current_settings()
    _check_home(Path(settings.home))
    try:
        with _stderr_into(log):
            return get_client(sync_client=True)
    except RuntimeError as error:
        seconds = settings.server.ephemeral.startup_timeout_seconds
        raise ResourceError(
            f"Prefect's own server did not start within {seconds} seconds ({_first_line(error)}). On a slow or busy machine set "
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS to more, or start one server for all runs (`prefect server start`) and set "
            "PREFECT_API_URL to its address." + ("" if log is None else f" What it said is in {log}")
        ) from error


def _check_home(home: Path) -> None:
    """Find out before the wait whether the server can keep its database: Prefect starts it again and again where it cannot."""
    with told(f"Prefect's folder {home} (PREFECT_HOME) cannot be used"):
        check_room(home, HOME_BYTES)
    database = home / "prefect.db"
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
            # readers see nothing of a lock or a read-only file that stops every writer
            connection.execute("begin immediate")
            connection.execute("rollback")
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        advice = next((words for begin, words in DATABASE_ADVICE.items() if name.startswith(begin)), "move it away: a new one is made")
        raise ResourceError(
            f"Prefect's folder {home} (PREFECT_HOME) cannot be used: {database}: {_first_line(error)}; {advice}, or set PREFECT_HOME to "
            "another folder."
        ) from error


@contextmanager
def _stderr_into(log: Path | None) -> Iterator[None]:
    """Let processes that are started in the block write on ``log`` instead of the terminal."""
    if log is None:
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    except KeyboardInterrupt:  # the supervisor has the word
        raise
    except BaseException:
        os.dup2(terminal, 2)
        raise
    os.dup2(terminal, 2)
    os.close(terminal)


@contextmanager
def _refusals(address: str) -> Iterator[None]:
    """Tell what a server that runs can refuse as an error of ours."""
    try:
        yield
    except (httpx.HTTPError, RuntimeError, ValueError) as error:
        # Prefect's "Failed to reach" hides what was answered
        cause = error.__cause__ or error
        at = f"The Prefect server at {shorten(address)} (PREFECT_API_URL)"
        if isinstance(cause, PrefectHTTPStatusError):
            status = cause.response.status_code
            advice = ADVICE.get(status, "see the server's log")
            raise ResourceError(f"{at} answers with HTTP status {status}: {advice}.") from error
        raise ResourceError(
            f"{at} cannot be used ({_first_line(cause)}). Start it (`prefect server start`), set PREFECT_API_URL to its address, or unset "
            "it: the run then needs no server."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shorten(lines[0], 300).rstrip(".") if lines else type(error).__name__


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
