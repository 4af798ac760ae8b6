"""What DuckDB's reader refuses of a CSV file, in words of our own."""

from __future__ import annotations

import re

_LINE = re.compile(r"CSV Error on Line: (\d+)(.*)", re.DOTALL)
_FILE = re.compile(r"^\s*file = (.+)$", re.MULTILINE)


def csv_refusal(message: str) -> str | None:
    """What the reader refused, in words of our own: the file, the line and what is wrong with it; None for any other message."""
    found = _LINE.search(message)
    if found is None:
        return None
    file = _FILE.search(message)
    place = f"line {found[1]} of {file[1] if file else 'the CSV file'}"
    counts = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", found[2])
    if counts:
        # the reader stops counting at the first value too many
        many = "more" if int(counts[2]) > int(counts[1]) else counts[2]
        return (
            f"{place} has {many} values where the first line names {counts[1]} columns; mend the line, or write what stands between "
            "values: options: {delimiter: ';'}"
        )
    if "nicode" in found[2]:
        return f"{place} is not in the encoding that was expected; write options: {{encoding: windows-1252}}, latin-1 or utf-16"
    if "unterminated quote" in found[2]:
        return f"{place} has a quotation mark that is not closed; write it twice inside of a quoted value"
    reason = next((line.strip() for line in found[2].splitlines()[2:] if line.strip()), "it cannot be read")
    return f"{place}: {reason}"
