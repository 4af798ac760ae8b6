"""Write what was measured of added points into docs/decisions/0015-importance-points.md, from what its calibration lane left behind."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks._calibration_page import markdown
from benchmarks._reliability_page import provenance_line, replace_block

PAGE = Path("docs/decisions/0015-importance-points.md")

COLUMNS = (
    "degrees of freedom",
    "number of points",
    "samples",
    "points (median)",
    "error claimed (posterior sd)",
    "true error",
    "beyond two errors",
)


def write_page(figures: Path) -> None:
    """Replace the table by the rows of all lanes in ``figures``."""
    entries = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(figures.glob("known-bounds-*.json"))]
    entries.sort(key=lambda own: (own["rule"], own["degrees"]))
    rows = [
        (
            str(own["degrees"]),
            own["rule"],
            str(own["samples"]),
            f"{own['points']:,.0f}",
            f"{own['claimed']:.3f}",
            f"{own['true']:.3f}",
            f"{own['beyond_two']:.1%}",
        )
        for own in entries
    ]
    block = f"{markdown(COLUMNS, rows)}\n{provenance_line(entries)}"
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "known-bounds", block), encoding="utf-8")
