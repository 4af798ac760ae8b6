"""The step ``validate`` as a Prefect task."""

from __future__ import annotations

from prefect import task

from groupwise.pipeline.steps import VALIDATE
from tasks.policy import policy


@task(**policy(VALIDATE))
def validate(folder: str) -> str:
    """Quarantine rows that break a rule; check what the study needs of the rest."""
    VALIDATE.function(folder)
    return folder
