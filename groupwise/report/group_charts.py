"""Charts of groups: how far each is pulled, how they rank, how their slopes differ, how customers and products combine."""

from __future__ import annotations

import re
from collections.abc import Sequence

import altair as alt
import numpy as np
from numpy.typing import NDArray

from groupwise.report.charts import Figure, finished, named_rows, outcome_axis
from groupwise.report.compared import effect_name
from groupwise.report.datasets import Columns
from groupwise.report.dependence import with_dependence
from groupwise.report.effects import effect, effect_axis, effect_format, no_effect
from groupwise.report.label_words import plural, sentence
from groupwise.report.subject import Subject, overall_average

POOLINGS = ["no pooling", "partial pooling", "complete pooling"]
SHRINKAGE_LIMIT = 600
GRID_LIMIT = 40

BEHIND = "\u0001"
"""In a tick of an axis, between a group's name and how many units stand behind it: a character that no printable name holds."""

LONGEST_NAME, NAME_START, NAME_END = 34, 16, 17
"""Characters of a group's name on an axis, and how many of a longer one's start and end."""


def shrinkage_figure(subject: Subject, factor: str, columns: Columns) -> Figure:
    """No pooling -> partial pooling, one arrow a group, small groups at the bottom: they travel furthest."""
    low, high, kind = domain_of(subject, [columns["none"], columns["estimate"]])
    x_scale = alt.Scale(type=kind, domain=[low, high], nice=False)
    axis = outcome_axis(subject.unit, subject.axis_format, ticks_between(low, high) if kind == "log" else None)
    base = alt.Chart(named_rows()).encode(
        y=alt.Y("n:Q", scale=_size_scale(columns), axis=alt.Axis(title="line items in the group", format="~s", tickCount=4, grid=False)),
        tooltip=_tooltip(subject, subject.members_of(factor)),
    )
    colour = alt.Scale(domain=POOLINGS)
    partial_x = alt.X("estimate:Q", scale=x_scale, axis=axis)
    travelled = base.mark_rule(strokeWidth=1, opacity=0.35, clip=True, style="none").encode(x=partial_x, x2="none:Q")
    own = base.mark_point(filled=False, size=34, strokeWidth=1.2, opacity=0.8, clip=True).encode(
        x=alt.X("none:Q", scale=x_scale, axis=axis), color=alt.datum("no pooling", scale=colour, title=None)
    )
    pulled = base.mark_point(filled=True, size=42, opacity=0.95, clip=True).encode(
        x=partial_x, color=alt.datum("partial pooling", scale=colour, title=None)
    )
    average = (
        alt.Chart(_overall(columns))
        .mark_rule(strokeDash=[4, 4], strokeWidth=1.4)
        .encode(x=alt.X("x:Q", scale=x_scale), color=alt.datum("complete pooling", scale=colour, title=None))
    )
    return Figure(
        id=f"shrinkage-{slug(factor)}",
        title=f"{sentence(subject.levels_words(factor))}: how far pooling draws them, by their size",
        caption=(
            "Each ring is a group's own average over the common mix (no pooling), the dot joined to it the published estimate (partial "
            "pooling): what lies between the two is pooling and nothing else. Groups with many line items, at the top, keep their own "
            "average; groups with few, at the bottom, are drawn towards the others, because so few items say little. A dot without a ring "
            "has outcomes that are all alike. The dashed line is the overall average (complete pooling)."
        ),
        speaks_of=f"Intervals are not drawn here. {with_dependence(subject, subject.speaks_of(factor), factor)}",
        description=f"Shrinkage of {len(columns['level'])} {subject.levels_words(factor)}: estimates with and without pooling by size.",
        spec=finished(alt.layer(average, travelled, own, pulled), 400 if len(columns["level"]) > 20 else 240),
        dataset=f"levels/{factor}",
        picker="sampled",
        limit=SHRINKAGE_LIMIT,
    )


def caterpillar_figure(subject: Subject, factor: str, columns: Columns) -> Figure:
    """Every level's estimate with its interval, ranked."""
    low, high, kind = domain_of(subject, [columns["lower"], columns["upper"]])
    axis = outcome_axis(subject.unit, subject.axis_format, ticks_between(low, high) if kind == "log" else None)
    members = subject.members_of(factor)
    scale = alt.Scale(type=kind, nice=False, padding=6) if kind == "log" else alt.Scale(zero=False, nice=False, padding=6)
    chart = _caterpillar(axis, scale, _tooltip(subject, members))
    average = alt.Chart(_overall(columns)).mark_rule(strokeDash=[4, 4], style="complete", strokeWidth=1.4).encode(x=alt.X("x:Q", axis=axis))
    return Figure(
        id=f"caterpillar-{slug(factor)}",
        title=f"{sentence(subject.levels_words(factor))}, ranked",
        caption=(
            f"The dot is the estimate, the line its {subject.interval} interval: where two lines overlap much, the order of the two groups "
            "is not settled. The dashed line is the overall average, every line item counted once."
        ),
        speaks_of=with_dependence(subject, subject.speaks_of(factor), factor),
        description=f"Ranked estimates with intervals of {len(columns['level'])} {subject.levels_words(factor)}, also in the table below.",
        spec=finished(alt.layer(average, *chart), alt.Step(label_step(members))),
        dataset=f"levels/{factor}",
        members=None if members is None else (members, plural(members)),
        picker="ranked",
        sorts=(("estimate", "estimate"), ("n", "line items"), ("level", "name")),
    )


