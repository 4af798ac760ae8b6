"""The response scale of a study."""

from __future__ import annotations

from multilevel.cells.statistics import CellStatistics
from multilevel.families.link import LOG, Link
from multilevel.families.registry import family_named


def response_of(cells: CellStatistics) -> Link:
    """The response scale of a study: what ``group_estimates`` are in."""
    return response_for(cells.family, cells.log_outcome)


def response_for(family: str, log_outcome: bool) -> Link:
    """The link of a family; under ``log(y)`` the scale is that of y."""
    return LOG if log_outcome else family_named(family).link
