"""The step ``publish`` as a Prefect task: the server is asked whether the run is still wanted, and gets a summary for the run's page."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact

from groupwise.faults import as_ours
from groupwise.pipeline.release import summary
from groupwise.pipeline.steps import PUBLISH
from groupwise.printable import markdown_text
from groupwise.run_folder import RunFolder
from tasks.policy import policy
from tasks.still_wanted import still_wanted

logger = logging.getLogger("groupwise")


@task(**policy(PUBLISH))
def publish(folder: str) -> str:
    """Report, tables, manifest, pointer; then a summary on the run's page. Returns the published folder."""
    publication = PUBLISH.function(folder, still_wanted)
    run = RunFolder(Path(folder))
    key = "groupwise-" + run.study().name.lower().replace("_", "-")
    try:
        create_markdown_artifact(summary(publication, run), key=key, description=markdown_text(run.study().title) or None)
    except Exception as error:  # the tables are published, whatever becomes of the summary
        known = as_ours(error)
        if known is None:
            raise
        logger.warning("The tables are published; their summary is missing from Prefect's page (%s).", type(error).__name__)
    return str(publication.folder)
