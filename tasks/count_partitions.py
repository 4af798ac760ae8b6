"""The step ``count`` as a Prefect task, mapped over jobs."""

from __future__ import annotations

from prefect import task

from groupwise.pipeline.steps import COUNT
from groupwise.statistics.job import Statistics
from tasks.policy import policy


@task(**policy(COUNT))
def count(job: str) -> Statistics:
    """Count the line items of some partitions."""
    found: Statistics = COUNT.function(job)
    return found
