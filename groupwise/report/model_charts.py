"""Charts of the model: where the variance is, what the predictors do under each pooling, group-level predictors, predictive checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from groupwise.report.charts import Figure, finished
from groupwise.report.compared import effect_name, predictor_name
from groupwise.report.datasets import rounded
from groupwise.report.dependence import with_dependence
from groupwise.report.effects import effect, effect_axis, effect_format, no_effect
from groupwise.report.group_charts import POOLINGS, slug
from groupwise.report.label_words import sentence
from groupwise.report.part_labels import INTERCEPTS
from groupwise.report.subject import Subject
from groupwise.report.theme import PAGE_COLOURS
from multilevel.design.parts import PARTS

PREDICTOR_LIMIT = 1_000
WITHIN = "within groups"


def variance_figure(subject: Subject) -> Figure | None:
    """How much of the differences lies between the levels of each factor; None where no share could be given."""
    rows = [{"factor": subject.factor_words(factor), "share": share} for factor, share in variance_shares(subject).items()]
    if not rows:
        return None
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("factor:N", sort="-x", axis=alt.Axis(title=None, grid=False)),
        x=alt.X("share:Q", axis=alt.Axis(format=".0%", title="share of the variance", tickCount=5), scale=alt.Scale(domainMin=0)),
        tooltip=[alt.Tooltip("factor:N"), alt.Tooltip("share:Q", format=".1%")],
    )
    bars = base.mark_bar(style="partial", opacity=0.85, height=18, cornerRadiusEnd=3)
    labels = base.mark_text(align="left", dx=6).encode(text=alt.Text("share:Q", format=".1%"))
    return Figure(
        id="variance",
        title="Share of the variance by grouping",
        caption=(
            "Of all the variation between line items, how much lies between the levels of each factor, the predictors taken into account. "
            "What is left lies between line items of the same groups: no table of groups can explain it."
        ),
        speaks_of="The bars have no intervals; those of the standard deviations that they come from are in the table.",
        description="Share of variance by grouping factor: " + ", ".join(f"{row['factor']} {row['share']:.1%}" for row in rows) + ".",
        spec=finished(alt.layer(bars, labels), alt.Step(34)),
    )


def variance_shares(subject: Subject) -> dict[str, float]:
    """Factor -> share of all variance, what lies within groups included where the tables leave anything for it; by part where two."""
    rows = subject.tables["variance_components"].to_pylist()
    if not subject.has_two_parts:
        return _shares(rows, "")
    return {name: share for part in PARTS for name, share in _shares([r for r in rows if r["part"] == part], f" ({part})").items()}


def _shares(rows: Sequence[Mapping[str, Any]], suffix: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for row in rows:
        if row["variance_share"] is not None and row["grouping_factor"] != "residual":
            name = row["grouping_factor"] + suffix
            shares[name] = shares.get(name, 0.0) + row["variance_share"]
    rest = 1.0 - sum(shares.values())
    return {**shares, WITHIN + suffix: rest} if shares and rest > 1e-9 else shares


def pooling_figure(subject: Subject) -> Figure | None:
    """Each predictor's coefficient under complete, no and partial pooling; None where the model has no predictors."""
    rows = [
        {
            "term": effect_name(subject, row["term"]),
            "pooling": f"{'no' if row['pooling'] == 'none' else row['pooling']} pooling",
            **{name: effect(subject, row[name]) for name in ("estimate", "lower", "upper")},
        }
        for row in subject.tables["population_coefficients"].to_pylist()
        if row["term"] not in INTERCEPTS and row["estimate"] is not None and row["lower"] is not None
    ]
    if not rows:
        return None
    axis, scale = effect_axis(subject, "the predictor", [float(str(row[name])) for row in rows for name in ("lower", "upper")])
    axis_format = effect_format(subject)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("term:N", axis=alt.Axis(title=None, grid=False)),
        yOffset=alt.YOffset("pooling:N", sort=POOLINGS),
        color=alt.Color("pooling:N", scale=alt.Scale(domain=POOLINGS), legend=alt.Legend(title=None)),
        tooltip=[
            alt.Tooltip("term:N"),
            alt.Tooltip("pooling:N"),
            alt.Tooltip("estimate:Q", format=axis_format),
            alt.Tooltip("lower:Q", title="from", format=axis_format),
            alt.Tooltip("upper:Q", title="to", format=axis_format),
        ],
    )
    nothing = alt.Data(values=[{"x": no_effect(subject)}])
    zero = alt.Chart(nothing).mark_rule(style="complete", strokeWidth=1).encode(x=alt.X("x:Q", axis=axis, scale=scale))
    whisker = base.mark_rule(strokeWidth=2, opacity=0.5).encode(x=alt.X("lower:Q", axis=axis, scale=scale), x2="upper:Q")
    dot = base.mark_point(filled=True, size=52, opacity=1).encode(x=alt.X("estimate:Q", axis=axis, scale=scale))
    return Figure(
        id="pooling",
        title="The same predictors under three ways of pooling",
        caption=(
            "Complete pooling ignores the groups, no pooling treats each as if the others did not exist, partial pooling lets the data "
            "decide in between. Where the three differ much, the groups matter for this predictor; partial pooling is what is published."
        ),
        speaks_of=with_dependence(
            subject, "The intervals speak of the coefficients, of the average over groups such as these, and of no single group."
        ),
        description="Coefficients of the predictors with intervals under complete, no and partial pooling; the table below holds them.",
        spec=finished(alt.layer(zero, whisker, dot), alt.Step(20)),
    )


