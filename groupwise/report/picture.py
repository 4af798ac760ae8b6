"""A still picture of a published version, for a README or a slide: the same charts as the page, drawn without a browser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from groupwise.report.charts import ROWS, Figure
from groupwise.report.datasets import Columns, as_rows, level_datasets, slope_datasets
from groupwise.report.group_charts import BEHIND, caterpillar_figure, label_step, shrinkage_figure, slope_figure
from groupwise.report.label_words import counted
from groupwise.report.part_labels import told_apart
from groupwise.report.sections import slope_values
from groupwise.report.subject import Subject, read_tables
from groupwise.report.theme import PICTURE_COLOURS, chart_config

SIDE = 12
WIDTH, HEIGHT = 430, 440


def write_picture(tables: Mapping[str, pa.Table] | Path, study: Mapping[str, object], destination: Path, *, scale: float = 1.3) -> Path:
    """Draw two panels as a PNG: the customers' groups ranked, and what pooling did to the finest factor (or how its slopes differ).

    Parameters
    ----------
    tables : the six published tables, or their folder. study : the study's fields. destination : the PNG to write.
    scale : pixels to a point.
    """
    import vl_convert

    subject = Subject(told_apart(read_tables(tables)), study, {}, {}).with_labels()
    panels = [_panel(figure, columns) for figure, columns in _chosen(subject)]
    apart = {"scale": {"color": "independent"}, "legend": {"color": "independent"}}
    look = {"config": chart_config(PICTURE_COLOURS), "background": "#ffffff", "padding": 18, "spacing": 36}
    spec = {"hconcat": panels, "resolve": apart, **look}
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_bytes(vl_convert.vegalite_to_png(spec, scale=scale))
    return destination


def _chosen(subject: Subject) -> list[tuple[Figure, Columns]]:
    levels = level_datasets(subject)
    first, finest = subject.factors[0], max(levels, key=lambda factor: (not subject.is_sampled(factor), len(levels[factor]["level"])))
    left = (caterpillar_figure(subject, first, levels[first]), levels[first])
    if any(value is not None for value in levels[finest]["none"]):
        return [left, (shrinkage_figure(subject, finest, levels[finest]), levels[finest])]
    slopes = {factor: (term, slope_values(subject, columns)) for (factor, term), columns in slope_datasets(subject).items()}
    if finest not in slopes:
        return [left]
    term, columns = slopes[finest]
    return [left, (slope_figure(subject, finest, term, columns, None), columns)]


def _panel(figure: Figure, columns: Columns) -> dict[str, Any]:
    rows = [{**row, "label": row["level"], "tick": row["level"]} for row in as_rows(columns) if row["estimate"] is not None]
    if figure.picker == "ranked":
        rows.sort(key=lambda row: -float(str(row["estimate"])))
        rows = rows if len(rows) <= 2 * SIDE else rows[:SIDE] + rows[-SIDE:]
    has_room = len(rows) * label_step(figure.members and figure.members[0]) <= HEIGHT
    rows = [{**row, "order": order, "tick": _tick(figure, row) if has_room else row["tick"]} for order, row in enumerate(rows)]
    spec = {key: value for key, value in figure.spec.items() if key not in {"$schema", "autosize", "config"}}
    return {**spec, "title": figure.title, "width": WIDTH, "height": HEIGHT, "layer": _with_rows(spec["layer"], rows)}


def _tick(figure: Figure, row: Mapping[str, object]) -> str:
    """A level's name, and how many units stand behind it."""
    if figure.members is None or row["members"] is None:
        return str(row["level"])
    return f"{row['level']}{BEHIND}{counted(int(str(row['members'])), figure.members[0])}"


def _with_rows(layers: Any, rows: list[dict[str, object]]) -> list[dict[str, Any]]:
    """The layers with their named rows written in, since two panels may not share a name."""
    return [{**layer, "data": {"values": rows}} if layer.get("data", {}).get("name") == ROWS else layer for layer in layers]
