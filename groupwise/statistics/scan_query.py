"""One query for all that a run needs of its line items: several aggregations of rows that are read once, and what follows from them.

The cells of the scan have the finest key that the study's plan could have. Those of a plan with a coarser key are sums of them: where a
predictor is the same in every line item of a cell, its moments follow from the others' (Chan, Golub and LeVeque 1983).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from groupwise.compression.cell_query import PARTITION as FLAGGED
from groupwise.compression.cell_query import CellParts, cell_key, cell_known, cell_parts, cells_with_means, listed, subquery
from groupwise.compression.second_pass import anchors
from groupwise.compression.sql_expressions import as_sql
from groupwise.compression.unit_table import kept_columns
from groupwise.source.fingerprint import hash_sums
from groupwise.source.relation import quote
from groupwise.statistics.sums import added_sql
from multilevel.cells.cell_plan import MOST_OUTCOMES, CellPlan, feature_label
from multilevel.cells.column_facts import Schema
from multilevel.cells.unit_sums import CELL, UNIT
from multilevel.families.registry import is_linear, statistics_of
from multilevel.formula.tree import Expression

SCAN = "memory.main.window_scan"
"""The table that the query fills."""
PART = "scan_part"
"""Column that says which aggregation a row is of: one of ``CELLS`` to ``EVERYONE``, the last two with the place of a sampled column."""
CELLS, OUTCOMES, HISTOGRAM, ALIKE, UNITS, EVERYONE = "cells", "outcomes", "histogram", "alike", "units ", "everyone "
KEPT, LINE_HASH, VALUE, SIZE = "is_kept", "line_hash", "outcome_value", "outcome_size"
LARGEST = 2**64 - 1
"""Largest hash."""


@dataclass(frozen=True)
class WindowScan:
    """The query, and SQL over the table that it fills.

    plan, schema : the plan with the finest key. rows : SELECT of the line items. flagged, kept, line_hash : SQL over ``study``, those rows:
        what a line item is counted by (a plain number where it is the same of all), whether it is left, its hash.
    unique : for each rule that compares line items, which it looks at, and the values that must differ, as SQL over ``study``.
    units : sampled column -> the largest hash of a unit that sums are taken of. with_outcomes : whether single rows' outcomes are counted.
    filled : further aggregates of cells.
    """

    plan: CellPlan
    schema: Schema
    rows: str
    flagged: str
    kept: str
    line_hash: str
    unique: Sequence[tuple[str, Sequence[str]]]
    units: Mapping[str, int]
    with_outcomes: bool
    filled: dict[str, str]

    @cached_property
    def parts(self) -> CellParts:
        """The plan as select lists."""
        return cell_parts(self.plan, self.schema)

    @property
    def sql(self) -> str:
        """The query: ``PART``, and the columns of each aggregation, null in the others."""
        parts, units = self.parts, {f"unit_{place}": f"study.{quote(name)}" for place, name in enumerate(self.units)}
        is_one = self.flagged.isdigit()
        inputs = parts.inputs | ({} if is_one else {FLAGGED: self.flagged}) | {LINE_HASH: self.line_hash} | units
        flagged = f"cast({self.flagged} as bigint)" if is_one else FLAGGED
        selects = [_select(CELLS, parts.aggregates | {FLAGGED: flagged} | hash_sums(LINE_HASH) | self.filled, "")]
        for place, (unit, most) in enumerate(zip(units, self.units.values(), strict=True)):
            condition = f"{KEPT} and {unit} is not null" + (f" and hash({unit}) <= {most}" if most < LARGEST else "")
            selects.append(_select(f"{UNITS}{place}", parts.aggregates | {unit: unit}, condition))
            if most < LARGEST:
                everyone = f"(select distinct {unit} from input where {KEPT} and {unit} is not null) as every_unit"
                selects.append(f"select '{EVERYONE}{place}' as {PART}, cast(count(*) as bigint) as n from {everyone}")
        counted = {"n": "cast(count(*) as bigint)", VALUE: "cast(outcome as double)"}
        if self.with_outcomes:
            pair = {alias: alias for alias in parts.keys.values()} | counted | {SIZE: f"cast({self._size} as double)"}
            selects.append(f"select * from ({_select(OUTCOMES, pair, KEPT)}) as pairs limit {MOST_OUTCOMES + 1}")
        if self.needs_histogram:
            selects.append(_select(HISTOGRAM, counted, KEPT))
        for rule, (applies, values) in enumerate(self.unique):
            alike = {f"alike_{rule}_{place}": sql for place, sql in enumerate(values)}
            inputs = inputs | {f"applies_{rule}": applies} | alike
            counts = f"select count(*) as alike from input where applies_{rule} group by {', '.join(alike)}"
            selects.append(f"select '{ALIKE}' as {PART}, cast(count_if(alike > 1) as bigint) as n from ({counts}) as counts")
        if len(selects) > 1:
            inputs = inputs | {KEPT: self.kept}
        # rows that several aggregations read go to all of them as they come, and are kept nowhere
        read = "materialized" if len(selects) > 1 else "not materialized"
        rows = f"with study as not materialized (\n    select * from {subquery(self.rows)}\n)"
        together = "\nunion all by name\n".join(f"({one})" for one in selects)
        return f"{rows},\n\ninput as {read} (\n    select {listed(inputs)}\n    from study\n)\n\n{together}"

    @property
    def needs_histogram(self) -> bool:
        """Whether the distinct outcomes are needed, and how often they occur."""
        return statistics_of(self.plan.family).distinct_outcomes != "not needed"

    @property
    def _size(self) -> str:
        return "trials" if "trials" in self.parts.inputs else "exp(log_exposure)" if "log_exposure" in self.parts.inputs else "1"

    def key_rows_sql(self, names: Mapping[Expression, str], kept: str, *more: str) -> str:
        """SELECT of a row for every cell: parts of the key, as the line items have them. ``kept`` : SQL over cells, which ones."""
        picks = ", ".join([*(f"{self.parts.keys[part]} as {quote(name)}" for part, name in names.items()), *more]) or "1 as one"
        return f"select {picks} from {SCAN} where {PART} = '{CELLS}' and {kept}"

    def cells_sql(self, plan: CellPlan, schema: Schema, kept: Sequence[int]) -> str:
        """SELECT of the cells by a plan whose key is that of the scan or coarser, with ``CELL`` and ``anchors``; of the flags ``kept``."""
        parts = cell_parts(plan, schema)
        is_same = plan == self.plan and len(kept) <= 1
        flagged = f"{FLAGGED} in ({', '.join(map(str, kept))})" if kept else "false"
        cell = self._added(plan, schema, parts, f"{PART} = '{CELLS}' and {flagged}", None, is_same=is_same)
        columns = parts.columns | {CELL: cell_key(parts)} | (anchors(plan) if is_linear(plan.family) else {})
        return f"with cell as (\n{cell}\n)\nselect {listed(columns)} from {cells_with_means(parts)}"

    def units_sql(self, plan: CellPlan, schema: Schema, kept: Sequence[int], place: int, numbers: str) -> str:
        """SELECT of the sums by cell and unit; ``numbers`` : table expression with a unit's ``VALUE`` and its number ``UNIT``."""
        parts = cell_parts(plan, schema)
        own = self._added(plan, schema, parts, f"{PART} = '{UNITS}{place}'", f"unit_{place}", is_same=plan == self.plan)
        flagged = f"{FLAGGED} in ({', '.join(map(str, kept))})"
        whole = self._added(plan, schema, parts, f"{PART} = '{CELLS}' and {flagged}", None, is_same=False)
        columns = kept_columns(parts.columns | {CELL: cell_key(parts)})
        cells = f"with cell as (\n{own}\n)" + (f",\n\nwhole as (\n{whole}\n)" if parts.from_cells else "")
        joined = f"{cells_with_means(parts, 'whole')} inner join {numbers} as numbered on cell.unit_value = numbered.{VALUE}"
        return f"{cells}\nselect {listed(columns)}, numbered.{UNIT} from {joined}"

    def outcomes_sql(self, parts: CellParts) -> str:
        """SELECT of ``CELL`` and its ``outcomes``, a map from outcome and size to line items."""
        keys = ", ".join(self._key(expression) + f" as {alias}" for expression, alias in parts.keys.items())
        pairs = f"select {keys}, {VALUE}, {SIZE}, n from {SCAN} where {PART} = '{OUTCOMES}'"
        entry, order = f"struct_pack(value := {VALUE}, size := {SIZE})", f"order by {VALUE}, {SIZE}"
        maps = f"map(list({entry} {order}), list(n {order})) as outcomes"
        return f"select {cell_key(parts)} as {CELL}, {maps} from ({pairs}) as pairs group by {', '.join(parts.keys.values())}"

    def _added(self, plan: CellPlan, schema: Schema, parts: CellParts, condition: str, unit: str | None, *, is_same: bool) -> str:
        """SELECT of keys and aggregates by a plan's key, as ``cell_parts`` names them."""
        picks = {alias: self._key(expression) for expression, alias in parts.keys.items()} | self._derived(plan, schema, parts)
        if unit is not None:
            picks = {"unit_value": unit} | picks
        part = f"select {listed(picks)} from {SCAN} where {condition}"
        if is_same:
            return part
        names = list(picks)
        keyed = f"select *, {cell_key(parts)} as {CELL} from ({part}) as parts"
        if unit is None:
            return f"select * exclude ({CELL}) from ({added_sql(f'({keyed}) as cells', [CELL, *names])}) as added"
        names = [name for name in names if name != "unit_value"]
        keyed = f"select * rename (unit_value as {UNIT}) from ({keyed}) as parts"
        return (
            f"select * exclude ({CELL}) rename ({UNIT} as unit_value) from ({added_sql(f'({keyed}) as cells', [CELL, UNIT, *names])}) as a"
        )

    def _key(self, expression: Expression) -> str:
        return self.parts.keys[expression]

    def _derived(self, plan: CellPlan, schema: Schema, parts: CellParts) -> dict[str, str]:
        """A plan's aggregates of a cell, from those that the scan's plan has of it."""
        own = {name: quote(name) for name in self.parts.aggregates if name not in self.parts.keys.values()}
        if plan == self.plan or not is_linear(plan.family):
            return own
        values = [self._value(plan, schema, parts, product) for product in plan.features] + [("1e0", len(self.plan.features))]
        found = {name: sql for name, sql in own.items() if not name.startswith(("mean.", "cross."))}
        for i, (factor, place) in enumerate(values):
            found[f"mean.{i}"] = factor if place is None else f'{factor} * "mean.{place}"'
            for j, (other, second) in enumerate(values[i:], start=i):
                ends = sorted(one for one in (place, second) if one is not None)
                is_fixed = len(ends) < 2
                found[f"cross.{i}.{j}"] = "0e0" if is_fixed else f'{factor} * {other} * "cross.{ends[0]}.{ends[1]}"'
        return found

    def _value(self, plan: CellPlan, schema: Schema, parts: CellParts, product: tuple[Expression, ...]) -> tuple[str, int | None]:
        """A feature as SQL over the scan's cells that is one number in each, times the scan's feature at a place; None: times nothing."""
        mean = plan.centred_feature(product)
        fixed = [expression for expression in product if expression in self.plan.numbers]
        rest = tuple(expression for expression in product if expression not in self.plan.numbers)
        # of within(x, g) the rows' own x is kept; the level's mean is taken off afterwards
        values = [mean.value] if mean is not None and fixed else fixed
        known = cell_known(self.parts.keys, {})
        factor = " * ".join(as_sql(value, schema.moments, known) for value in values) or "1e0"
        return f"({factor})", self.plan.feature_labels.index(feature_label(rest)) if rest else None


def _select(part: str, picks: Mapping[str, str], condition: str) -> str:
    where = f" where {condition}" if condition else ""
    return f"select '{part}' as {PART}, {listed(picks)} from input{where} group by all"
