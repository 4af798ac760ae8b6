"""Runs that died: a record beside Prefect's files for as long as a run lives, and a final state for flow runs whose run is dead.

A record is a file with a lock of the operating system, which is free as soon as the process is gone, whatever ended it; process numbers
would be another process's after a reboot, or in another container.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import get_current_settings
from prefect.states import Crashed

from groupwise.supervision.flow_run_end import FLOW, OPEN_STATES, PAGE
from multilevel.errors import GroupwiseError

MESSAGE = "The run's process is gone: it was killed, its machine went down, or Prefect could not record how it ended."

logger = logging.getLogger("groupwise")


@contextmanager
def on_record(run_id: str) -> Iterator[None]:
    """Keep a record of the run for the length of the block; it stays for a later run where the block is interrupted or Prefect fails."""
    record = _records() / f"{run_id}.lock"
    with ExitStack() as held:
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(record))
        except OSError as error:
            logger.warning("%s cannot be written (%s): if this run is killed, its flow run stays Running.", record, error)
        try:
            yield
        except GroupwiseError:  # Prefect has ended the flow run as failed; after another error it may not have been able to
            record.unlink(missing_ok=True)
            raise
        record.unlink(missing_ok=True)


def end_dead_runs(client: SyncPrefectClient) -> int:
    """Mark as Crashed what runs on this machine left open when they were killed; answers how many flow runs."""
    with ExitStack() as held:
        dead = [record for record in sorted(_records().glob("*.lock")) if _take(held, record)]
        if not dead:
            return 0
        names = {record.stem for record in dead}
        left = [flow_run for flow_run in _open_runs(client) if flow_run.parameters.get("run_id") in names]
        for flow_run in left:
            client.set_flow_run_state(flow_run.id, Crashed(message=MESSAGE), force=True)
        for record in dead:
            record.unlink(missing_ok=True)
        return len(left)


def _records() -> Path:
    """The folder of the records of runs that Prefect's API in use knows."""
    settings = get_current_settings()
    # every server that a command starts for itself keeps its runs in the same database, at another address
    api = settings.api.url or "own-server"
    return Path(settings.home) / "groupwise" / quote(api, safe="")


def _take(held: ExitStack, record: Path) -> bool:
    """Whether nobody holds the record; it is then ours until the block ends."""
    try:
        held.enter_context(FileLock(record, timeout=0))
    except (Timeout, OSError):  # the run is alive, or its record is another user's
        return False
    return True


def _open_runs(client: SyncPrefectClient) -> list[FlowRun]:
    found: list[FlowRun] = []
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType(name) for name in OPEN_STATES]))
    while True:
        page = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            flow_run_filter=FlowRunFilter(state=states),
            limit=PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < PAGE:
            return found
