"""What is known of the parts of a source, kept between runs: by size, times and footer of a file, or of the source as a whole."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.source.fingerprint import Fingerprint
from groupwise.statistics.keep import Keep

SURVEY = "survey"
EVERYTHING = (date.min, date.max)
"""Days of a survey without a window; line items without a date belong to no other."""
COLUMNS: dict[str, pa.DataType] = {
    "part": pa.string(),
    "state": pa.string(),
    **dict.fromkeys(("from_day", "to_day", "first_day", "last_day"), pa.date32()),
    "partition": pa.string(),
    "rows": pa.int64(),
    "total": pa.string(),
}


@dataclass(frozen=True)
class PartFacts:
    """What is known of a part of the source as it is now: the days that were read, and the fingerprints of the partitions in them.

    ``dated`` : of a file that is a partition: first and last day of its line items, None where some have none, or no window is known.
    """

    days: tuple[date, date]
    prints: Mapping[str, Fingerprint]
    dated: tuple[date, date] | None = None


def read_facts(keep: Keep, recipe: str) -> dict[tuple[str, str], PartFacts]:
    """What earlier surveys have kept: part and what it was known by -> facts."""
    found: dict[tuple[str, str], PartFacts] = {}
    folder = f"{recipe}/{SURVEY}"
    for data in keep.read((folder, what) for what in keep.files(folder)).values():
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
        prints: dict[tuple[str, str], dict[str, Fingerprint]] = {}
        for row in rows:
            part = row["part"], row["state"]
            dated = (row["first_day"], row["last_day"]) if row["first_day"] is not None else None
            own = prints.setdefault(part, {})
            if row["partition"] is not None:
                own[row["partition"]] = Fingerprint(row["rows"], int(row["total"], 16))
            found[part] = PartFacts((row["from_day"], row["to_day"]), own, dated)
    return found


def write_facts(keep: Keep, recipe: str, now: Mapping[tuple[str, str], PartFacts]) -> None:
    """Keep what is known; what earlier surveys of other states have kept goes."""
    rows = []
    for (part, state), facts in now.items():
        first, last = facts.dated or (None, None)
        known = {"part": part, "state": state, "from_day": facts.days[0], "to_day": facts.days[1], "first_day": first, "last_day": last}
        rows += [{**known, "partition": name, "rows": mark.rows, "total": f"{mark.total:x}"} for name, mark in facts.prints.items()] or [
            {**known, "partition": None, "rows": 0, "total": "0"}
        ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(COLUMNS)), sink, compression="zstd")
    keep.write(f"{recipe}/{SURVEY}", "parts", sink.getvalue())