def _overall(columns: Columns) -> alt.Data:
    """Where the dashed line is; nowhere without complete pooling."""
    overall = overall_average(columns["complete"], columns["n"])
    return alt.Data(values=[] if overall is None else [{"x": overall}])


def slope_figure(subject: Subject, factor: str, term: str, columns: Columns, population: float | None) -> Figure:
    """How the effect of one term differs between the levels of a factor."""
    words = effect_name(subject, term)
    bounds = [float(str(value)) for name in ("lower", "upper") for value in columns[name] if value is not None]
    axis, scale = effect_axis(subject, words, bounds)
    axis_format = effect_format(subject)
    tooltip = [
        alt.Tooltip("label:N", title="group"),
        alt.Tooltip("estimate:Q", title="effect", format=axis_format),
        alt.Tooltip("lower:Q", title="from", format=axis_format),
        alt.Tooltip("upper:Q", title="to", format=axis_format),
        alt.Tooltip("n:Q", title="line items", format=","),
        alt.Tooltip("shrinkage:Q", title="shrinkage", format=".0%"),
    ]
    chart = _caterpillar(axis, scale, tooltip)
    marks: list[alt.Chart] = [
        alt.Chart(alt.Data(values=[{"x": no_effect(subject)}]))
        .mark_rule(style="complete", strokeWidth=1)
        .encode(x=alt.X("x:Q", axis=axis, scale=scale))
    ]
    if population is not None:
        values = [{"x": effect(subject, population)}]
        marks.append(
            alt.Chart(alt.Data(values=values)).mark_rule(strokeDash=[4, 4], style="complete").encode(x=alt.X("x:Q", axis=axis, scale=scale))
        )
    return Figure(
        id=f"slope-{slug(factor)}-{slug(term)}",
        title=f"{sentence(words)}: its effect by {subject.factor_words(factor)}, ranked",
        caption=(
            f"How much {words} changes the outcome in each group, with its {subject.interval} interval. The solid line is no effect"
            f"{'.' if population is None else ', the dashed line the effect in the average group.'}"
        ),
        speaks_of=with_dependence(
            subject,
            f"The intervals speak of the effect in each of these {subject.levels_words(factor)}, as it is, and of no new one.",
            factor,
        ),
        description=f"Ranked effects of {words} in {len(columns['level'])} {subject.levels_words(factor)}.",
        spec=finished(alt.layer(*marks, *chart), alt.Step(17)),
        dataset=f"slopes/{factor}/{term}",
        picker="ranked",
        limit=40,
        sorts=(("estimate", "effect"), ("n", "line items"), ("level", "name")),
    )


def grid_figure(subject: Subject, columns: Columns, names: tuple[str, str]) -> Figure:
    """Customer groups x product groups: colour is the estimate, the size of the square how sure it is."""
    values = np.array(columns["estimate"], dtype=float)
    low, high = (float(q) for q in np.quantile(values, [0.02, 0.98]))
    middle = _middle(values, np.array(columns["n"], dtype=float))
    kind = "log" if low > 0 and high / low > 4 and not subject.is_share else "linear"
    customers = natural_order({str(c) for c in columns["customer"]})
    colour = alt.Scale(type=kind, domain=[low, middle, high], range=["#b5532a", "#e6dfcf", "#0b6e6e"], clamp=True, interpolate="lab")
    chart = (
        alt.Chart(named_rows())
        .mark_square(opacity=1)
        .encode(
            x=alt.X("customer:N", sort=customers, axis=alt.Axis(title=names[0], orient="top", labelAngle=-45, grid=False, labelPadding=4)),
            y=alt.Y("product:N", sort=alt.EncodingSortField("order", op="min"), axis=group_axis()),
            color=alt.Color(
                "estimate:Q",
                scale=colour,
                legend=alt.Legend(title=subject.unit, format=subject.axis_format, gradientLength=220, tickCount=4),
            ),
            size=alt.Size("certainty:Q", scale=alt.Scale(domain=[0, 1], range=[18, 330]), legend=None),
            tooltip=[
                alt.Tooltip("customer:N", title=names[0]),
                alt.Tooltip("product:N", title=names[1]),
                alt.Tooltip("estimate:Q", format=subject.axis_format),
                alt.Tooltip("lower:Q", title="from", format=subject.axis_format),
                alt.Tooltip("upper:Q", title="to", format=subject.axis_format),
                alt.Tooltip("n:Q", title="line items", format=","),
            ],
        )
    )
    return Figure(
        id="grid",
        title=f"{sentence(names[0])} × {names[1]}",
        caption=(
            "Colour is the estimate: teal above, rust below that of the typical line item. A full square is a sure estimate, a small one "
            "an unsure one; pairs never seen have one too. The page shows the product groups with most line items; search for others."
        ),
        speaks_of=with_dependence(
            subject,
            "The intervals, told on hovering, speak of each pair as it is; of a pair never seen, of what to expect of it.",
        ),
        description=f"Grid of estimates for {len(customers)} {plural(names[0])} by {plural(names[1])}.",
        spec={**finished(chart, alt.Step(20), width=alt.Step(34)), "padding": {"left": 5, "top": 5, "bottom": 5, "right": 40}},
        dataset="cells",
        picker="grid",
        limit=GRID_LIMIT,
    )


