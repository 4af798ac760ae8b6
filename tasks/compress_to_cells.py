"""The step ``compress`` as a Prefect task."""

from __future__ import annotations

from prefect import task

from groupwise.pipeline.steps import COMPRESS
from tasks.policy import policy


@task(**policy(COMPRESS))
def compress(folder: str) -> str:
    """One query from line items to cell statistics."""
    COMPRESS.function(folder)
    return folder
