"""A level as a study writes it, in the text that DuckDB makes of it."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BeforeValidator


def level_text(value: object) -> object:
    """A level as DuckDB casts it to text: YAML reads 7, true and 2026-01-01 as no strings."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | date) else value


type Label = Annotated[str, BeforeValidator(level_text, json_schema_input_type=str | int | float | bool)]
