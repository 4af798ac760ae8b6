"""Columns that look like the units of a sample (customers, households, stores) although the study does not say so."""

from __future__ import annotations

import re
from pathlib import Path

from groupwise.compression.cell_query import render, subquery
from groupwise.source.relation import Relation, connect, quote
from groupwise.source.time_limit import close
from groupwise.source.user_sql.statement import run
from groupwise.study.study import Study
from multilevel.formula.columns import formula_columns

PEOPLE = re.compile(r"(^|_)(customer|household|client|member|user|account|card|panelist|person|patient|subject)", re.IGNORECASE)
PLACES = re.compile(r"(^|_)(store|shop|site|branch|basket|order|session|visit)", re.IGNORECASE)
ID = re.compile(r"(^|_)(id|key|code|nr|no|number)$", re.IGNORECASE)
TYPES = ("BIGINT", "INTEGER", "SMALLINT", "UBIGINT", "UINTEGER", "HUGEINT", "VARCHAR", "UUID")
FEWEST_UNITS, FEWEST_ROWS = 10, 2.0


def unnamed_units(study: Study, relation: Relation, study_sql: str, folder: Path) -> str | None:
    """One sentence that names the likeliest; None where the study names ``sampled`` columns, or there is none.

    An id with at least ten values and two rows for each on average, which the formula does not read.
    """
    if study.sampled:
        return None
    used = {*formula_columns(study.parsed_formula), *(study.cells or ())}
    others = {name for name, kind in relation.columns.items() if name not in used and kind in TYPES}
    named = sorted(name for name in others if any(pattern.search(name) for pattern in (PEOPLE, PLACES, ID)))
    if not named:
        return None
    connection = connect(relation, folder)
    try:
        facts = ", ".join(f"approx_count_distinct({quote(name)})" for name in named)
        n_rows, *counts = run(connection, render("cell_schema", study_rows=subquery(study_sql), facts=facts)).fetchone() or (0,)
    finally:
        close(connection)
    likely = {name: int(n) for name, n in zip(named, counts, strict=False) if n >= FEWEST_UNITS and n_rows / n >= FEWEST_ROWS}
    if not likely:
        return None
    # people before the places they buy at, those before other ids; of several the one with most rows to a value
    name = min(likely, key=lambda name: (PEOPLE.search(name) is None, PLACES.search(name) is None, likely[name]))
    return (
        f"{name} looks like an id of which many line items share a value (about {likely[name]:,} values in {n_rows:,} line items), and the "
        f"formula does not group by it. If its values are a sample, write sampled: [{name}]; the run then measures what that costs"
    )
