"""Whether a flow run is still the server's: asked just before its version counts, because a run that was given up may live on.

An automation, a person or a network split may have marked the run Crashed or Cancelled while its process goes on. What the server says is
the truth; where it cannot be asked, nobody knows, and the run may not move the pointer (docs/decisions/0002).
"""

from __future__ import annotations

import logging
import time
from uuid import UUID

from multilevel.errors import PublishError

logger = logging.getLogger("groupwise")

WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
ANSWER_SECONDS = 10.0


def still_wanted() -> str | None:
    """None where the server says that this flow run is running, or where there is no flow run; why it cannot be told otherwise.

    Raises
    ------
    PublishError : the run has ended, is being cancelled or was deleted: nobody waits for what it has to publish.
    """
    from prefect.runtime import flow_run

    if flow_run.id is None:
        return None
    error: Exception | None = None
    for wait in (0.0, *WAITS_SECONDS):
        time.sleep(wait)
        try:
            state = _state_of(UUID(str(flow_run.id)))
        except ConnectionError as refused:
            if error is None:
                logger.warning("The Prefect server does not say whether this run is still wanted (%s); asking again.", refused)
            error = refused
        else:
            if state is None:
                return None
            raise PublishError(f"Flow run {flow_run.name} is no longer running: the server says {state}. Nothing was published.")
    return (
        f"The Prefect server could not be asked whether this run is still wanted ({len(WAITS_SECONDS) + 1} attempts in "
        f"{sum(WAITS_SECONDS):g} s or more; {error}). See that it answers, and that its folder (PREFECT_HOME) has room and is not locked "
        "by another program."
    )


def _state_of(run_id: UUID) -> str | None:
    """None while the run is running, otherwise its state in words; ConnectionError where the server does not answer."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        # we ask again ourselves: the client's own attempts, inside each of ours, would take a quarter of an hour
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": ANSWER_SECONDS}) as client,
        ):
            state = client.read_flow_run(run_id).state
    except ObjectNotFound:
        return "that it was deleted"
    except (httpx.HTTPError, RuntimeError, OSError) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    if state is None or state.type is StateType.RUNNING:
        return None
    return f"{state.name or state.type.value}" + (f" ({state.message})" if state.message else "")
