"""The step ``record`` as a Prefect task."""

from __future__ import annotations

from prefect import task

from groupwise.pipeline.steps import RECORD
from tasks.policy import policy


@task(**policy(RECORD))
def record(folder: str) -> str:
    """Great Expectations on a sample, in a process of its own."""
    RECORD.function(folder)
    return folder
