"""The estimates of groups over the days of published versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import pyarrow.compute as pc

from groupwise.report.charts import Figure, finished, outcome_axis
from groupwise.report.datasets import rounded
from groupwise.report.group_charts import domain_of, slug, ticks_between
from groupwise.report.label_words import sentence
from groupwise.report.subject import Subject

MOST_LINES = 40
"""Groups that the chart shows: more lines than these cover each other."""
MOST_COLOURS = 8
"""Groups that colours tell apart."""
COLUMNS = ("level", "estimate", "lower", "upper", "n")


def trend_figures(subject: Subject) -> list[Figure]:
    """A chart for every factor whose groups are of interest one by one; none where this is the first day."""
    if not subject.earlier:
        return []
    subjects = [*(replace(subject, tables={**subject.tables, "group_estimates": table}) for table in subject.earlier), subject]
    return [_figure(subject, factor, subjects) for factor in subject.factors if not subject.is_sampled(factor)]


def _figure(subject: Subject, factor: str, subjects: Sequence[Subject]) -> Figure:
    days = [_rows(one, factor) for one in subjects]
    largest = sorted(days[-1], key=lambda row: -row["n"])[:MOST_LINES]
    names = [str(row["level"]) for row in largest]
    shown = set(names)
    rows = [row for day in days for row in day if row["level"] in shown]
    low, high, kind = domain_of(subject, [[row["lower"] for row in rows], [row["upper"] for row in rows]])
    axis = outcome_axis(subject.unit, subject.axis_format, ticks_between(low, high) if kind == "log" else None)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("as_of:T", axis=alt.Axis(title=None, grid=False)),
        y=alt.Y("estimate:Q", axis=axis, scale=alt.Scale(type=kind, zero=False)),
        detail="level:N",
        tooltip=[
            alt.Tooltip("level:N", title="group"),
            alt.Tooltip("as_of:T", title="as of"),
            alt.Tooltip("estimate:Q", format=subject.axis_format),
            alt.Tooltip("lower:Q", title="from", format=subject.axis_format),
            alt.Tooltip("upper:Q", title="to", format=subject.axis_format),
            alt.Tooltip("n:Q", title="line items", format=","),
        ],
    )
    if len(names) <= MOST_COLOURS:
        base = base.encode(color=alt.Color("level:N", sort=names, scale=alt.Scale(scheme="tableau10"), legend=alt.Legend(title=None)))
    faint = 1.0 if len(names) <= MOST_COLOURS else 0.5
    lines = [base.mark_line(strokeWidth=1.4, opacity=faint), base.mark_point(filled=True, size=22, opacity=faint)]
    left_out = len(days[-1]) - len(names)
    some = f" The {len(names)} groups with most line items are shown; the view group_trend has all." if left_out else ""
    return Figure(
        id=f"trend-{slug(factor)}",
        title=f"{sentence(subject.levels_words(factor))}, from version to version",
        caption=f"A line is a group, a point its estimate in the version of a day; of a day, that of the version published last.{some}",
        speaks_of="Windows of days that follow each other share line items, so that their estimates move together.",
        description=f"Estimates of {len(names)} {subject.levels_words(factor)} in {len(days)} versions.",
        spec=finished(alt.layer(*lines), 260),
    )


def _rows(subject: Subject, factor: str) -> list[dict[str, Any]]:
    """The estimates of a version, numbers short enough for a page."""
    table = subject.seen_estimates.filter(pc.field("grouping_factor") == factor)
    columns = {name: rounded(table.column(name).to_pylist()) for name in COLUMNS}
    days = [str(day) for day in table.column("as_of").to_pylist()]
    return [{"as_of": day, **dict(zip(COLUMNS, values, strict=True))} for day, *values in zip(days, *columns.values(), strict=True)]