def group_axis() -> alt.Axis:
    """An axis of group names: of a long one both ends are shown, since what tells nested groups apart may stand at either.

    What stands after ``BEHIND``, how many units stand behind the group, has a line of its own.
    """
    parts = f"split(datum.label, '\\u{ord(BEHIND):04x}')"
    name = f"{parts}[0]"
    short = f"slice({name}, 0, {NAME_START}) + '…' + slice({name}, -{NAME_END})"
    shown = f"(length({name}) > {LONGEST_NAME} ? {short} : {name})"
    return alt.Axis(title=None, grid=False, labelLimit=250, labelExpr=f"length({parts}) > 1 ? [{shown}, {parts}[1]] : {shown}")


def label_step(members: str | None) -> int:
    """Pixels of a row whose name has one line, or two."""
    return 17 if members is None else 33


def natural_order(labels: set[str]) -> list[str]:
    """Labels by the number in them, 'Under' before the number itself, words without numbers last."""

    def key(label: str) -> tuple[float, str]:
        found = re.search(r"\d+(?:\.\d+)?", label)
        if found is None:
            return float("inf"), label
        return float(found.group()) - (1e-6 if label.lower().startswith(("under", "<")) else 0), label

    return sorted(labels, key=key)


def slug(text: str) -> str:
    """A text as an HTML id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _caterpillar(axis: alt.Axis, scale: alt.Scale, tooltip: Sequence[alt.Tooltip]) -> list[alt.Chart]:
    base = alt.Chart(named_rows()).encode(
        y=alt.Y("tick:N", sort=alt.EncodingSortField("order", op="min"), axis=group_axis()),
        tooltip=list(tooltip),
    )
    whisker = base.mark_rule(style="partial", strokeWidth=2, opacity=0.45).encode(x=alt.X("lower:Q", scale=scale, axis=axis), x2="upper:Q")
    dot = base.mark_point(style="partial", filled=True, size=46, opacity=1).encode(x=alt.X("estimate:Q", scale=scale, axis=axis))
    return [whisker, dot]


def _tooltip(subject: Subject, members: str | None) -> list[alt.Tooltip]:
    shown = subject.axis_format
    return [
        alt.Tooltip("label:N", title="group"),
        alt.Tooltip("estimate:Q", title="estimate", format=shown),
        alt.Tooltip("lower:Q", title="from", format=shown),
        alt.Tooltip("upper:Q", title="to", format=shown),
        *([] if members is None else [alt.Tooltip("members:Q", title=plural(members), format=",")]),
        alt.Tooltip("n:Q", title="line items", format=","),
        alt.Tooltip("none:Q", title="without pooling", format=shown),
        alt.Tooltip("observed:Q", title="plain average", format=shown),
    ]


def _middle(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The weighted median, kept inside the values' own range."""
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    place = int(np.searchsorted(passed, passed[-1] / 2)) if passed[-1] > 0 else len(values) // 2
    low, high = np.quantile(values, [0.05, 0.95])
    return float(np.clip(values[order][place], low, high))


def ticks_between(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20, ... from a decade below to a decade above: the few lines that a logarithmic axis needs."""
    decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 2)
    return [float(f"{lead * 10.0**decade:.6g}") for decade in decades for lead in (1, 2, 5)]


def _size_scale(columns: Columns) -> alt.Scale:
    sizes = np.array([n for n in columns["n"] if n], dtype=float)
    low, high = (float(sizes.min()), float(sizes.max())) if len(sizes) else (1.0, 10.0)
    return alt.Scale(type="log", domain=[low / 1.6, high * 1.6], nice=False)


def domain_of(subject: Subject, columns: Sequence[Sequence[object]]) -> tuple[float, float, str]:
    """Where nearly all values lie, and whether a logarithmic axis suits them (positive, a factor of eight apart)."""
    values = np.array([v for column in columns for v in column if v is not None], dtype=float)
    if len(values) == 0:
        return 0.0, 1.0, "linear"
    low, high = (float(q) for q in np.quantile(values, [0.005, 0.995]))
    if not subject.is_share and low > 0 and high / low > 8:
        return low / 1.05, high * 1.05, "log"
    margin = 0.03 * (high - low) or abs(high) or 1.0
    return low - margin, high + margin, "linear"
