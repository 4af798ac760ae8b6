"""What to write instead, where a study names its source in a way that cannot be read."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

TEXT_TABLES = (".csv", ".csv.gz", ".tsv", ".txt")


def is_text_table(name: str) -> bool:
    """Whether a file's name says that it holds text rather than Parquet."""
    return name.lower().endswith(TEXT_TABLES)


def convert_words(file: str) -> str:
    """How a CSV file becomes Parquet, once."""
    made = "lines.parquet" if "*" in file else Path(file).name.split(".")[0] + ".parquet"
    file = file.replace("'", "''")
    return (
        'line items are read from Parquet files or a DuckDB database. Convert the file once: python -c "import duckdb; '
        f"duckdb.sql(\\\"copy (from '{file}') to '{made}'\\\")\", then write source: {{parquet: {made}}}"
    )


def unknown_field(model: type[BaseModel], place: Sequence[int | str], value: object) -> str:
    """What the part of a study that has no such field has instead."""
    part = _part(model, place[:-1]) or model
    own, names = str(place[-1]), list(part.model_fields)
    if place[0] == "source" and (own == "csv" or is_text_table(str(value))):
        return "no such field: " + convert_words(value if isinstance(value, str) else "lines.csv")
    close = difflib.get_close_matches(own, names, n=1)
    if close:
        return f"no such field; did you mean {close[0]}?"
    return f"no such field; the fields{' of ' + '.'.join(map(str, place[:-1])) if len(place) > 1 else ''} are {', '.join(names)}"


def not_a_part(model: type[BaseModel], place: Sequence[int | str], value: object) -> str:
    """What to write where one value stands in place of a mapping."""
    if tuple(place) == ("source",):
        return _source(value)
    part = _part(model, place)
    names = [] if part is None else [name for name, field in part.model_fields.items() if field.is_required()] or list(part.model_fields)
    return f"write a mapping: {place[-1]}: {{{', '.join(f'{name}: ...' for name in names)}}}"


def _source(value: object) -> str:
    if isinstance(value, str) and is_text_table(value):
        return convert_words(value)
    if isinstance(value, str) and value.endswith((".duckdb", ".db")):
        return f"write source: {{database: {value}, line_items: query.sql}}"
    if isinstance(value, str):
        return f"write source: {{parquet: {value}}}"
    if isinstance(value, list):
        return f"write source: {{parquet: [{', '.join(map(str, value))}]}}"
    return "write source: {parquet: files} or source: {database: file.duckdb, line_items: query.sql}"


def _part(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel] | None:
    """The model of a part of ``model``; None where the place is in no part."""
    for name in place:
        field = model.model_fields.get(str(name))
        found = [] if field is None else [kind for kind in _kinds(field.annotation) if issubclass(kind, BaseModel)]
        if not found:
            return None
        model = found[0]
    return model


def _kinds(annotation: Any) -> list[type]:
    """The classes in an annotation such as ``Window | None``."""
    return [annotation] if isinstance(annotation, type) else [kind for part in get_args(annotation) for kind in _kinds(part)]