def predictor_figures(subject: Subject) -> list[Figure]:
    """The levels against every group-level predictor, with its line and band (Gelman and Hill 2006, fig. 12.6)."""
    lines = subject.report.get("group_level_lines")
    return [_predictor_figure(subject, line) for line in lines if isinstance(line, Mapping)] if isinstance(lines, Sequence) else []


def _predictor_figure(subject: Subject, line: Mapping[str, Any]) -> Figure:
    factor, name, term = (str(line[key]) for key in ("grouping_factor", "predictor", "term"))
    words, levels_words, about = predictor_name(subject, name), subject.levels_words(factor), subject.factor_words(factor)
    columns = (line[key] for key in ("levels", "n", "x", "estimate", "lower", "upper"))
    levels = sorted(zip(*columns, strict=True), key=lambda level: -level[1])[:PREDICTOR_LIMIT]
    rows = [dict(zip(("label", "n", "x", "y", "low", "high"), rounded(level), strict=True)) for level in levels]
    ribbon = line["line"]
    grid = zip(ribbon["x"], ribbon["estimate"], ribbon["lower"], ribbon["upper"], strict=True)
    band = [dict(zip(("x", "y", "low", "high"), rounded(point), strict=True)) for point in grid]
    x = alt.X("x:Q", axis=alt.Axis(title=words, tickCount=6), scale=alt.Scale(zero=False))
    measured = "level of the group" if term == "Intercept" else f"effect of {effect_name(subject, term)}"
    y_axis = alt.Axis(title=f"{measured}, link scale", tickCount=6)
    y_scale = alt.Scale(zero=False)
    tooltip = [
        alt.Tooltip("label:N", title="group"),
        alt.Tooltip("x:Q", title=words, format=".3~r"),
        alt.Tooltip("y:Q", title="estimate", format=".3~r"),
        alt.Tooltip("low:Q", title="from", format=".3~r"),
        alt.Tooltip("high:Q", title="to", format=".3~r"),
        alt.Tooltip("n:Q", title="line items", format=","),
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, tooltip=tooltip)
    trend = alt.Chart(alt.Data(values=band)).encode(x=x)
    area = trend.mark_area(style="none", strokeOpacity=0, fillOpacity=0.16).encode(
        y=alt.Y("low:Q", axis=y_axis, scale=y_scale), y2="high:Q"
    )
    middle = trend.mark_line(strokeWidth=2).encode(y=alt.Y("y:Q", axis=y_axis, scale=y_scale), color=alt.ColorValue(PAGE_COLOURS["none"]))
    whisker = base.mark_rule(style="partial", opacity=0.4).encode(y=alt.Y("low:Q", axis=y_axis, scale=y_scale), y2="high:Q")
    dot = base.mark_point(style="partial", filled=True, size=46, opacity=0.9).encode(y=alt.Y("y:Q", axis=y_axis, scale=y_scale))
    return Figure(
        id=f"predictor-{slug(factor)}-{slug(term)}-{slug(name)}",
        title=f"{sentence(levels_words)} against {words}",
        caption=(
            f"Each dot is one of the {levels_words} with its {subject.interval} interval; the line is what {words} says, with its band. "
            f"There are {len(line['levels']):,} {levels_words} to learn the line from, however many line items there are. Distance from "
            "the line is what it leaves unexplained."
        ),
        speaks_of=with_dependence(
            subject,
            f"The intervals speak of the groups' own coefficients as they are, the band of the line: a new {about} may lie far outside.",
            factor,
        ),
        description=f"Coefficients of {len(levels)} {levels_words} against {words}, with the fitted line and its band.",
        spec=finished(alt.layer(area, whisker, middle, dot), 340),
    )
