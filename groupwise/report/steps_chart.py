"""From the plain average of a group's line items to its pooled estimate, a mark for every step on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import altair as alt

from groupwise.report.charts import Figure, Key, finished, named_rows, outcome_axis
from groupwise.report.datasets import Columns
from groupwise.report.dependence import with_dependence
from groupwise.report.group_charts import domain_of, group_axis, label_step, slug, ticks_between
from groupwise.report.label_words import plural, sentence
from groupwise.report.subject import Subject
from groupwise.report.theme import PAGE_COLOURS

STEPS_LIMIT = 40
"""Groups that the chart shows at once; the others are searched for, and in the table."""


@dataclass(frozen=True)
class Step:
    """One of a level's averages. column : of its dataset. mark : the key's CSS class. shape, colour : of the mark. title : in tooltips."""

    column: str
    words: str
    title: str
    mark: str
    shape: str
    colour: str


def steps_of(subject: Subject, factor: str, columns: Columns) -> tuple[Step, ...]:
    """The steps that the tables have of a factor, in their order; the last is the estimate."""
    members = subject.members_of(factor)
    pooled = "pooled: the estimate, with its interval"
    last = Step("estimate", pooled, "pooled estimate", "key-pooled", "circle", PAGE_COLOURS["partial"])
    own = "no pooling: the group's own average, as tables before 2.0 had it" if subject.is_before_headlines else "same mix for all"
    mix = Step("none", own, own.partition(":")[0], "key-mix", "circle", PAGE_COLOURS["none"])
    observed = Step("observed", "plain average of line items", "plain average", "key-observed", "diamond", PAGE_COLOURS["complete"])
    if members is None:
        steps: tuple[Step, ...] = (observed, mix, last)
    else:
        first = Step("mix", mix.words, mix.title, mix.mark, mix.shape, mix.colour)
        vote = f"same mix, and every {members} counts once"
        steps = (observed, first, Step("none", vote, f"every {members} once", "key-vote", "square", PAGE_COLOURS["vote"]), last)
    return tuple(step for step in steps if any(value is not None for value in columns.get(step.column, ())))


def steps_figure(subject: Subject, factor: str, columns: Columns) -> Figure:
    """What composition moved, what counting members once moved, and what pooling moved, of each level."""
    steps = steps_of(subject, factor, columns)
    low, high, kind = domain_of(subject, [columns[step.column] for step in steps] + [columns["lower"], columns["upper"]])
    scale = alt.Scale(type="log", nice=False) if kind == "log" else alt.Scale(zero=False, nice=False, padding=6)
    axis = outcome_axis(subject.unit, subject.axis_format, ticks_between(low, high) if kind == "log" else None)
    members = subject.members_of(factor)
    base = alt.Chart(named_rows()).encode(
        y=alt.Y("tick:N", sort=alt.EncodingSortField("order", op="min"), axis=group_axis()), tooltip=_tooltip(subject, steps, members)
    )
    interval = base.mark_rule(strokeWidth=7, opacity=0.22, color=PAGE_COLOURS["partial"]).encode(
        x=alt.X("lower:Q", scale=scale, axis=axis), x2="upper:Q"
    )
    travelled = [
        base.transform_filter(f"isValid(datum.{before.column}) && isValid(datum.{after.column})")
        .mark_rule(strokeWidth=1.6, opacity=0.75, color=after.colour)
        .encode(x=alt.X(f"{before.column}:Q", scale=scale, axis=axis), x2=f"{after.column}:Q")
        for before, after in pairwise(steps)
    ]
    marks = [
        base.mark_point(shape=step.shape, filled=step is steps[-1], size=52, strokeWidth=1.7, opacity=1, color=step.colour).encode(
            x=alt.X(f"{step.column}:Q", scale=scale, axis=axis)
        )
        for step in steps
    ]
    many = len(columns["level"]) > STEPS_LIMIT
    return Figure(
        id=f"steps-{slug(factor)}",
        title=f"{sentence(subject.levels_words(factor))}, from the plain average to the pooled estimate",
        caption=_caption(subject, factor, steps, columns),
        speaks_of=with_dependence(subject, subject.speaks_of(factor), factor),
        description=f"Steps from the plain average to the pooled estimate of {len(columns['level'])} {subject.levels_words(factor)}.",
        spec=finished(alt.layer(interval, *travelled, *marks), alt.Step(label_step(members) + 3)),
        dataset=f"levels/{factor}",
        picker="ranked",
        limit=STEPS_LIMIT,
        sorts=_sorts(steps, many=many),
        keys=tuple(Key(step.mark, step.words) for step in steps),
        members=None if members is None else (members, plural(members)),
    )


def _sorts(steps: Sequence[Step], *, many: bool) -> tuple[tuple[str, str], ...]:
    """Few groups are ranked; of many, those that the steps move furthest come first."""
    ranked, moved = ("estimate", "estimate"), [("pooled_by", "how far pooling moves it")]
    moved += [("mixed_by", "how far the mix moves it")] if steps[0].column == "observed" else []
    first = [*moved, ranked] if many else [ranked, *moved]
    return (*first, ("n", "line items"), ("level", "name"))


def steps_reading(subject: Subject, levels: Mapping[str, Columns]) -> tuple[str, ...]:
    """How the charts are read, once for all of them."""
    found = {step.column for factor, columns in levels.items() for step in steps_of(subject, factor, columns)}
    members = next((name for name in (subject.members_of(factor) for factor in levels) if name is not None), None)
    said = ["Read each line from mark to mark."]
    if "observed" in found:
        said.append(
            "The plain average is that of the group's own line items, with whatever mix of other groups and predictors they have. The next "
            "mark has the same mix for every group: that step is composition, and what the model leaves unfitted."
        )
    if members is not None:
        said.append(f"Where a group's {plural(members)} are a sample, every {members} then counts once, however many line items there are.")
    said.append(
        "The last step is pooling: a group with few line items says little by itself, and its estimate is drawn towards the others. "
        "A missing mark could not be determined."
    )
    return (" ".join(said),)


def _caption(subject: Subject, factor: str, steps: Sequence[Step], columns: Columns) -> str:
    """The group that lies furthest from its first mark, and where the others are."""
    first = steps[0]
    rows = [row for row in zip(columns["level"], columns[first.column], columns["estimate"], strict=True) if row[1] is not None]
    level, start, end = max(rows, key=lambda row: abs(float(str(row[2])) - float(str(row[1]))))
    moved = f"Furthest from its {first.title}: {level}, {subject.outcome(float(str(start)))} and pooled {subject.outcome(float(str(end)))}."
    many = f" The chart shows the {subject.levels_words(factor)} that move furthest; the table of groups has all."
    return moved + (many if len(columns["level"]) > STEPS_LIMIT else "")


def _tooltip(subject: Subject, steps: Sequence[Step], members: str | None) -> list[alt.Tooltip]:
    shown = subject.axis_format
    return [
        alt.Tooltip("label:N", title="group"),
        *(alt.Tooltip(f"{step.column}:Q", title=step.title, format=shown) for step in steps),
        alt.Tooltip("lower:Q", title="from", format=shown),
        alt.Tooltip("upper:Q", title="to", format=shown),
        *([] if members is None else [alt.Tooltip("members:Q", title=plural(members), format=",")]),
        alt.Tooltip("n:Q", title="line items", format=","),
    ]
