"""The profile of the columns that a study names, as ``plan`` shows it."""

from __future__ import annotations

from pathlib import Path

from groupwise.source.describe import used_columns
from groupwise.source.relation import Relation, connect, quote
from groupwise.source.time_limit import close
from groupwise.starting.table_profile import profile
from groupwise.study.study import Study


def data_lines(study: Study, relation: Relation, folder: Path) -> list[str]:
    """Sentences on the line items of the window, before rules and exclusions."""
    named = [*used_columns(study), *study.missing, *([study.window.column] if study.window else [])]
    types = {name: relation.columns[name] for name in dict.fromkeys(named) if name in relation.columns}
    if not types:
        return []
    connection = connect(relation, folder)
    try:
        found = profile(connection, f"select {', '.join(map(quote, types))} from ({relation.sql})", types, duplicates=False)
    finally:
        close(connection)
    return found.lines()
