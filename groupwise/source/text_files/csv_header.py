"""How a CSV file is written: the sign between its values, and the names in its first line. Nothing else of the file is read here."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from multilevel.errors import SourceError
from multilevel.text import shorten

DELIMITERS = (",", ";", "\t", "|")
BEGINNING = 256 * 1024
"""Bytes of a file that are looked at."""
LINES = 200
_PYTHON = {"utf-8": "utf-8-sig", "latin-1": "latin-1", "utf-16": "utf-16", "windows-1252": "cp1252"}


@dataclass(frozen=True)
class CsvHeader:
    """``columns``: every name once; ``repeated``: names that stand in the header more than once."""

    delimiter: str
    columns: tuple[str, ...]
    repeated: tuple[str, ...] = ()


def read_header(file: str, encoding: str, delimiter: str | None, subject: str) -> CsvHeader:
    """The header of a file; SourceError, beginning with ``subject``, where there is none or the text has another encoding."""
    lines = _beginning(file, encoding, subject)
    if not lines or not lines[0].strip():
        raise SourceError(f"{subject}: {file} is empty: its first line must hold the names of the columns.")
    sign = delimiter if delimiter is not None else _delimiter(lines)
    names = next(csv.reader(lines, delimiter=sign), [])
    columns: dict[str, str] = {}
    repeated = []
    for at, name in enumerate(names):
        own = name.strip() or f"column{at + 1}"
        if own.casefold() in columns:
            repeated.append(own)
            own = f"{own}_{at + 1}"
        columns[own.casefold()] = own
    if len(columns) < len(names):
        raise SourceError(f"{subject}: {file}: the first line has the name {shorten(repeated[0], 60)} too often; name every column once.")
    return CsvHeader(sign, tuple(columns.values()), tuple(repeated))


def _beginning(file: str, encoding: str, subject: str) -> list[str]:
    with Path(file).open("rb") as stream:
        content = (gzip.GzipFile(fileobj=stream) if file.lower().endswith(".gz") else stream).read(BEGINNING)
    is_whole = len(content) < BEGINNING
    try:
        if b"\0" in content[:1000] and encoding != "utf-16":
            raise UnicodeError("NUL")
        text = io.TextIOWrapper(io.BytesIO(content), encoding=_PYTHON[encoding], errors="strict" if is_whole else "ignore").read()
    except UnicodeError as error:
        other = "utf-16" if b"\0" in content[:1000] else "windows-1252 (as Excel in Western Europe writes it), latin-1 or utf-16"
        raise SourceError(
            f"{subject}: {file} is no {encoding} text; save it as UTF-8, or write options: {{encoding: ...}} with {other}."
        ) from error
    lines = text.splitlines(keepends=True)[: LINES + 1]
    # the last line may be cut
    return lines if is_whole or len(lines) <= 1 else lines[:-1]


def _delimiter(lines: list[str]) -> str:
    """The sign that cuts most lines into the same number of values, at least two; the comma where there is one column."""
    found = []
    for sign in DELIMITERS:
        counts = [len(row) for row in csv.reader(lines, delimiter=sign) if row]
        width = counts[0]
        if width > 1:
            found.append((Counter(counts)[width] / len(counts), width, sign))
    return max(found, key=lambda one: (round(one[0], 2), one[1]))[2] if found else ","
