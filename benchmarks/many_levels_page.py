"""Write the measured part of docs/decisions/0016-points-of-other-families.md from what its calibration lanes left behind."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks._calibration_page import markdown
from benchmarks._reliability_page import provenance_line, replace_block

PAGE = Path("docs/decisions/0016-points-of-other-families.md")

COLUMNS = (
    "family",
    "households",
    "items of each",
    "shops",
    "sent to NUTS",
    "smallest p of the quantities",
    "refused below",
    "households below their interval",
    "above",
    "processor s of a shop (median)",
)


def write_page(figures: Path) -> None:
    """Replace the table by the rows of all lanes in ``figures``."""
    entries = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(figures.glob("many-levels-*.json"))]
    entries.sort(key=lambda own: (own["households"], own["family"], -own["items"]))
    rows = [
        (
            own["family"],
            f"{own['households']:,}",
            str(own["items"]),
            str(own["shops"]),
            str(own["sent_to_nuts"]),
            f"{own['smallest_p']:.3f} ({own['of']} of {own['quantities']})",
            f"{0.005 / own['quantities']:.5f}",
            f"{own['below']:.2%}",
            f"{own['above']:.2%}",
            f"{own['seconds']:.1f}",
        )
        for own in entries
    ]
    block = f"{markdown(COLUMNS, rows)}\n{provenance_line(entries)}"
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "many-levels", block), encoding="utf-8")
