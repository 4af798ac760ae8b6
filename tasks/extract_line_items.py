"""The step ``extract`` as a Prefect task."""

from __future__ import annotations

from datetime import date

from prefect import task

from groupwise.pipeline.steps import EXTRACT
from tasks.policy import policy


@task(**policy(EXTRACT))
def extract(folder: str, as_of: date | None, today: date) -> str | None:
    """Describe the line items as of the date; the folder of the version that was made from the same rows, None where there is none."""
    found: str | None = EXTRACT.function(folder, as_of, today)
    return found
