"""The steps as Prefect tasks: thin wrappers, one a step, each taking the run's folder and leaving its results there.

``NO_CACHE`` throughout: a cached path says nothing about the file behind it. Only the steps that read the source are retried, and only for
a database that a writer holds; nothing else gets better by trying again.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from multilevel.errors import GroupwiseError, SourceError
from tasks.cells.compress import compress as compress_study
from tasks.extract import extract as extract_relation
from tasks.faults import as_ours, told
from tasks.fit import check as check_gates
from tasks.fit import fit as fit_run
from tasks.printable import markdown_text
from tasks.privacy import protect
from tasks.progress import fitting_progress
from tasks.release import release, summary
from tasks.rules.missing_values import level_orders
from tasks.rules.page import write_validation_page
from tasks.rules.record import record_in_child
from tasks.rules.validate import validate as validate_rows
from tasks.run_folder import RunFolder
from tasks.still_wanted import still_wanted
from tasks.study import Study
from tasks.time_limit import HOUR, time_limit

logger = logging.getLogger("groupwise")

WAITS_SECONDS = [5, 30]
AFTER_QUERIES = 60.0
"""What is left of a step that reads the source, once its queries have been interrupted."""


def _source_is_busy(task: Task[..., object], run: TaskRun, state: State[object]) -> bool:
    """Retry only what may pass by itself: a locked database."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, SourceError) and "locked" in str(error)


# a writer may come between any two of the steps that open the source
_READS_SOURCE: dict[str, Any] = {
    "retries": len(WAITS_SECONDS),
    "retry_delay_seconds": WAITS_SECONDS,
    "retry_condition_fn": _source_is_busy,
    "timeout_seconds": HOUR + AFTER_QUERIES,
}


def _in_time(study: Study) -> AbstractContextManager[None]:
    """The limit of a step's queries: a timeout of Prefect does not reach a query in DuckDB."""
    return time_limit(HOUR, study.name, "make a table of the rows in the database first")


@task(name="extract", task_run_name="extract line items", cache_policy=NO_CACHE, **_READS_SOURCE)
def extract(folder: str, as_of: date | None, today: date) -> str:
    """Describe the line items as of the date."""
    run = RunFolder(Path(folder))
    study = run.study()
    with _in_time(study):
        extract_relation(study, as_of, run.path, today=today)
    return folder


@task(name="validate", task_run_name="validate line items", cache_policy=NO_CACHE, **_READS_SOURCE)
@told("the validation page cannot be written")
def validate(folder: str) -> str:
    """Quarantine rows that break a rule; check what the study needs of the rest."""
    run = RunFolder(Path(folder))
    study = run.study()
    try:
        with _in_time(study):
            validate_rows(study, run.relation(), run.path)
    except GroupwiseError:
        # only then is there a record to show; after a full disk the page's own complaint would hide the disk's
        write_validation_page(run)
        raise
    write_validation_page(run)
    return folder


@task(name="record", task_run_name="record with Great Expectations", cache_policy=NO_CACHE, timeout_seconds=HOUR)
@told("the record cannot be written")
def record(folder: str) -> str:
    """Great Expectations on a sample, in a process of its own: its import takes seconds that pass while the model is fitted."""
    if RunFolder(Path(folder)).study().expectations is None:
        return folder
    record_in_child(folder)
    return folder


@task(name="compress", task_run_name="compress to cells", cache_policy=NO_CACHE, **_READS_SOURCE)
@told("the run's folder cannot be written")
def compress(folder: str) -> str:
    """One query from line items to cell statistics."""
    run = RunFolder(Path(folder))
    study = run.study()
    with _in_time(study):
        cells = compress_study(
            run.relation(),
            run.read_json("validation")["study_sql"],
            study.parsed_formula,
            study.family,
            run.path,
            max_cells=study.max_cells,
            orders=level_orders(study),
        )
    run.write_json("compression", {"n_cells": cells.n_cells, "n_rows": cells.n_rows, "ratio": cells.compression_ratio, "sql": cells.sql})
    return folder


@task(name="fit", task_run_name="fit the models", cache_policy=NO_CACHE, timeout_seconds=12 * HOUR)
@told("the run's folder cannot be written")
def fit(folder: str) -> str:
    """Partial pooling beside complete and no pooling; the six tables, less the groups that the study's privacy withholds."""
    run = RunFolder(Path(folder))
    with fitting_progress() as progress:
        fit_run(run, progress)
    with _in_time(run.study()):
        protect(run)
    return folder


@task(name="check", task_run_name="check the fit", cache_policy=NO_CACHE, timeout_seconds=HOUR)
def check(folder: str) -> str:
    """A failed computation gate stops the run."""
    check_gates(RunFolder(Path(folder)))
    return folder


# longer than the hour that a run waits for its turn
@task(name="publish", task_run_name="publish the tables", cache_policy=NO_CACHE, timeout_seconds=2 * HOUR)
@told("the tables cannot be published")
def publish(folder: str) -> str:
    """Report, tables, manifest, pointer; then a summary on the run's page."""
    run = RunFolder(Path(folder))
    publication = release(run, still_wanted)
    key = "groupwise-" + run.study().name.lower().replace("_", "-")
    try:
        create_markdown_artifact(summary(publication, run), key=key, description=markdown_text(run.study().title) or None)
    except Exception as error:  # the tables are published, whatever becomes of the summary
        known = as_ours(error)
        if known is None:
            raise
        logger.warning("The tables are published; their summary is missing from Prefect's page (%s).", type(error).__name__)
    return str(publication.folder)
