"""``groupwise estimate`` of several studies: one after the other, one summary, one exit code. A study that is refused stops no other."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from groupwise.commands import terminal
from groupwise.commands.ending import message_of
from groupwise.commands.estimate import run_estimate
from groupwise.commands.flow_runs import has_api
from groupwise.commands.plain_rows import check_style, write_rows
from groupwise.commands.run_log import logged_to, say_on_stderr
from groupwise.pipeline.run_start import begin
from groupwise.progress import run_progress
from groupwise.retention import at_work
from groupwise.run_folder import make_run_folder, new_run_id
from groupwise.source.time_zones import local_day
from groupwise.supervision.news import tell
from multilevel.errors import GroupwiseError, StudyError

COLUMNS = ("study", "outcome", "seconds", "message")
FOLDER = "folder"
"""The column that the summary has in JSON and CSV; beside a table, folders are printed alone."""


def run_several(
    studies: Sequence[Path],
    *,
    as_of: date | None,
    engine: str | None,
    publish_to: str | None,
    settings: Sequence[str],
    verbose: bool,
    as_flow: bool,
    force: bool,
    style: str = "table",
) -> tuple[list[str], int]:
    """Published folders of the studies that have one, in the order given, and the exit code: 1 where any was refused or failed.

    ``style``: json or csv print the summary to standard output, with the folders, and no folder alone.

    Raises
    ------
    StudyError : a file is named twice, or the style is none.
    """
    check_style(style)
    twice = next((study for study in studies if list(studies).count(study) > 1), None)
    if twice is not None:
        raise StudyError(f"{twice} is named twice; name every study once.")
    asked: dict[str, Any] = {"engine": engine, "publish_to": publish_to, "settings": list(settings), "force": force}
    is_flow = as_flow or has_api()
    if not is_flow:
        say_on_stderr(logging.INFO if verbose else logging.WARNING)
    folders: list[str] = []
    rows: list[dict[str, Any]] = []
    for place, study in enumerate(studies):
        print(f"{study} ({place + 1} of {len(studies)})", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            if is_flow:
                folder, outcome = run_estimate(str(study), as_of=as_of, verbose=verbose, as_flow=as_flow, **asked), "published"
            else:
                folder, outcome = _here(str(study), as_of, asked)
        except Exception as error:  # noqa: BLE001  told in the summary and by the exit code; the other studies are run
            kind = "refused" if isinstance(error, GroupwiseError) else "failed"
            rows.append(_row(study, kind, began, message=message_of(error).split("\n", maxsplit=1)[0]))
            print(f"groupwise: {message_of(error)}", file=sys.stderr, flush=True)
            continue
        folders.append(folder)
        rows.append(_row(study, outcome, began, folder=folder))
    code = int(len(folders) < len(studies))
    if style != "table":
        write_rows(rows, [*COLUMNS, FOLDER], style)
        return [], code
    cells = [[str(row[name]) for name in COLUMNS] for row in rows]
    terminal.text_console(sys.stderr).print(terminal.table(list(COLUMNS), cells, text=["study", "outcome", "message"]))
    return folders, code


def _row(study: Path, outcome: str, began: float, *, message: str = "", folder: str | None = None) -> dict[str, Any]:
    seconds = round(time.monotonic() - began, 1)
    return {"study": str(study), "outcome": outcome, "seconds": seconds, "message": message, FOLDER: folder}


def _here(study: str, as_of: date | None, asked: dict[str, Any]) -> tuple[str, str]:
    """The published folder, and whether this run published it."""
    from groupwise.pipeline.own_process import run_here

    run = make_run_folder(new_run_id())
    tell(step="start", run_id=run.run_id, published=None)
    with logged_to(run.log):
        folder = begin(study, **asked, run_id=run.run_id)
        with at_work(run), run_progress() as progress:
            ended = run_here(folder, as_of, local_day(datetime.now(UTC), run.study().zone), progress)
    return ended.published, "unchanged" if ended.unchanged else "published"
