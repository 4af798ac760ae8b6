"""The report's charts one by one, each with its own rows: for a notebook, where no page hands them over."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from groupwise.report.charts import ROWS, Figure
from groupwise.report.datasets import Columns, as_rows
from groupwise.report.sections import contents
from groupwise.report.subject import Subject
from groupwise.report.theme import PICTURE_COLOURS, chart_config

WIDTH = 560
"""Points; a page gives a chart its width, a notebook does not."""

type Rows = list[dict[str, Any]]


def single_charts(subject: Subject) -> dict[str, alt.TopLevelMixin]:
    """Every chart that the report of ``subject`` shows, by its id on the page and in its order; each has its title and its rows.

    The rows are those that the page shows before a reader searches or sorts: of many groups the highest and the lowest.
    """
    made, datasets = contents(subject)
    figures = [figure for section in made for figure in section.figures]
    return {figure.id: _chart(figure, datasets) for figure in figures}


def _chart(figure: Figure, datasets: Mapping[str, Columns]) -> alt.TopLevelMixin:
    spec = {name: value for name, value in figure.spec.items() if name != "autosize"}
    if spec.get("width") == "container":
        spec["width"] = WIDTH
    if figure.picker != "none":
        rows = labelled(as_rows(datasets[figure.dataset]))
        spec["datasets"] = {**_own_rows(spec), ROWS: PICKERS[figure.picker](rows, figure)}
    if "layer" in spec:
        spec["layer"] = [_readable(layer) for layer in _as_list(spec["layer"])]
    config = chart_config(PICTURE_COLOURS) | {"background": PICTURE_COLOURS["surface"]}
    # the page's legends have as many columns as there is room; Altair's schema knows numbers only, and the width is known here
    config["legend"] = {**dict(config["legend"]), "columns": 3}  # type: ignore[call-overload]
    return alt.Chart.from_dict({**spec, "title": figure.title, "config": config})


def _as_list(value: object) -> Rows:
    return list(value) if isinstance(value, list | tuple) else []


def _readable(layer: dict[str, Any]) -> dict[str, Any]:
    """The layer as Altair's schema knows it: a constant that has a scale of its own becomes a calculated column."""
    encoding: dict[str, Any] = dict(layer.get("encoding", {}))
    made = []
    for channel, own in encoding.items():
        if isinstance(own, Mapping) and "datum" in own and "scale" in own:
            name = f"{channel} of layer"
            made.append({"calculate": json.dumps(own["datum"]), "as": name})
            encoding[channel] = {"field": name, "type": "nominal", **{key: value for key, value in own.items() if key != "datum"}}
    return {**layer, "encoding": encoding, "transform": [*layer.get("transform", []), *made]} if made else layer


def _own_rows(spec: Mapping[str, Any]) -> dict[str, Any]:
    found = spec.get("datasets")
    return dict(found) if isinstance(found, Mapping) else {}


def labelled(rows: Rows) -> Rows:
    """The rows with the ``label`` that the axis shows: the level, after its parent where levels of one name have several."""
    repeated = len({row.get("level") for row in rows}) < len(rows)
    for row in rows:
        if "level" in row:
            row["label"] = nested_name(row["parent"], row["level"]) if repeated and row.get("parent") else row["level"]
            row["tick"] = row["label"]
    return rows


def nested_name(parent: str, level: str) -> str:
    """``15-24K:GROCERY`` and ``GROCERY / EGGS`` make ``15-24K: GROCERY / EGGS``: what a level repeats of its parent is said once."""
    for start in range(len(parent)):
        begins = start == 0 or parent[start - 1] == ":" or parent[max(0, start - 3) : start] == " / "
        if begins and level.startswith(f"{parent[start:]} / "):
            before = parent[:start]
            return level if start == 0 else f"{before[:-1] + ': ' if before.endswith(':') else before}{level}"
    return f"{parent} / {level}"


def _ranked(rows: Rows, figure: Figure) -> Rows:
    """The highest and the lowest."""
    found = sorted((row for row in rows if row["estimate"] is not None), key=lambda row: -row["estimate"])
    half = figure.limit // 2
    picked = found if len(found) <= figure.limit else found[:half] + found[-half:]
    return [{**row, "order": order} for order, row in enumerate(picked)]


def _sampled(rows: Rows, figure: Figure) -> Rows:
    """Evenly from the largest to the smallest."""
    found = sorted((row for row in rows if row["estimate"] is not None and row["n"] > 0), key=lambda row: -row["n"])
    if len(found) <= figure.limit:
        return found
    return [found[round(place * (len(found) - 1) / (figure.limit - 1))] for place in range(figure.limit)]


def _grid(rows: Rows, figure: Figure) -> Rows:
    """The product groups with most line items, and how certain each cell is beside the spread of all."""
    size: dict[str, int] = {}
    for row in rows:
        size[row["product"]] = size.get(row["product"], 0) + row["n"]
    products = sorted(size, key=lambda product: -size[product])[: figure.limit]
    order = {product: place for place, product in enumerate(products)}
    scale: Callable[[float], float] = math.log if all(row["estimate"] > 0 and row["lower"] > 0 for row in rows) else float
    values = [scale(row["estimate"]) for row in rows]
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) or 1.0
    return [
        {
            **row,
            "order": order[row["product"]],
            "certainty": 1 / (1 + ((scale(row["upper"]) - scale(row["lower"])) / (2 * spread)) ** 2),
        }
        for row in rows
        if row["product"] in order
    ]


PICKERS: Mapping[str, Callable[[Rows, Figure], Sequence[dict[str, Any]]]] = {"ranked": _ranked, "sampled": _sampled, "grid": _grid}
