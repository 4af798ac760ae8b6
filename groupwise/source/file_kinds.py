"""The kinds of sources, and which one a file's name says that it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime

KINDS = {
    "database": "DuckDB file",
    "parquet": "Parquet file",
    "csv": "CSV file",
    "json": "JSON file",
    "arrow": "Arrow file",
}
SOURCE_FORMS = (
    "{parquet: files}, {csv: files}, {json: files}, {arrow: files} or {database: file.duckdb}, with line_items: query.sql if needed"
)
SUFFIXES = {
    "parquet": ("parquet", "pq", "parq"),
    "csv": ("csv", "tsv", "txt", "csv.gz", "tsv.gz", "txt.gz"),
    "json": ("json", "jsonl", "ndjson", "json.gz", "jsonl.gz", "ndjson.gz"),
    "arrow": ("arrow", "feather", "ipc"),
    "database": ("duckdb", "db", "ddb"),
}
ARROW_TABLE = "arrow files of the source"
"""The view that a connection has of Arrow files."""
_BY_SUFFIX = {f".{suffix}": kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
_DIRECTIVES = re.compile(r"%[-]?(.)")
_KNOWN = frozenset("aAbBdmyYHIMSpfjzZ%")


def kind_of(name: str) -> str | None:
    """The kind of source that a file's or glob's suffix stands for; None for any other."""
    lower = name.lower()
    return next((kind for suffix, kind in _BY_SUFFIX.items() if lower.endswith(suffix)), None)


def has_time(date_format: str) -> bool:
    """Whether a format writes a time of day."""
    return bool({"H", "I", "M", "S", "f"} & set(_DIRECTIVES.findall(date_format)))


def check_date_format(text: str) -> None:
    """ValueError unless the format names a day: a year, and a month and day, or the day of the year."""
    found = _DIRECTIVES.findall(text)
    has_day = set(found) & {"y", "Y"} and (set(found) >= {"j"} or (set(found) & {"m", "b", "B"} and "d" in found))
    is_known = set(found) <= _KNOWN and not re.search(r"['\0\n]", text)
    if not has_day or not is_known or len(set(found)) < len(found):
        raise ValueError("write year, month and day as %Y (or %y), %m and %d, such as %d/%m/%Y; hours and minutes are %H and %M")
    datetime.now(UTC).strftime(text)
