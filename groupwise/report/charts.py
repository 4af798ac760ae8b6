"""A chart of the report: its specification, where its rows come from, what it says in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import altair as alt

type Picker = Literal["none", "ranked", "sampled", "grid"]

# named data of every specification whose rows the page picks from an embedded dataset
ROWS = "rows"


@dataclass(frozen=True)
class Key:
    """One mark of a chart and what it means; ``mark`` is a CSS class."""

    mark: str
    words: str


@dataclass(frozen=True)
class Figure:
    """One chart with its caption.

    dataset : the embedded dataset whose rows the page hands to the chart, picked as ``picker`` says and at most ``limit`` of them
    (the reader searches and sorts among all); empty where the specification carries its own rows.
    description : what a screen reader says instead of the drawing. speaks_of : one sentence under the chart: what its intervals speak of,
    or that it has none. keys : the marks that the page explains above the chart. members : one and more of the units that stand behind a
    level, said beside its name; empty where none do.
    """

    id: str
    title: str
    caption: str
    speaks_of: str
    description: str
    spec: dict[str, object]
    dataset: str = ""
    picker: Picker = "none"
    limit: int = 60
    sorts: tuple[tuple[str, str], ...] = field(default=())
    keys: tuple[Key, ...] = ()
    members: tuple[str, str] | None = None


def outcome_axis(unit: str, axis_format: str, ticks: list[float] | None = None) -> alt.Axis:
    """The axis of the outcome: few ticks, or those given, the unit as its title."""
    if ticks is not None:
        return alt.Axis(format=axis_format, title=unit, values=ticks)
    return alt.Axis(format=axis_format, title=unit, tickCount=6)


def named_rows() -> alt.NamedData:
    """Rows that the page will hand over."""
    return alt.NamedData(name=ROWS)


def finished(chart: alt.LayerChart | alt.Chart, height: int | alt.Step, width: alt.Step | None = None) -> dict[str, object]:
    """The specification, as wide as its place on the page unless it has its own step. The page adds the config once for all charts."""
    properties = chart.properties(width=width or "container", height=height)
    spec: dict[str, object] = properties.to_dict(validate=False)
    spec.pop("config", None)
    if width is None:
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec
