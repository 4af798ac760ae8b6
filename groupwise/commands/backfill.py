"""``groupwise backfill``: estimates of many days, oldest first, in one process; days published from the same inputs are skipped."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

from groupwise.commands.run_log import logged_to, say_on_stderr
from groupwise.commands.working_folder import working_folder
from groupwise.pipeline.backfill_dates import backfill_dates
from groupwise.pipeline.model_fit import NEAR, VARIANCES
from groupwise.pipeline.run_start import begin, overrides_of
from groupwise.pipeline.unchanged import Standing, standing
from groupwise.progress import run_progress
from groupwise.publishing.target import open_target
from groupwise.retention import at_work
from groupwise.run_folder import RunFolder, make_run_folder, new_run_id
from groupwise.source.time_zones import local_day
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from groupwise.supervision.news import tell
from multilevel.errors import DataError, GroupwiseError, StudyError

logger = logging.getLogger("groupwise.run")

WORDS: dict[Standing, str] = {
    "unchanged": "is published from the same files, would be skipped",
    "changed": "is published from other files, would run again unless its rows are the same",
    "missing": "would run",
}


def run_backfill(
    study_file: str,
    first: date,
    last: date,
    every: str,
    *,
    publish_to: str | None,
    settings: Sequence[str],
    force: bool,
    dry_run: bool,
) -> Iterator[str]:
    """A line for every day once it is done: its published folder, or, in a dry run, what would be done.

    Raises
    ------
    GroupwiseError : a day's run is refused; the message names the day. The days before it are published.
    """
    study = load_study(study_file, overrides_of(engine=None, publish_to=publish_to, settings=settings))
    days = backfill_dates(first, last, every)
    if study.window is None:
        raise StudyError(f"{study.name}: without a window every day has the same estimates; give the study one: window: {{column, days}}.")
    today = local_day(datetime.now(UTC), study.zone)
    if dry_run:
        target = open_target(study.publish_to, study.name)
        for day in days:
            yield f"{day} {WORDS['missing' if force else standing(study, target, day, today)]}"
        return
    from groupwise.pipeline.own_process import run_here

    say_on_stderr(logging.WARNING)
    if study.statistics is not None:
        _read_once(study, days, today)
    near: dict[str, object] = {}
    for place, day in enumerate(days):
        print(f"as of {day} ({place + 1} of {len(days)})", file=sys.stderr, flush=True)
        run = make_run_folder(new_run_id())
        tell(step="start", run_id=run.run_id, published=None)
        with logged_to(run.log):
            try:
                folder = begin(study_file, engine=None, publish_to=publish_to, settings=settings, run_id=run.run_id, force=force)
                # variances change little from day to day, so the previous day's are the best starting point
                run.write_json(NEAR, near)
                with at_work(run), run_progress() as progress:
                    ended = run_here(folder, day, today, progress)
                    near = run.read_json(VARIANCES) or near
            except GroupwiseError as error:
                raise type(error)(f"as of {day} ({place + 1} of {len(days)}): {error}\nThe same command goes on with this day.") from error
        yield ended.published


def _read_once(study: Study, days: Sequence[date], today: date) -> None:
    """Make the statistics of the partitions of all days in one pass over the line items, so that a day reads the parts that it cuts."""
    from groupwise.pipeline.fill import fill, over_all_days

    print(f"reading the line items of {len(days):,} days once", file=sys.stderr, flush=True)
    with working_folder("backfill") as folder:
        run = RunFolder(folder)
        run.write_study(over_all_days(study, days), "")
        try:
            fill(run, days[-1], today, cut=False)
        except DataError as error:
            # a day's own run says what is wrong with its line items
            logger.warning("%s\nEvery day's run reads its own line items.", error)
