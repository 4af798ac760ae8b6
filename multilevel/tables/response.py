"""The response scale of a study, and intervals on it."""

from __future__ import annotations

from scipy.special import ndtri

from multilevel.cells.statistics import CellStatistics
from multilevel.families.link import LOG, Link
from multilevel.families.registry import family_named
from multilevel.fit import Summary


def response_interval(summary: Summary, response: Link, interval: float) -> Summary:
    """A normal interval taken on the link scale (delta method), so that it stays inside the outcome's range; identity is left as it is."""
    if response.is_linear:
        return summary
    centre = response.inverse(summary.estimate)
    half = ndtri(0.5 + interval / 2.0) * summary.std_error / response.slope(centre)
    return Summary(summary.estimate, summary.std_error, response.mean(centre - half), response.mean(centre + half))


def response_of(cells: CellStatistics) -> Link:
    """The response scale of a study: what ``group_estimates`` are in."""
    return response_for(cells.family, cells.log_outcome)


def response_for(family: str, log_outcome: bool) -> Link:
    """The link of a family; under ``log(y)`` the scale is that of y."""
    return LOG if log_outcome else family_named(family).link
