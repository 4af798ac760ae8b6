"""The step ``look`` as a Prefect task."""

from __future__ import annotations

from datetime import date

from prefect import task

from groupwise.pipeline.steps import LOOK
from tasks.policy import policy


@task(**policy(LOOK))
def look(folder: str, as_of: date | None, today: date) -> str | None:
    """The folder of the version that was made from the same inputs, by files that are as they were; None where there is none."""
    found: str | None = LOOK.function(folder, as_of, today)
    return found
