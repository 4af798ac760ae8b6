"""A step's retries and time limit in Prefect's terms.

``NO_CACHE`` throughout: a cached path says nothing about the file behind it.
"""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from groupwise.pipeline.step import Step


def policy(step: Step) -> dict[str, Any]:
    """The arguments of ``prefect.task`` for a step."""
    options: dict[str, Any] = {
        "name": step.name,
        "task_run_name": step.title,
        "cache_policy": NO_CACHE,
        "timeout_seconds": step.seconds,
    }
    if not step.waits:
        return options

    def may_pass(task: Task[..., object], run: TaskRun, state: State[object]) -> bool:
        error = state.result(raise_on_failure=False)
        return isinstance(error, BaseException) and step.may_pass(error)

    return options | {"retries": len(step.waits), "retry_delay_seconds": list(step.waits), "retry_condition_fn": may_pass}
