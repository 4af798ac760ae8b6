"""What DuckDB refuses, without the words that only its own users know."""

from __future__ import annotations

import re

_KIND = re.compile(r"^(?:[A-Z][A-Za-z]* )+Error: ")
_COLUMN = re.compile(r'^(?:Referenced column|column) "?([^"]+?)"? not found in FROM clause!(?: Candidate bindings: (.*))?', re.IGNORECASE)
_TABLE = re.compile(r"^Table with name (\S+) does not exist!(?: Did you mean \"?([^\"?]+)\"?\??)?")
_FUNCTION = re.compile(r"^(?:Scalar|Aggregate|Table) Function with name (\S+) does not exist!(?: Did you mean \"?([^\"?]+)\"?\??)?")
_CONVERT = re.compile(r"^Could not convert string '(.*)' to (\w+)(?: when casting from source column (.+?))?\.?$")
_NO_PARQUET = re.compile(r"^No magic bytes found at end of file '(.*)'$")
_TYPES = {"INT8": "TINYINT", "INT16": "SMALLINT", "INT32": "INTEGER", "INT64": "BIGINT", "INT128": "HUGEINT"}
_OWN = ("pg_", "duckdb_", "sqlite_", "information_schema")


def in_plain_words(text: str) -> str:
    """One line of an error of DuckDB: what is wrong, without its kind."""
    said = _KIND.sub("", text)
    if found := _COLUMN.match(said):
        offered = ", ".join(name.strip().strip('"') for name in (found[2] or "").split(","))
        return f"there is no column {found[1]}" + (f"; did you mean {offered}?" if offered else "")
    if found := _TABLE.match(said) or _FUNCTION.match(said):
        what = "table" if said.startswith("Table with") else "function"
        meant = found[2] if found[2] and not found[2].startswith(_OWN) else None
        return f"there is no {what} {found[1]}" + (f"; did you mean {meant}?" if meant else "")
    if found := _CONVERT.match(said):
        of = f" of the column {found[3]}" if found[3] else ""
        return f"the text '{found[1]}'{of} is no {_TYPES.get(found[2], found[2])}"
    if found := _NO_PARQUET.match(said):
        return f"{found[1].rpartition('/')[2]} is no Parquet file"
    return said
