"""``groupwise statistics``: what is kept of a study's partitions and what is stale; ``--rebuild`` makes all of it anew."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime
from pathlib import Path

from groupwise.commands.plain_rows import check_style, write_rows
from groupwise.commands.run_log import say_on_stderr
from groupwise.commands.working_folder import working_folder
from groupwise.pipeline.fill import fill
from groupwise.run_folder import RunFolder
from groupwise.source.time_limit import MORE_TIME, time_limit
from groupwise.statistics.keep import keep_of
from groupwise.statistics.partition_states import PartitionState, partition_states
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from multilevel.errors import StudyError

COLUMNS = ("partition", "line_items", "state", "kept_at", "kilobytes")


def show_partitions(study_file: str, *, as_of: date | None, rebuild: bool, style: str, seconds: float) -> None:
    """Print a row for every partition of the window, and of what is kept besides.

    Raises
    ------
    StudyError : the study keeps no statistics. GroupwiseError : as a run that reads the source.
    """
    check_style(style)
    study = load_study(study_file)
    if study.statistics is None:
        raise StudyError(f"{study.name}: no statistics are kept; write statistics: {{partition: month, keep: FOLDER}} into the study.")
    say_on_stderr(logging.WARNING)
    today = datetime.now(UTC).date()
    with time_limit(seconds, study.name, MORE_TIME):
        if rebuild:
            keep = keep_of(study)
            keep.remove(keep.folders())
            with working_folder("statistics") as folder:
                fill(_run(study, folder), as_of, today)
        with working_folder("statistics") as folder:
            states, whole = partition_states(_run(study, folder), as_of, today)
    if whole:
        raise StudyError(f"{study.name}: its line items are read whole, and no statistics are kept: {'; '.join(whole)}.")
    write_rows([_row(state) for state in states], COLUMNS, style, text=("partition", "state", "kept_at"))


def _run(study: Study, folder: Path) -> RunFolder:
    run = RunFolder(folder)
    run.write_study(study, "")
    return run


def _row(state: PartitionState) -> dict[str, object]:
    return {
        "partition": state.partition,
        "line_items": state.line_items,
        "state": state.state,
        "kept_at": None if state.kept_at is None else state.kept_at.isoformat(timespec="seconds"),
        "kilobytes": None if state.n_bytes is None else round(state.n_bytes / 1000),
    }
