"""The relation of line items: where it is, how it is read, and a read-only connection to it. Rows are described, never copied."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from groupwise.resources import NO_WISHES, SPILL, Resources, Wishes, resources
from groupwise.source.arrow_files import register_arrow
from groupwise.source.query_errors import in_plain_words
from groupwise.source.sealing import seal
from groupwise.source.source_files import local_files, source_state
from groupwise.source.text_files.csv_refusal import csv_refusal
from groupwise.source.time_limit import close, watched
from groupwise.source.time_zones import UTC_ZONE
from groupwise.source.user_sql.statement import run
from multilevel.errors import DataError, ResourceError, SourceError
from multilevel.text import shorten

LOCK_WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0)
SPILLED = "groupwise-"
"""How the names of folders begin that are made in ``resources.spill``; then the run's id."""
ALIAS = "source"
MESSAGE_LENGTH = 300
CLOSED = ": it is no part of the declared source, which is all that a run reads; name it under source if it belongs there"
NOT_LOCAL = ": a run reads files of this machine only; copy them to one of its disks, and name the copies under source"


@dataclass(frozen=True)
class Relation:
    """One study's line items, as of a date.

    Attributes
    ----------
    study : name of the study. database : DuckDB file, or None for files. files : files or globs.
    kind : database, parquet, csv, json or arrow.
    line_items : the SELECT that gives line items, before the window.
    as_of : the day the estimates speak for. window_column, start, end : half-open window [start, end), None without a window.
    columns : name -> DuckDB type. rows : line items in the window; checksum : of their used columns, whatever their order.
    state : sizes and times of the source's files when they were described (``source_state``); empty: a connection does not check it.
    notes : sentences about files of the source that are not alike. wishes : what the study says its queries may take.
    zone : time zone of the days of the window, and of days and hours of columns that are times with a zone.
    """

    study: str
    database: str | None
    files: tuple[str, ...]
    line_items: str
    as_of: date
    kind: str = "parquet"
    window_column: str | None = None
    start: date | None = None
    end: date | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    checksum: str = ""
    state: str = ""
    notes: tuple[str, ...] = ()
    wishes: Wishes = NO_WISHES
    zone: str = UTC_ZONE

    @property
    def sql(self) -> str:
        """One SELECT with the line items of the window."""
        inner = f"select * from (\n{self.line_items}\n)"
        if self.window_column is None:
            return inner
        return f"{inner}\nwhere {self.window_condition()}"

    def window_condition(self, types: Mapping[str, str] | None = None) -> str:
        """Condition: the row is in the window; ``types``: of columns that are yet to be cast."""
        if self.window_column is None:
            return "true"
        column = quote(self.window_column)
        if types and self.window_column in types:
            column = f"try_cast({column} as {types[self.window_column]})"
        return f"{column} >= date '{self.start}' and {column} < date '{self.end}'"

    def to_json(self) -> str:
        """Text that ``from_json`` reads back."""
        return json.dumps(asdict(self), default=str, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Relation:
        """The inverse of ``to_json``."""
        values = json.loads(text)
        dates = {name: date.fromisoformat(values[name]) if values[name] else None for name in ("as_of", "start", "end")}
        made = {"files": tuple(values["files"]), "notes": tuple(values.get("notes", ())), "wishes": Wishes(**values.get("wishes", {}))}
        return cls(**{**values, **dates, **made})


def quote(identifier: str) -> str:
    """A DuckDB identifier, whatever it holds."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A DuckDB string literal, whatever it holds."""
    return "'" + text.replace("'", "''") + "'"


def connect(relation: Relation, temporary: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection of its own on which ``relation.sql`` runs: the file attached read-only, no extension fetched, resources bounded.

    It reads the declared source and ``temporary``, writes into ``temporary``, and reaches no other file (``groupwise.source.sealing``).

    Parameters
    ----------
    temporary : the run's folder, which also takes what does not fit into memory; None: no folder, and spilling to the system's own.

    Raises
    ------
    SourceError : the file stays locked by a writer, is missing, is no DuckDB file, or was written to since the relation was described.
    """
    if relation.database is None:
        _check_state(relation)
    connection = open_source(
        relation.database, relation.study, temporary, relation.files, relation.kind, wishes=relation.wishes, zone=relation.zone
    )
    # looked at only now: from here on the attached file is held against writers
    try:
        _check_state(relation)
    except SourceError:
        close(connection)
        raise
    return connection


def _check_state(relation: Relation) -> None:
    """SourceError where the source is no longer as it was described."""
    if relation.state and relation.state != source_state(relation.database, relation.files):
        source = relation.database or ", ".join(relation.files)
        raise SourceError(f"{relation.study}: {source} was written to after this run had begun to read it. Start the run again.")


def open_source(
    database: str | None,
    study: str,
    temporary: Path | None = None,
    files: Sequence[str] = (),
    kind: str = "parquet",
    *,
    wishes: Wishes = NO_WISHES,
    zone: str = UTC_ZONE,
) -> duckdb.DuckDBPyConnection:
    """``connect``, before there is a relation.

    Raises
    ------
    ResourceError : the folder to spill to cannot be written, or a variable of the environment cannot be read.
    """
    given = resources(wishes)
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
        "memory_limit": f"{given.query_memory // 1_000_000}MB",
        "threads": given.threads,
        "temp_directory": str(_spill_folder(given, temporary, study)),
    }
    if database is not None and not Path(database).is_file():
        raise SourceError(f"{study}: source.database {database} does not exist (working directory {Path.cwd()}).")
    connection = watched(duckdb.connect(config=settings))
    try:
        connection.execute(f"set TimeZone = {literal(zone)}")
        if database is not None:
            _attach(connection, database, study)
        if kind == "arrow":
            # Arrow opens its files itself: the connection need not reach them
            register_arrow(connection, [str(file) for pattern in files for file in local_files(pattern)], study)
        seal(connection, () if kind == "arrow" else files, temporary)
    except BaseException:
        close(connection)
        raise
    return connection


def _attach(connection: duckdb.DuckDBPyConnection, database: str, study: str) -> None:
    for wait in (*LOCK_WAITS_SECONDS, None):
        try:
            connection.execute(f"attach {literal(database)} as {ALIAS} (read_only)")
            # DuckDB's own names first, so that no macro of the database can stand in for a function
            connection.execute(f"set search_path = 'system.main,{ALIAS}.main'")
        except duckdb.IOException as error:
            if "could not set lock" not in str(error).lower():
                raise SourceError(f"{study}: source.database {database} cannot be read: {first_line(error)}") from error
            if wait is None:
                raise SourceError(
                    f"{study}: source.database {database} is locked by a process that writes to it{_holder(error)}. Close that connection, "
                    f"or run again when it is done ({len(LOCK_WAITS_SECONDS) + 1} attempts in {sum(LOCK_WAITS_SECONDS):g} s)."
                ) from error
            time.sleep(wait)
        except duckdb.Error as error:
            raise SourceError(f"{study}: source.database {database} cannot be opened: {first_line(error)}") from error
        else:
            return


def _holder(error: Exception) -> str:
    """Which process holds the lock, as far as DuckDB knows it."""
    found = re.search(r"held in (.+?)(?:\. See also|\.?$)", str(error).split("\n", 1)[0])
    return f" ({found.group(1)})" if found else ""


def rows_of(connection: duckdb.DuckDBPyConnection, query: str, study: str, doing: str) -> list[dict[str, Any]]:
    """Every row of a query's result by column name; what DuckDB refuses becomes a DataError that says what was being done."""
    try:
        cursor = run(connection, query)
        names: Sequence[str] = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except duckdb.Error as error:
        raise DataError(f"{study}: {doing}: {first_line(error)}") from error


def _spill_folder(given: Resources, temporary: Path | None, study: str) -> Path:
    """A folder of this connection's own, which DuckDB makes when something does not fit into memory, and removes as it is closed.

    One that is asked for gets a folder by the run's name: what a killed run leaves there can be told from what another one uses.
    """
    name = f"duckdb-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    if given.spill is None:
        return (temporary or Path(tempfile.gettempdir())) / name
    if not given.spill.is_dir() or not os.access(given.spill, os.W_OK | os.X_OK):
        raise ResourceError(
            f"{study}: the folder to spill to, {given.spill} (resources.spill, or {SPILL} in the environment), is no folder that can be "
            "written; make it, or name another."
        )
    return (given.spill / f"{SPILLED}{temporary.name if temporary is not None else name}-{name}").absolute()


def first_line(error: Exception) -> str:
    """The first line of an error, and the names that DuckDB offers instead, short enough for a message."""
    refused = csv_refusal(str(error))
    if refused is not None:
        return shorten(refused, MESSAGE_LENGTH)
    lines = [line.strip() for line in str(error).strip().split("\n")]
    offered = [line for line in lines[1:] if line.startswith(("Candidate bindings", "Did you mean"))]
    text = in_plain_words(" ".join([lines[0], *offered[:1]]))
    if "file system operations are disabled" in text:
        # the path is in the message; what follows it is DuckDB's own setting
        text = text.split(" - file system")[0]
        text += NOT_LOCAL if "://" in text else CLOSED
    elif "requires the extension" in text:
        text += NOT_LOCAL
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 3] + "..."
