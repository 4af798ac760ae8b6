"""Time zones as DuckDB knows them: whose days a window counts, and what a time with a zone reads on a clock there."""

from __future__ import annotations

import difflib
from datetime import UTC, date, datetime
from functools import cache

UTC_ZONE = "UTC"


def check_time_zone(name: str) -> None:
    """Raise ValueError, with a name that is close, unless ``name`` is a time zone such as Europe/Berlin."""
    known = _names()
    if name not in known:
        by_fold = {one.casefold(): one for one in known}
        close = difflib.get_close_matches(name[:60].casefold().replace(" ", "_"), by_fold, n=1)
        places = {one.rpartition("/")[2].casefold(): one for one in sorted(known, key=len, reverse=True) if "/" in one}
        near = difflib.get_close_matches(name[:60].casefold().replace(" ", "_"), places, n=1)
        meant = by_fold[close[0]] if close else places[near[0]] if near else "Europe/Berlin"
        raise ValueError(f"write the name of a time zone such as {meant}")


def local_day(moment: datetime, zone: str) -> date:
    """The day of a moment that has a zone of its own."""
    if zone == UTC_ZONE:
        return moment.astimezone(UTC).date()
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"set TimeZone = '{zone}'")
        text = moment.astimezone(UTC).isoformat()
        row = connection.execute("select cast(cast($moment as timestamptz) as date)", {"moment": text}).fetchone()
    assert row is not None
    found: date = row[0]
    return found


@cache
def _names() -> frozenset[str]:
    import duckdb

    with duckdb.connect() as connection:
        return frozenset(row[0] for row in connection.execute("select name from pg_timezone_names()").fetchall())
