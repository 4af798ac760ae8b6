"""The step ``fit`` as a Prefect task, with a progress bar where there is a terminal."""

from __future__ import annotations

from prefect import task

from groupwise.pipeline.steps import FIT
from groupwise.progress import fitting_progress
from tasks.policy import policy


@task(**policy(FIT))
def fit(folder: str) -> str:
    """Partial pooling beside complete and no pooling; the tables, less the groups that the study's privacy suppresses."""
    with fitting_progress() as progress:
        FIT.function(folder, progress)
    return folder
