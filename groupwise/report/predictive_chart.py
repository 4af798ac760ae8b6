"""How far cells lie from where the model puts them, beside how far simulated ones would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from groupwise.report.charts import Figure, finished
from groupwise.report.subject import Subject

TITLES = {"occurrence": "Does the model reproduce how often?", "amount": "Does the model reproduce how much?"}


def predictive_figures(subject: Subject) -> list[Figure]:
    """One chart, or one for each part of a two-part model."""
    pictures = subject.report.get("predictive_pictures")
    return [_figure(picture) for picture in pictures if isinstance(picture, Mapping)] if isinstance(pictures, Sequence) else []


def _figure(picture: Mapping[str, Any]) -> Figure:
    part, far = picture["part"], picture["far"]
    data = alt.Data(values=list(picture["bins"]))
    x = alt.X("from:Q", title="standard deviations from what the model expects", axis=alt.Axis(tickCount=9), scale=alt.Scale(nice=False))
    axis = alt.Axis(format=".0%", title="share of the cells", tickCount=5)
    tooltip = [
        alt.Tooltip("from:Q", format=".1f"),
        alt.Tooltip("to:Q", format=".1f"),
        alt.Tooltip("observed:Q", format=".1%"),
        alt.Tooltip("lower:Q", title="simulated, from", format=".1%"),
        alt.Tooltip("upper:Q", title="to", format=".1%"),
    ]
    base = alt.Chart(data).encode(x=x, x2="to:Q", tooltip=tooltip)
    band = base.mark_rect(style="complete", opacity=0.3, strokeWidth=0).encode(y=alt.Y("lower:Q", axis=axis), y2="upper:Q")
    data_line = base.mark_rule(style="partial", strokeWidth=3).encode(y=alt.Y("observed:Q", axis=axis))
    words = (
        f"{far['observed']:.1%} of the cells lie more than two standard deviations from what the model expects; of simulated data, "
        f"{far['lower']:.1%} to {far['upper']:.1%} do."
    )
    return Figure(
        id="predictive" if part is None else f"predictive-{part}",
        title=TITLES.get(str(part), "Does the model reproduce the data?"),
        caption=(
            f"{words} Grey: 95 % of data sets simulated from the fitted model; green: the data. Green above grey at both ends means that "
            "cells differ more than the model allows, and its intervals are too narrow; green above grey in the middle, that they differ "
            "less."
        ),
        speaks_of="The grey band speaks of data that the fitted model would make for the same cells; it is no interval of an estimate.",
        description=f"Distribution of cells by their distance from the model. {words}",
        spec=finished(alt.layer(band, data_line), 240),
    )
