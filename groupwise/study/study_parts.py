"""The parts of a study that have fields of their own, and types of single fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from groupwise.study.level_text import Label
from groupwise.study.moved import DEFAULT, Moved
from groupwise.study.study_source import Part

COLUMN_TYPE = re.compile(
    r"BOOLEAN|U?(?:TINY|SMALL|BIG)INT|U?INTEGER|HUGEINT|FLOAT|DOUBLE|DECIMAL\(\d{1,2},\d{1,2}\)|VARCHAR|DATE|TIMESTAMP(?: WITH TIME ZONE)?"
)
"""Types that a study may give its columns, as DuckDB writes them."""


type MissingRule = Literal["exclude", "level", "mean_and_indicator"]
type Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]


def as_day(value: object) -> object:
    """Text and dates only: pydantic reads a number, also one in quotes, as seconds since 1970."""
    if isinstance(value, str) and value not in ("latest", "scheduled"):
        try:
            return date.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, str | date):
        raise ValueError("write a day such as 2026-01-01, or latest or scheduled")
    return value


class Window(Part):
    """Which line items count: those of the last ``days`` days before as_of, as_of itself not included."""

    column: str = Field(description="date or timestamp column of the line items")
    days: int = Field(gt=0, le=36_525, description="length of the window in days")


class SamplingOptions(Part):
    """How the bayesian engine samples; nothing here changes the posterior."""

    draws: int = Field(1000, ge=100, le=100_000, description="draws kept per chain")
    chains: int = Field(4, ge=2, le=64, description="independent chains")
    tune: int | None = Field(None, ge=50, description="warm-up steps per chain; null: chosen by form")
    form: Literal["auto", "collapsed", "importance", "nuts"] = Field(
        "auto",
        description="auto: importance beyond 2,000 coefficients and effects; else collapsed for gaussian outcomes, NUTS for others",
    )
    cores: int | None = Field(None, ge=1, description="cores used for sampling; null: all")


class PublishedDraws(Part):
    """Joint draws of the coefficients, published as a seventh table; a bayesian study keeps its posterior for ArviZ too."""

    rows: int = Field(1000, ge=100, le=100_000, description="how many draws of every coefficient are published")


class Privacy(Part):
    """Groups with fewer than ``k`` distinct values of ``of`` are not published."""

    of: str = Field(description="the column whose distinct values are protected, such as customer_id")
    k: int = Field(ge=2, description="smallest number of distinct values that a published group may have")


class Differences(Part):
    """The change above which ``groupwise diff`` and the report call a group moved."""

    moved: Moved = Field(DEFAULT, description="a percentage of the earlier estimate, or a number in the outcome's units")


def _column_type(value: object) -> str:
    """The type as DuckDB writes it."""
    text = re.sub(r"\s*([(,)])\s*", r"\1", " ".join(str(value).upper().split()))
    text = {"TEXT": "VARCHAR", "INT": "INTEGER", "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}.get(text, text)
    if not COLUMN_TYPE.fullmatch(text):
        raise ValueError("write a DuckDB type: DOUBLE, BIGINT, DECIMAL(18,2), VARCHAR, BOOLEAN, DATE or TIMESTAMP")
    return text


type ColumnType = Annotated[str, BeforeValidator(_column_type)]


class NewLevels(Part):
    """Levels to estimate although no line item has them."""

    grouping_factor: str = Field(description="the factor as the tables name it, such as department:category_key")
    level: Label = Field(description="the level's label")
    parent_level: Label | None = Field(None, description="the label of the outer level, for nested factors")


def new_levels(value: object) -> object:
    """``{region: [NORTH, SOUTH]}`` as the list of levels that it stands for; a nested level is ``{level: ..., parent_level: ...}``."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        if isinstance(value, list | tuple):
            return value
        raise ValueError("write {region: [NORTH]}, or for nested factors {department:category: [{level: RUGS, parent_level: HOME}]}")
    found = []
    for factor, levels in value.items():
        for level in levels if isinstance(levels, list | tuple) else [levels]:
            own = dict(level) if isinstance(level, Mapping) else {"level": level}
            found.append({"grouping_factor": str(factor), **own})
    return found
