"""Types that a study gives its columns (``types: {date: TIMESTAMP}``): every value is cast; one that the cast would change is refused."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from groupwise.source.relation import quote, rows_of
from multilevel.errors import DataError

SHOWN = 60
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_WIDE_DECIMAL = "decimal(38, 18)"


def cast_line_items(line_items: str, types: Mapping[str, str], columns: Mapping[str, str]) -> str:
    """The SELECT ``line_items`` with its columns in the study's types; what cannot be cast is null until ``check_casts`` has refused it."""
    wanted = {name: kind for name, kind in types.items() if columns.get(name) != kind}
    if not wanted:
        return line_items
    replaced = ", ".join(f"try_cast({quote(name)} as {kind}) as {quote(name)}" for name, kind in wanted.items())
    return f"select * replace ({replaced}) from (\n{line_items}\n)"


def check_casts(
    connection: duckdb.DuckDBPyConnection, line_items: str, window: str, types: Mapping[str, str], columns: Mapping[str, str], study: str
) -> None:
    """Raise DataError where a value of the window does not survive its cast: how many, and the first.

    Parameters
    ----------
    line_items : the SELECT before any cast. window : a condition on it; a row for which it is not known counts as inside.
    types : the study's; columns : name -> DuckDB type of ``line_items``.
    """
    wanted = {name: kind for name, kind in types.items() if columns.get(name) != kind}
    if not wanted:
        return
    picks = []
    for index, (name, kind) in enumerate(wanted.items()):
        lost = _is_lost(quote(name), columns[name], kind)
        picks += [f"count_if({lost}) as n{index}", f"min(cast({quote(name)} as varchar)) filter ({lost}) as v{index}"]
    query = f"select {', '.join(picks)} from ({line_items}) where coalesce({window}, true)"
    row = rows_of(connection, query, study, "types: the columns cannot be cast")[0]
    for index, (name, kind) in enumerate(wanted.items()):
        if row[f"n{index}"]:
            raise DataError(
                f"{study}: types: {name}: {row[f'n{index}']:,} values are no {kind}, or would be changed by the cast from {columns[name]}, "
                f"such as {str(row[f'v{index}'])[:SHOWN]!r}. Mend the source, or choose another type."
            )


def _is_lost(column: str, source: str, target: str) -> str:
    """Condition: the value is there, and its cast is null or another value."""
    cast = f"try_cast({column} as {target})"
    if source != "VARCHAR":
        kept = f"try_cast({cast} as {source}) is not distinct from {column}"
    elif target == "DATE":
        kept = f"try_cast({column} as timestamp) = {cast}"
    elif target in _WHOLE:
        kept = f"try_cast({column} as double) is not distinct from cast({cast} as double)"
    elif target.startswith("DECIMAL"):
        kept = f"try_cast({column} as {_WIDE_DECIMAL}) is not distinct from cast({cast} as {_WIDE_DECIMAL})"
    else:
        kept = "true"
    return f"({column} is not null and ({cast} is null or not coalesce({kept}, false)))"
