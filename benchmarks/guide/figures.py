"""Figures of the guide: a chart as two drawings, for a wide page and for a phone, whose colours follow the page's."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import altair as alt
import vl_convert

from groupwise.report.theme import PAGE_COLOURS, chart_config

WIDE, NARROW = 680, 350
"""Pixels that a drawing has in all, axes included."""

COLOUR = PAGE_COLOURS
"""Names of colours, which guide.css gives a value for light and dark pages."""

FONT = "Helvetica, Arial, sans-serif"
"""What text is measured in while drawing; the page draws it in its own font."""

type Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart


def figure(draw: Callable[[int], Chart], *, alt: str, caption: str) -> str:
    """HTML of a figure.

    Parameters
    ----------
    draw : gives the chart for a width in pixels, that of the plot itself in ``width`` (``fit`` counts axes in).
    alt : what the figure shows, for those who cannot see it. caption : what to see in it; Markdown.
    """
    drawings = "".join(_drawing(draw(width), name, alt) for name, width in (("wide", WIDE), ("narrow", NARROW)))
    return f'\n<figure class="made" markdown>\n{drawings}\n<figcaption markdown="span">{caption}</figcaption>\n</figure>\n'


def _drawing(chart: Chart, name: str, said: str) -> str:
    spec: dict[str, Any] = chart.to_dict()
    spec["config"] = look(is_narrow=name == "narrow")
    spec.setdefault("autosize", {"type": "fit-x", "contains": "padding"} if "width" in spec else "pad")
    svg = vl_convert.vegalite_to_svg(spec)
    svg = re.sub(r' aria-[a-z]+="[^"]*"| role="[^"]*"', "", svg)
    size = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    most = float(size[1]) if size else WIDE
    opening = f'<svg role="img" aria-label="{html.escape(said)}" class="{name}" style="max-width:{most:.0f}px" '
    return re.sub(r'<svg (class="marks" width="[\d.]+" height="[\d.]+" )?', opening, svg, count=1).replace("\n", " ") + "\n"


def look(*, is_narrow: bool) -> dict[str, Any]:
    """Look of the report's charts, letters as a phone shows them; on a narrow page names are cut and legends stacked."""
    config: dict[str, Any] = chart_config(dict(COLOUR), FONT)
    config["axis"] |= {"labelFontSize": 13, "titleFontSize": 13, "labelLimit": 130 if is_narrow else 240}
    config["legend"] |= {"labelFontSize": 13, "titleFontSize": 13, "columns": 1 if is_narrow else 3, "labelLimit": 320}
    config["range"] |= {"category": [COLOUR[name] for name in ("none", "partial", "vote", "complete")]}
    return config
