"""Moments once more about a cell's mean, of cells whose one pass has lost digits; the means are there, so that rows are read once."""

from __future__ import annotations

from groupwise.compression.cell_query import ANCHOR, LOST, cell_key, cell_parts, listed, subquery
from groupwise.source.relation import quote
from multilevel.cells.cell_plan import CellPlan
from multilevel.cells.column_facts import Schema
from multilevel.cells.unit_sums import CELL


def anchors(plan: CellPlan) -> dict[str, str]:
    """Columns of cells that ``second_pass_sql`` takes: the means of the rows' own values."""
    return {f"{ANCHOR}v{place}": quote(f"mean.{place}") for place in range(len(plan.features) + 1)}


def second_pass_sql(plan: CellPlan, schema: Schema, study_sql: str, cells: str) -> str:
    """The SELECT ``cells``, of gaussian cells with ``CELL`` and ``anchors``, with better moments where digits are lost, less anchors.

    ``LOST`` stays true of a cell that no row is of.
    """
    parts, last = cell_parts(plan, schema), len(plan.features)
    values = [f"v{place}" for place in range(last + 1)]
    inputs = {name: sql for name, sql in parts.inputs.items() if name in values or name in parts.keys.values()}
    away = ", ".join(f"input.{value} - lost.{ANCHOR}{value} as {value}" for value in values)
    # of values that do not vary, moments are zero and not rounding
    varies = {value: f"min({value}) < max({value})" for value in values}
    again = {f"shift_{i}": f"favg({value})" for i, value in enumerate(values)}
    for i, one in enumerate(values):
        for j, other in enumerate(values[i:], start=i):
            product = f"var_pop({one})" if i == j else f"covar_pop({one}, {other})"
            again[f"again.{i}.{j}"] = f"case when {varies[one]} and {varies[other]} then {product} * count(*) else 0e0 end"
    better = {f"mean.{i}": f'cells."mean.{i}" + coalesce(shift_{i}, 0)' for i in range(last + 1)}
    better |= {
        f"cross{name.removeprefix('again')}": f'coalesce("{name}", cells."cross{name.removeprefix("again")}")'
        for name in again
        if "." in name
    }
    better[LOST] = f"cells.{LOST} and again.{CELL} is null"
    return f"""
with cells as (
    {cells}
),

input as not materialized (
    select *, {cell_key(parts)} as {CELL} from (select {listed(inputs)} from (select * from {subquery(study_sql)}) as study) as inputs
),

away as not materialized (
    select {CELL}, {away} from input inner join (select * from cells where {LOST}) as lost using ({CELL})
),

again as (
    select {CELL}, {listed(again)} from away group by {CELL}
)

select cells.* exclude ({", ".join(anchors(plan))}) replace ({listed(better)})
from cells left join again on cells.{CELL} = again.{CELL}
"""
