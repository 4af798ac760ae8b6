"""How one published table and one published column are described; the six tables themselves are in ``catalogue``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

type ColumnType = Literal["float64", "int64", "string", "bool", "date", "float64[]", "float32[]", "int32[]", "string[]"]
type EstimateRule = Literal["always", "likelihood", "likelihood_seen"]

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "float64": pa.float64(),
    "int64": pa.int64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "float64[]": pa.list_(pa.field("element", pa.float64())),
    "float32[]": pa.list_(pa.field("element", pa.float32())),
    "int32[]": pa.list_(pa.field("element", pa.int32())),
    "string[]": pa.list_(pa.field("element", pa.string())),
}


@dataclass(frozen=True)
class Column:
    """One published column.

    unit : "link scale", "outcome" (the unit that the study names), "1" for pure numbers, or "" for labels.
    null_rule : when the value is null, in words; None where it never is.
    allowed : the only legal strings, or None; minimum, maximum : bounds, inclusive, or None.
    """

    name: str
    type: ColumnType
    description: str
    unit: str = ""
    null_rule: str | None = None
    allowed: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None

    @property
    def nullable(self) -> bool:
        """Whether a null is ever legal."""
        return self.null_rule is not None

    @property
    def null_text(self) -> str:
        """The null rule as documents write it."""
        return self.null_rule if self.null_rule is not None else "never null"


@dataclass(frozen=True)
class Ordering:
    """Three columns that must be ordered, ``lower <= estimate <= upper``, nulls aside.

    A posterior mean can leave an equal-tailed interval of a very skewed posterior, so under "likelihood" only the bounds are compared
    for bayesian rows; under "likelihood_seen" the same holds for the rows of new groups.
    """

    lower: str
    estimate: str | None
    upper: str
    rule: EstimateRule = "always"


@dataclass(frozen=True)
class TableSpec:
    """One published table: its grain, its keys (sorted by ``sort_key``, one row per ``unique_key``) and its columns in file order."""

    name: str
    description: str
    grain: str
    sort_key: tuple[str, ...]
    unique_key: tuple[str, ...]
    columns: tuple[Column, ...]
    orderings: tuple[Ordering, ...] = ()

    def column(self, name: str) -> Column:
        """The column of that name; KeyError where there is none."""
        return {column.name: column for column in self.columns}[name]


def arrow_fields(spec: TableSpec) -> list[pa.Field[Any]]:
    """The table's fields, each with its description, unit and null rule as metadata, which Parquet files keep."""
    return [
        pa.field(
            column.name,
            ARROW_TYPES[column.type],
            nullable=column.nullable,
            metadata={"description": column.description, "unit": column.unit, "null_rule": column.null_text},
        )
        for column in spec.columns
    ]
