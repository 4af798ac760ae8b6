"""Unchanged: a version that was made from the same inputs ends a run before it spends anything."""

from __future__ import annotations

import logging
from datetime import date
from typing import Literal

from groupwise.pipeline.inputs import files_key, rows_key
from groupwise.publishing.target import Target, open_target
from groupwise.publishing.version import Version
from groupwise.run_folder import RunFolder
from groupwise.study.study import Study
from multilevel.errors import GroupwiseError, PublishError

logger = logging.getLogger("groupwise.run")

type Standing = Literal["unchanged", "changed", "missing"]

FILES, ROWS = "files_key", "rows_key"
"""Names of the two keys in a run's ``inputs.json`` and in the manifest's ``inputs``."""


def same_by_files(run: RunFolder, as_of: date | None, today: date) -> str | None:
    """The folder of the version that was made from files which are as they were, checksums held; None where there is none.

    Nothing of the source is opened. A study that cannot be read is left to the steps that say why.
    """
    study = run.study()
    try:
        key = files_key(study, as_of, today)
    except GroupwiseError:
        return None
    run.write_json("inputs", {FILES: key})
    wanted = as_of if as_of is not None else study.as_of
    day = str(wanted) if isinstance(wanted, date) and study.window is not None else None
    return _published(run, FILES, key, day)


def same_by_rows(run: RunFolder) -> str | None:
    """The folder of the version that was made from the same rows, whatever became of their files; None where there is none."""
    study, relation = run.study(), run.relation()
    key = rows_key(study, relation, run.path)
    run.write_json("inputs", {**run.read_json("inputs"), ROWS: key})
    return _published(run, ROWS, key, None if study.window is None else str(relation.as_of))


def standing(study: Study, target: Target, day: date, today: date) -> Standing:
    """What is published of a day: a version of the same files, of others, or none. Its checksums are not looked at.

    Raises
    ------
    PublishError, SourceError, StudyError : the place to publish, a query, a suite or a file cannot be read.
    """
    version = _candidate(target, str(day))
    if version is None or version.as_of != str(day):
        return "missing"
    same = target.manifest(version).get("inputs", {}).get(FILES) == files_key(study, day, today)
    return "unchanged" if same else "changed"


def _published(run: RunFolder, name: str, key: str, day: str | None) -> str | None:
    if run.read_json("start").get("force"):
        return None
    study = run.study()
    target = open_target(study.publish_to, study.name)
    try:
        version = _candidate(target, day)
        if version is None or target.manifest(version).get("inputs", {}).get(name) != key:
            return None
        target.verify(version)
    except PublishError as error:
        logger.warning("%s\nThe run goes on as if nothing were published.", error)
        return None
    logger.warning(
        "%s: Unchanged. Run %s published it as of %s from the same study, queries, rules, line items and code; --force runs it again.",
        study.name,
        version.run_id,
        version.as_of,
    )
    return str(version.folder)


def _candidate(target: Target, day: str | None) -> Version | None:
    """The version that would stand where this run's would: the latest one; of an earlier day, which never becomes that, the day's last."""
    latest = target.latest()
    if latest is None or day is None or day >= latest.as_of:
        return latest
    return next((version for version in target.versions() if version.as_of == day), None)
