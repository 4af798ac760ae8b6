"""``groupwise estimate`` as a flow run: Prefect's server is found or started, and the flow runs in this process."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Literal

from flows.left_behind import on_record
from flows.prefect_api import open_api, patience
from flows.publish_group_estimates import publish_group_estimates
from groupwise.run_folder import RunFolder


def run_as_flow(
    run: RunFolder,
    study: str,
    *,
    as_of: date | None,
    engine: Literal["bayesian", "likelihood"] | None,
    publish_to: str | None,
    settings: Sequence[str],
    force: bool,
    log: Path | None,
) -> None:
    """Run the flow for the run's folder.

    Parameters
    ----------
    log : where a server that is started here writes what it says; None: on stderr.

    Raises
    ------
    ResourceError : the server does not start, does not answer or refuses. GroupwiseError: the run is refused.
    """
    with patience():
        open_api(log)
        with on_record(run.run_id):
            publish_group_estimates(
                study, as_of=as_of, engine=engine, publish_to=publish_to, settings=list(settings), run_id=run.run_id, force=force
            )
