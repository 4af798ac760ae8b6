"""The relation of line items: where it is, how it is read, and a read-only connection to it. Rows are described, never copied."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import duckdb

from multilevel.errors import SourceError

LOCK_ATTEMPTS = 5
LOCK_WAIT_SECONDS = 1.0
MEMORY_SHARE = 0.4
MEMORY_LIMIT_GB = 4.0
ALIAS = "source"


@dataclass(frozen=True)
class Relation:
    """One study's line items, as of a date.

    Attributes
    ----------
    study : name of the study. database : DuckDB file, or None for Parquet. parquet : files or globs.
    line_items : the SELECT that gives line items, before the window.
    as_of : the day the estimates speak for. window_column, start, end : half-open window [start, end), None without a window.
    columns : name -> DuckDB type. rows : line items in the window; checksum : of their used columns, whatever their order.
    """

    study: str
    database: str | None
    parquet: tuple[str, ...]
    line_items: str
    as_of: date
    window_column: str | None = None
    start: date | None = None
    end: date | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    checksum: str = ""

    @property
    def sql(self) -> str:
        """One SELECT with the line items of the window."""
        inner = f"select * from (\n{self.line_items}\n)"
        if self.window_column is None:
            return inner
        column = quote(self.window_column)
        return f"{inner}\nwhere {column} >= date '{self.start}' and {column} < date '{self.end}'"

    def to_json(self) -> str:
        """Text that ``from_json`` reads back."""
        return json.dumps(asdict(self), default=str, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Relation:
        """The inverse of ``to_json``."""
        values = json.loads(text)
        dates = {name: date.fromisoformat(values[name]) if values[name] else None for name in ("as_of", "start", "end")}
        return cls(**{**values, **dates, "parquet": tuple(values["parquet"])})


def quote(identifier: str) -> str:
    """A DuckDB identifier, whatever it holds."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A DuckDB string literal, whatever it holds."""
    return "'" + text.replace("'", "''") + "'"


def connect(relation: Relation, temporary: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection of its own on which ``relation.sql`` runs: the file attached read-only, UTC, no extension fetched, memory bounded.

    A file that a writer holds is tried again for some seconds. Raises SourceError where it stays locked, is missing or is no DuckDB file.
    """
    return open_source(relation.database, relation.study, temporary)


def open_source(database: str | None, study: str, temporary: Path | None = None) -> duckdb.DuckDBPyConnection:
    """``connect``, before there is a relation."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": f"{memory_limit_gb():.1f}GB",
    }
    if temporary is not None:
        settings["temp_directory"] = str(temporary)
    connection = duckdb.connect(config=settings)
    connection.execute("set TimeZone = 'UTC'")
    if database is None:
        return connection
    if not Path(database).is_file():
        connection.close()
        raise SourceError(f"{study}: source.database {database} does not exist (working directory {Path.cwd()}).")
    try:
        _attach(connection, database, study)
    except SourceError:
        connection.close()
        raise
    return connection


def _attach(connection: duckdb.DuckDBPyConnection, database: str, study: str) -> None:
    for attempt in range(LOCK_ATTEMPTS):
        try:
            connection.execute(f"attach {literal(database)} as {ALIAS} (read_only)")
            connection.execute(f"use {ALIAS}")
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise SourceError(
                    f"{study}: source.database {database} is not a DuckDB file that can be read: {first_line(error)}"
                ) from error
            if attempt + 1 == LOCK_ATTEMPTS:
                message = (
                    f"{study}: source.database {database} is locked by a process that writes to it. Close that connection, or "
                    f"run again when it is done ({LOCK_ATTEMPTS} attempts in {LOCK_ATTEMPTS * LOCK_WAIT_SECONDS:.0f} s)."
                )
                raise SourceError(message) from error
            time.sleep(LOCK_WAIT_SECONDS)
        except duckdb.Error as error:
            raise SourceError(f"{study}: source.database {database} cannot be opened: {first_line(error)}") from error
        else:
            return


def memory_limit_gb() -> float:
    """What DuckDB may use: 40 % of the machine's memory, at most 4 GB, so that a sampler beside it has room."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return min(MEMORY_LIMIT_GB, MEMORY_SHARE * total)


def first_line(error: Exception) -> str:
    """The first line of an error, short enough for a message."""
    text = str(error).strip().split("\n", 1)[0]
    return text if len(text) <= 300 else text[:297] + "..."
