"""What becomes of a line item, and what it is counted by, as the bits of one number: cells by that number give every count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from groupwise.source.relation import quote
from groupwise.validation.missing_values import level_conditions
from groupwise.validation.row_scan import FLAGS, RowScan, flag, select_list

MOST_FLAGS = 60


def scan_conditions(rows: RowScan, asked: Sequence[int]) -> dict[str, str]:
    """What line items are counted by, over ``flagged_sql``: as the step that checks them does, and what ``missing: level`` must not meet.

    asked : places of the needs that line items are asked for.
    """
    needs = {f"breaking {place}" for place in range(len(rows.needs)) if place not in asked}
    own = {name: sql for name, sql in rows.conditions().items() if name not in needs}
    return own | {name: quote(FLAGS + name) for name in level_conditions(rows.study, rows.types)}


def level_flags(rows: RowScan) -> dict[str, str]:
    """Further columns of ``flagged_sql``: the conditions that ``missing: level`` must not meet together, of line items that are left."""
    return {FLAGS + name: f"{flag('is kept')} and {sql}" for name, sql in level_conditions(rows.study, rows.types).items()}


def packed_sql(rows: RowScan, conditions: Mapping[str, str], asked: Sequence[int]) -> str:
    """SQL over ``flagged_sql``: a bit for each condition. They are written out only for line items that are not like most.

    A plain number where nothing can become of a line item but one thing.
    """
    whole = " + ".join(f"(cast(coalesce({sql}, false) as bigint) << {place})" for place, sql in enumerate(conditions.values()))
    usual = [name for name in conditions if name == "left" or name.startswith("checked ")]
    packed = sum(1 << list(conditions).index(name) for name in usual)
    holds = [conditions[name] for name in usual if name != "left" or not rows.keeps_all]
    wrong = [sql for name, sql in conditions.items() if name.startswith(("unexpected ", "absent ", "said "))]
    # what is not known of a value is found out with the others
    holds += [f"not {sql}" for sql in dict.fromkeys([*wrong, *(rows.needs[place].breaks for place in asked)])]
    return f"case when {' and '.join(holds)} then {packed} else {whole} end" if holds else str(packed)


def flagged_rows(rows: RowScan, more: Mapping[str, str]) -> str:
    """``flagged_sql`` with further columns."""
    return rows.flagged_sql(f", {select_list(more)}" if more else "")
