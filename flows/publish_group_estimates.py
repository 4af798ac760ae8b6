"""Publish group estimates: from line items to published tables, one study a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task
from pydantic import Field

from flows.worker_run import end_in_time
from groupwise.pipeline.cluster import cluster_threads, scheduler_of
from groupwise.pipeline.order import run_steps
from groupwise.pipeline.run_start import begin
from groupwise.pipeline.step import Step
from groupwise.retention import at_work
from groupwise.run_folder import RUN_ID, RunFolder
from groupwise.source.time_zones import local_day
from groupwise.study.study import Study
from tasks.check_fit import check
from tasks.compress_to_cells import compress
from tasks.condense_partitions import condense
from tasks.count_partitions import count
from tasks.extract_line_items import extract
from tasks.fit_models import fit
from tasks.look_for_the_same import look
from tasks.publish_tables import publish
from tasks.record_expectations import record
from tasks.validate_line_items import validate

_ALL = (look, extract, count, validate, record, condense, compress, fit, check, publish)
TASKS: dict[str, Task[..., Any]] = {task.name: task for task in _ALL}
"""By the name of their step."""

# one place for the record beside the fit; an unbounded pool would start a thread for every task
_RUNNER = cast(Any, ThreadPoolTaskRunner(max_workers=2))


@dataclass(frozen=True)
class _Pending:
    future: PrefectFuture[Any]

    def wait(self) -> None:
        self.future.wait()

    def result(self) -> Any:
        return self.future.result()


class _AsTasks:
    """Calls steps as Prefect tasks."""

    def call(self, step: Step, *arguments: Any) -> Any:
        return TASKS[step.name](*arguments)

    def start(self, step: Step, *arguments: Any) -> _Pending:
        return _Pending(TASKS[step.name].submit(*arguments))

    def workers(self, study: Study) -> int:
        address = scheduler_of(study)
        return 1 if address is None else cluster_threads(address)

    def map(self, study: Study, step: Step, arguments: Sequence[str]) -> list[Any]:
        address = scheduler_of(study)
        if address is None:
            return mapped(step.name, list(arguments))
        # loaded only where a study names a cluster
        from prefect_dask import DaskTaskRunner

        runner = cast(Any, DaskTaskRunner(address=address))
        found: list[Any] = gather_partitions.with_options(task_runner=runner)(step.name, list(arguments))
        return found


def mapped(name: str, jobs: Sequence[str]) -> list[Any]:
    """A task's result for every job, on the runner of the flow that calls."""
    futures = TASKS[name].map(list(jobs))
    futures.wait()
    # a mapped task that failed fails nothing by itself: every state is looked at
    return [future.state.result() for future in futures]


@flow(name="gather-partitions")
def gather_partitions(
    step: Annotated[str, Field(description="count or condense")],
    jobs: Annotated[list[str], Field(description="partitions of a study's line items, each a text of groupwise.statistics.job")],
) -> list[Any]:
    """A mapped task on the workers of a cluster."""
    return mapped(step, jobs)


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
    force: Annotated[bool, Field(description="run and publish although nothing has changed since the published version")] = False,
) -> str | State[str]:
    """Extract, validate, compress, fit, check, publish; returns the published folder, ``.../rev=<run_id>``.

    Where a version was made from the same inputs, the run ends after extract in the state ``Unchanged`` (Completed), with its folder.
    """
    end_in_time()
    folder = begin(study, engine=engine, publish_to=publish_to, settings=settings or [], run_id=run_id, force=force)
    run = RunFolder(Path(folder))
    with at_work(run):
        ended = run_steps(_AsTasks(), folder, as_of, local_day(flow_run.scheduled_start_time, run.study().zone))
    if ended.unchanged:
        return Completed(name="Unchanged", message=f"Published already: {ended.published}", data=ended.published)
    return ended.published
