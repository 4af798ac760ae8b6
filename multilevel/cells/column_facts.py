"""What must be known of the study's columns before the cells can be planned: types, and for a few of them counts and moments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from multilevel.errors import DataError
from multilevel.formula.columns import columns_in
from multilevel.formula.tree import Call, Column, Expression

type ColumnKind = Literal["number", "boolean", "text", "temporal"]

DISCRETE = 20
"""A numeric predictor with at most so many distinct values joins the key under gaussian; beyond, moments are kept (both are exact)."""

COMBINATIONS = 1_000
"""All such predictors together may split a group's rows into at most so many cells; the rest keep their moments instead."""


FEW_CELLS = 200_000
"""Cells up to which it does not matter how many a predictor makes of each."""

MOST_MORE = 2
"""Times as many cells as the grouping columns make, beyond which a predictor keeps its moments: a subject's ten dates are one cell."""


@dataclass(frozen=True)
class Schema:
    """Facts about the columns of one study's rows.

    kinds : column -> number, boolean, text or temporal.
    distinct : numeric column -> about how many distinct values (only for the numeric predictors of a gaussian study).
    moments : expression label inside ``center()`` or ``scale()`` -> its mean and sample sd (n - 1) over all rows.
    n_rows : rows, where a scan was needed, else None.
    integers : columns of whole numbers, whose text is that of the number.
    scattered : numeric columns that would make many cells of each cell, however few values they have.
    wide : numeric column -> its DuckDB type, where that holds numbers which a double does not.
    """

    kinds: Mapping[str, ColumnKind]
    distinct: Mapping[str, int] = field(default_factory=dict)
    moments: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    n_rows: int | None = None
    integers: frozenset[str] = frozenset()
    scattered: frozenset[str] = frozenset()
    wide: Mapping[str, str] = field(default_factory=dict)

    def kind(self, column: str) -> ColumnKind:
        """Kind of a column.

        Raises
        ------
        DataError
            If the rows have no such column; the message lists those that there are.
        """
        if column not in self.kinds:
            raise DataError(f"The rows have no column `{column}`, which the formula names. They have: {', '.join(sorted(self.kinds))}.")
        return self.kinds[column]

    def is_categorical(self, expression: Expression) -> bool:
        """Text, boolean and temporal columns, and anything inside ``C()``, are categorical predictors."""
        if isinstance(expression, Call):
            return expression.function == "C"
        return isinstance(expression, Column) and self.kind(expression.name) != "number"

    @property
    def discrete(self) -> frozenset[str]:
        """Columns with so few distinct values that they can join the key without many more cells, those with fewest first."""
        joined = {name for name, kind in self.kinds.items() if kind == "boolean"}
        combinations = 1
        for name, count in sorted(self.distinct.items(), key=lambda item: item[1]):
            if name in self.scattered:
                continue
            combinations *= max(count, 1)
            if count <= DISCRETE and combinations <= COMBINATIONS:
                joined.add(name)
        return frozenset(joined)

    def is_fixed_by(self, expression: Expression, groups: Collection[str]) -> bool:
        """Whether a numeric expression is a function of grouping columns and of columns that can join the key."""
        discrete = self.discrete
        return all(name in groups or name in discrete for name in columns_in(expression))
