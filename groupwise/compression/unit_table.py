"""The units that sums by cell and unit are taken of, and their place in the query that makes cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from groupwise.source.relation import quote
from multilevel.cells.unit_sums import CELL, UNIT

SUMS = frozenset({CELL, "n", "weight", "total", "size", "observed.mean", "observed.size"})
"""Columns of the cells that are kept by cell and unit, besides means."""


VALUE, NUMBER = "unit_value", "unit_number"
"""Columns of the table of units; their names are not those of the study's columns, which may be called anything."""


@dataclass(frozen=True)
class UnitTable:
    """A table of sampled units, with the columns ``VALUE`` and ``NUMBER``; ``column`` : whose values they are among the study's.

    ``partition`` : column of the study's rows and of the table, where each partition has its own units.
    """

    name: str
    column: str
    partition: str | None = None

    @property
    def input(self) -> str:
        """SQL over a row: the number of its unit, null of one that is not in the table."""
        return f"sampled_unit.{NUMBER}"

    @property
    def join(self) -> str:
        """SQL that adds the table to the study's rows."""
        joined = f"\n    left join {self.name} as sampled_unit on study.{quote(self.column)} = sampled_unit.{VALUE}"
        if self.partition is None:
            return joined
        own = quote(self.partition)
        return f"{joined} and study.{own} is not distinct from sampled_unit.{own}"

    def kept(self, columns: Mapping[str, str]) -> dict[str, str]:
        """Those of the cells' columns that are kept, and the unit."""
        return kept_columns(columns) | {UNIT: UNIT}


def kept_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """Those of the cells' columns that are kept by cell and unit."""
    return {name: sql for name, sql in columns.items() if name in SUMS or name.startswith("mean.")}
