"""The statistics of all partitions of a window, made in one pass over the line items and kept: before a backfill, or anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from groupwise.pipeline.order import asking
from groupwise.pipeline.own_process import InTurn
from groupwise.pipeline.steps import CONDENSE, COUNT
from groupwise.run_folder import RunFolder
from groupwise.statistics.gather import describe, gather_cells, gather_facts
from groupwise.study.study import Study
from groupwise.study.study_parts import Window
from multilevel.errors import DataError


def fill(run: RunFolder, as_of: date | None, today: date, *, cut: bool = True) -> None:
    """Describe the line items, and have what is not kept of them made.

    Parameters
    ----------
    run : a folder that holds the study. cut : whether partitions that the window cuts are looked at too: they are not kept.

    Raises
    ------
    DataError : the line items are not such as the study needs.
    """
    describe(run, as_of, today)
    turn = InTurn()
    gather_facts(run, asking(turn, COUNT), cut=cut)
    gather_cells(run, asking(turn, CONDENSE), cut=cut)


def over_all_days(study: Study, days: Sequence[date]) -> Study:
    """The study with a window, up to the last of the days, that holds the windows of all of them."""
    if study.window is None:
        raise DataError(f"{study.name} has no window.")
    longest = (max(days) - min(days)).days + study.window.days
    return study.model_copy(update={"window": Window(column=study.window.column, days=longest)})
