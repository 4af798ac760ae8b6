"""Two-part (hurdle) studies on the page: both parts' terms are told apart by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from groupwise.report.subject import Subject
from multilevel.design.parts import PARTS
from multilevel.families.two_part import TWO_PART

INTERCEPTS = ("Intercept", *(f"Intercept ({part})" for part in PARTS))

_TOLD_APART = ("population_coefficients", "variance_components", "group_coefficients")


def told_apart(tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """The tables with terms as ``sale (amount)`` where there are two parts; those of one-part studies as they are."""
    return {name: _with_parts(table) if name in _TOLD_APART else table for name, table in tables.items()}


def of_part(subject: Subject, part: str) -> Subject:
    """One part of a two-part study as a study of its own."""
    both = TWO_PART[subject.family]
    family = both.amount if part == "amount" else both.occurrence
    tables = {name: _only(table, part) if name in _TOLD_APART else table for name, table in subject.tables.items()}
    formula = "log(y) ~" if part == "amount" and both.log_amount else "y ~"
    return replace(subject, tables=tables, study={**subject.study, "family": family.name, "formula": formula})


def _with_parts(table: pa.Table) -> pa.Table:
    if "part" not in table.column_names or table.column("part").null_count == table.num_rows:
        return table
    parts = table.column("part").to_pylist()
    for name in {"term", "other_term"} & set(table.column_names):
        terms = table.column(name).to_pylist()
        marked = [None if term is None else f"{term} ({part})" for term, part in zip(terms, parts, strict=True)]
        table = table.set_column(table.column_names.index(name), name, pa.array(marked, pa.string()))
    return table


def _only(table: pa.Table, part: str) -> pa.Table:
    table = table.filter(pc.field("part") == part)
    for name in {"term", "other_term"} & set(table.column_names):
        plain = pc.replace_substring(table.column(name), f" ({part})", "")
        table = table.set_column(table.column_names.index(name), name, plain)
    return table
