"""The step ``condense`` as a Prefect task, mapped over jobs."""

from __future__ import annotations

from prefect import task

from groupwise.pipeline.steps import CONDENSE
from groupwise.statistics.job import Statistics
from tasks.policy import policy


@task(**policy(CONDENSE))
def condense(job: str) -> Statistics:
    """Reduce the line items of some partitions to cells."""
    found: Statistics = CONDENSE.function(job)
    return found
