"""The steps of a run, each once: what it does, with its retries and its time limit. ``order.py`` has their order.

Only the steps that read the source are retried, and only for a database that a writer holds; nothing else gets better by trying again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from groupwise.faults import told
from groupwise.pipeline.line_items import cells_of
from groupwise.pipeline.model_fit import check as check_gates
from groupwise.pipeline.model_fit import fit as fit_run
from groupwise.pipeline.release import release
from groupwise.pipeline.step import Step
from groupwise.pipeline.unchanged import same_by_files, same_by_rows
from groupwise.publishing.publication import Confirm, Publication, nobody_asks
from groupwise.redaction import protect
from groupwise.run_folder import RunFolder
from groupwise.source.relation import connect
from groupwise.source.time_limit import HOUR, TABLE_FIRST, close, time_limit
from groupwise.statistics.gather import GatheredCounts, gathered, merge_gathered
from groupwise.statistics.gather import describe as describe_relation
from groupwise.statistics.job import Job, Statistics, job_from
from groupwise.statistics.one_scan import scanned_cells
from groupwise.statistics.partition_cells import condense as condense_partitions
from groupwise.statistics.partition_facts import count as count_partitions
from groupwise.study.study import Study
from groupwise.validation.expectation_record import record_in_child
from groupwise.validation.validate import validate as validate_rows
from groupwise.validation.validation_page import write_validation_page
from groupwise.validation.window_counts import noted_counts
from multilevel.errors import GroupwiseError, SourceError

type StepProgress = Callable[[str, float], None]

WAITS_SECONDS = (5.0, 30.0)
AFTER_QUERIES = 60.0
"""What is left of a step that reads the source, once its queries have been interrupted."""


def source_is_busy(error: BaseException) -> bool:
    """Whether a writer holds the source, which may pass by itself."""
    return isinstance(error, SourceError) and "locked" in str(error)


# a writer may come between any two of the steps that open the source
_reading = partial(Step, seconds=HOUR + AFTER_QUERIES, waits=WAITS_SECONDS, may_pass=source_is_busy)


def _in_time(study: Study) -> AbstractContextManager[None]:
    """The limit of a step's queries: no other limit reaches a query inside DuckDB."""
    return time_limit(HOUR, study.name, TABLE_FIRST)


@told("the run's folder cannot be written")
def look(folder: str, as_of: date | None, today: date) -> str | None:
    """The folder of the version that was made from the same inputs, by files that are as they were; None where there is none."""
    return same_by_files(RunFolder(Path(folder)), as_of, today)


def extract(folder: str, as_of: date | None, today: date) -> str | None:
    """Describe the line items as of the date; the folder of the version that was made from the same rows, None where there is none."""
    run = RunFolder(Path(folder))
    study = run.study()
    with _in_time(study):
        describe_relation(run, as_of, today)
    return same_by_rows(run)


def count(job: str) -> Statistics:
    """Count the line items of some partitions; ``job`` : of ``Job.to_json``."""
    return _answered(job, lambda own, connection, folder: count_partitions(own, connection))


def condense(job: str) -> Statistics:
    """Reduce the line items of some partitions to cells; ``job`` : of ``Job.to_json``."""
    return _answered(job, condense_partitions)


def _answered(text: str, answer: Callable[[Job, duckdb.DuckDBPyConnection, Path], Statistics]) -> Statistics:
    job = job_from(text)
    with _in_time(job.study), TemporaryDirectory(prefix="groupwise-job-") as folder:
        connection = connect(job.relation, Path(folder))
        try:
            return answer(job, connection, Path(folder))
        finally:
            close(connection)


@told("the validation page cannot be written")
def validate(folder: str) -> None:
    """Quarantine rows that break a rule; check what the study needs of the rest."""
    run = RunFolder(Path(folder))
    study = run.study()
    try:
        with _in_time(study):
            found = gathered(run)
            counted = noted_counts(run.path) if found is None else GatheredCounts(found)
            validate_rows(study, run.relation(), run.path, counted=counted)
    except GroupwiseError:
        # only then is there a record to show; after a full disk the page's own complaint would hide the disk's
        write_validation_page(run)
        raise
    write_validation_page(run)


@told("the record cannot be written")
def record(folder: str) -> None:
    """Great Expectations on a sample, in a process of its own: its import takes seconds that pass while the model is fitted."""
    if RunFolder(Path(folder)).study().has_rules:
        record_in_child(folder, HOUR)


@told("the run's folder cannot be written")
def compress(folder: str) -> None:
    """One query from line items to cell statistics."""
    run = RunFolder(Path(folder))
    study = run.study()
    with _in_time(study):
        study_sql = run.read_json("validation")["study_sql"]
        noted = noted_counts(run.path)
        known = None if noted is None else noted.values()
        cells = merge_gathered(run, study_sql)
        if cells is None:
            cells = cells_of(study, run.relation(), study_sql, run.path, with_units=True, known=known, scanned=scanned_cells(run.path))
    run.write_json("compression", {"n_cells": cells.n_cells, "n_rows": cells.n_rows, "ratio": cells.compression_ratio, "sql": cells.sql})


@told("the run's folder cannot be written")
def fit(folder: str, progress: StepProgress | None = None) -> None:
    """Partial pooling beside complete and no pooling; the tables, less the groups that the study's privacy suppresses."""
    run = RunFolder(Path(folder))
    fit_run(run, progress)
    with _in_time(run.study()):
        protect(run)


def check(folder: str) -> None:
    """A failed computation gate stops the run."""
    check_gates(RunFolder(Path(folder)))


@told("the tables cannot be published")
def publish(folder: str, confirm: Confirm = nobody_asks) -> Publication:
    """Report, tables, manifest, pointer. ``confirm`` is asked just before the version counts whether the run is still wanted."""
    return release(RunFolder(Path(folder)), confirm)


LOOK = Step("look", "look for a version of the same inputs", look)
EXTRACT = _reading("extract", "extract line items", extract)
COUNT = _reading("count", "count partitions", count)
CONDENSE = _reading("condense", "compress partitions", condense)
VALIDATE = _reading("validate", "validate line items", validate)
RECORD = Step("record", "record with Great Expectations", record, seconds=HOUR + AFTER_QUERIES)
COMPRESS = _reading("compress", "compress to cells", compress)
FIT = Step("fit", "fit the models", fit, seconds=12 * HOUR)
CHECK = Step("check", "check the fit", check)
# longer than the hour that a run waits for the lock of its study
PUBLISH = Step("publish", "publish the tables", publish, seconds=2 * HOUR)
