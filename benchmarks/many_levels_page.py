"""Write the measured part of docs/decisions/0016-points-of-other-families.md from what its calibration lanes left behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks._calibration_page import markdown
from benchmarks._reliability_page import Entry, provenance_line, replace_block

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
    "commit",
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
            f"{own['smallest_p']:.2g} ({own['of']} of {own['quantities']})",
            f"{0.005 / own['quantities']:.5f}",
            f"{own['below']:.2%}",
            f"{own['above']:.2%}",
            f"{own['seconds']:.1f}",
            own["commit"],
        )
        for own in entries
    ]
    _write("many-levels", COLUMNS, rows, entries)


NUTS_COLUMNS = (
    "family",
    "items of each",
    "theta: means, at most",
    "sds",
    "beta: means, at most",
    "sds",
    "households: means, at most",
    "sds",
    "lower bounds, on average",
    "upper bounds",
    "points (processor s)",
    "NUTS (processor s)",
)


def write_nuts(figures: Path) -> None:
    """Replace the table of differences from NUTS by what is in ``figures``."""
    entries = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(figures.glob("nuts-levels-*.json"))]
    rows = [
        (
            own["family"],
            str(own["items"]),
            *(told for name in ("theta", "beta", "households") for told in _means_and_sds(own[name])),
            f"{own['lower']:+.3f}",
            f"{own['upper']:+.3f}",
            f"{own['seconds']:.0f}",
            f"{own['nuts_seconds']:.0f}",
        )
        for own in entries
    ]
    _write("many-levels-nuts", NUTS_COLUMNS, rows, entries)


def _means_and_sds(own: dict[str, float]) -> tuple[str, str]:
    return f"{own['mean']:.3f}", f"{own['least_sd']:.3f} to {own['most_sd']:.3f}"


def _write(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], entries: Sequence[Entry]) -> None:
    block = f"{markdown(columns, rows)}\n{provenance_line(entries)}"
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), name, block), encoding="utf-8")
