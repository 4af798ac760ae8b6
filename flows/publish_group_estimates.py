"""Publish group estimates: from line items to published tables, one study a run."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, cast

from prefect import flow
from prefect.futures import wait
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.supervision.news import tell
from flows.supervision.worker_run import end_in_time
from tasks import steps
from tasks.begin import begin
from tasks.run_folder import RUN_ID

# one place for the record beside the fit; an unbounded pool would start a thread for every task
_RUNNER = cast(Any, ThreadPoolTaskRunner(max_workers=2))


def _run_name() -> str:
    parameters = flow_run.parameters
    as_of = parameters.get("as_of")
    return f"{parameters.get('study', 'study')}" + (f" as of {as_of}" if as_of else "")


@flow(name="publish-group-estimates", flow_run_name=_run_name, task_runner=_RUNNER)
def publish_group_estimates(
    study: Annotated[str, Field(description="path of the study's YAML file")],
    as_of: Annotated[date | None, Field(description="the day the estimates speak for; null: what the study says")] = None,
    engine: Annotated[Literal["bayesian", "likelihood"] | None, Field(description="overrides the study's engine")] = None,
    publish_to: Annotated[str | None, Field(description="overrides the study's publish_to")] = None,
    settings: Annotated[list[str] | None, Field(description="further overrides, each FIELD=VALUE")] = None,
    run_id: Annotated[str | None, Field(description="names the run; null: made from time", pattern=RUN_ID)] = None,
) -> str:
    """Extract, validate, compress, fit, check, publish; returns the published folder, ``.../rev=<run_id>``."""
    end_in_time()
    folder = begin(study, engine=engine, publish_to=publish_to, settings=settings or [], run_id=run_id)
    today = flow_run.scheduled_start_time.date()
    tell(step="extract")
    steps.extract(folder, as_of, today)
    tell(step="validate")
    steps.validate(folder)
    recorded = steps.record.submit(folder)
    try:
        tell(step="compress")
        steps.compress(folder)
        tell(step="fit")
        steps.fit(folder)
        tell(step="check")
        steps.check(folder)
    finally:
        wait([recorded])
    recorded.result()
    tell(step="publish")
    published = steps.publish(folder)
    tell(published=published)
    return published
