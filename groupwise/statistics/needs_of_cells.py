"""What a study needs of every line item, as far as its cells tell: the line items are then not asked one by one.

A column of the key is the same in a whole cell. A mean is finite where all values are, and none of as many values as line items is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from groupwise.compression.cell_query import CellParts
from groupwise.compression.sql_expressions import TABLE, as_sql
from groupwise.source.relation import quote
from groupwise.validation.row_scan import RowScan
from multilevel.cells.cell_plan import CellPlan
from multilevel.families.registry import is_linear
from multilevel.formula.tree import Call, Column, Expression, Operation

FILLED = "n_filled"
"""Line items of a cell that have all values whose means tell that they are finite."""


@dataclass(frozen=True)
class NeedsOfCells:
    """Which needs of ``rows`` the cells of ``plan`` tell of, by their places in ``rows.needs``; the rest is asked of line items."""

    rows: RowScan
    plan: CellPlan
    parts: CellParts

    @cached_property
    def of_keys(self) -> list[int]:
        """Those that are of columns of the key."""
        keys = {key.name for key in self.parts.keys if isinstance(key, Column)}
        return [place for place, need in enumerate(self.rows.needs) if keys.issuperset(need.columns)]

    @cached_property
    def of_means(self) -> list[int]:
        """Those that hold where ``are_kept_sql`` does; where it does not, nothing is known of them."""
        told = {condition for expression, _ in self._values for condition in self._told(expression)}
        return [place for place, need in enumerate(self.rows.needs) if need.breaks in told and place not in self.of_keys]

    @property
    def asked(self) -> list[int]:
        """The others."""
        return [place for place in range(len(self.rows.needs)) if place not in {*self.of_keys, *self.of_means}]

    @property
    def filled_sql(self) -> dict[str, str]:
        """The aggregate over inputs that ``are_kept_sql`` takes."""
        return {FILLED: f"count({' + '.join(f'v{place}' for _, place in self._values)})"} if self.of_means else {}

    @property
    def are_kept_sql(self) -> str:
        """Aggregate over cells: whether the needs ``of_means`` are kept."""
        finite = "".join(f' and isfinite("mean.{place}")' for _, place in self._values)
        return f"coalesce(bool_and({FILLED} = n{finite}), true)" if self.of_means else "true"

    def counts_sql(self) -> dict[str, str]:
        """Aggregates over cells that have the key's columns by their names: line items that break each of the needs ``of_keys``."""
        needs = self.rows.needs
        return {f"breaking {place}": f"coalesce(sum(n) filter ({needs[place].breaks}), 0)" for place in self.of_keys}

    @cached_property
    def _values(self) -> Sequence[tuple[Expression, int]]:
        """What a moment is of, alone, and its place."""
        if not is_linear(self.plan.family) or self.plan.has_weights:
            return ()
        found: list[tuple[Expression, int]] = []
        for place, product in enumerate(self.plan.features):
            mean = self.plan.centred_feature(product)
            if len(product) == 1:
                found.append((product[0] if mean is None else mean.value, place))
        return [*found, (self.plan.outcome, len(self.plan.features))]

    def _told(self, expression: Expression) -> list[str]:
        """Conditions that no line item meets where the values of an expression are there and finite."""
        found = [f"(not isfinite({as_sql(expression, {})}))"] if _is_of_one_row(expression) else []
        inner = expression
        if isinstance(expression, Call) and expression.function == "log":
            # DuckDB has no logarithm of zero, and of no number below it
            inner = expression.arguments[0]
            found += [f"({as_sql(inner, {})} <= 0)", f"(not isfinite({as_sql(inner, {})}))"]
        if isinstance(inner, Column):
            own = f"{TABLE}.{quote(inner.name)}"
            found += [f"({own} is null)", f"({own} is null or not isfinite({own}))"]
        return found


def _is_of_one_row(expression: Expression) -> bool:
    """Whether SQL of the expression is that of a need: ``within`` and ``between`` are of a level."""
    match expression:
        case Call("within" | "between", _):
            return False
        case Call(_, parts) | Operation(_, parts):
            return all(map(_is_of_one_row, parts))
        case _:
            return True
