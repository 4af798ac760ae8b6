"""The step ``check`` as a Prefect task."""

from __future__ import annotations

from prefect import task

from groupwise.pipeline.steps import CHECK
from tasks.policy import policy


@task(**policy(CHECK))
def check(folder: str) -> str:
    """A failed computation gate stops the run."""
    CHECK.function(folder)
    return folder
