"""Colours and type of the charts: CSS variables in the page (so that dark mode and print need no redraw), plain colours in a picture."""

from __future__ import annotations

PAGE_COLOURS = {name: f"var(--{name})" for name in ("ink", "muted", "line", "partial", "none", "vote", "complete", "surface")}
PICTURE_COLOURS = {
    "ink": "#1d2733",
    "muted": "#5a6675",
    "line": "#dcdfe4",
    "partial": "#0b6e6e",
    "none": "#c2571f",
    "vote": "#6a4c9c",
    "complete": "#5a6675",
    "surface": "#ffffff",
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def chart_config(colours: dict[str, str], font: str = FONT) -> dict[str, object]:
    """The Vega-Lite config shared by every chart; marks name a style (``partial``, ``none``, ``complete``) and take its colour."""
    styles = {name: {"color": colours[name], "stroke": colours[name], "fill": colours[name]} for name in ("partial", "none", "complete")}
    return {
        "background": "transparent",
        "font": font,
        "aria": False,
        "view": {"stroke": None, "continuousHeight": 320},
        "axis": {
            "labelColor": colours["muted"],
            "titleColor": colours["ink"],
            "titleFontWeight": 500,
            "labelFontSize": 12,
            "titleFontSize": 12.5,
            "gridColor": colours["line"],
            "gridOpacity": 0.7,
            "domain": False,
            "ticks": False,
            "labelPadding": 6,
            "labelLimit": 240,
        },
        "legend": {
            "labelColor": colours["ink"],
            "titleColor": colours["muted"],
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "orient": "top",
            "symbolType": "circle",
            "columns": {"expr": "width < 380 ? 2 : 3"},
        },
        "header": {"labelColor": colours["ink"], "titleColor": colours["ink"], "labelFontSize": 12.5},
        "title": {"color": colours["ink"], "fontSize": 14, "fontWeight": 600, "anchor": "start"},
        "text": {"color": colours["ink"], "fill": colours["ink"], "fontSize": 12},
        "style": styles,
        "range": {"category": [colours["none"], colours["partial"], colours["complete"]]},
    }
