"""What a study declares as its source: the files behind it, the table that they are, and the study's own query on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from groupwise.source.file_kinds import ARROW_TABLE
from groupwise.source.relation import ALIAS, first_line, quote
from groupwise.source.sealing import readable
from groupwise.source.shards.shard_select import parquet_table
from groupwise.source.source_files import is_remote, local_files
from groupwise.source.source_table import ColumnUse, SourceTable
from groupwise.source.text_files.csv_table import csv_table
from groupwise.source.text_files.json_table import json_table
from groupwise.source.user_sql.objects import SourceObjects, read_objects
from groupwise.source.user_sql.sql_errors import RefusedSqlError, sentence
from groupwise.source.user_sql.statement import one_statement
from groupwise.source.user_sql.user_query import check_query
from groupwise.study.study import Study
from groupwise.study.study_source import CsvOptions
from groupwise.study.user_text import read_user_file
from multilevel.errors import SourceError, StudyError
from multilevel.text import shorten

NAME = "source"
"""The one relation that a query on files reads."""
MOST_TABLES = 8


@dataclass(frozen=True)
class Located:
    """A source with absolute paths. ``query`` : the text of the study's SQL file, None without one."""

    kind: str
    database: str | None
    files: tuple[str, ...]
    query: str | None


def locate(study: Study) -> Located:
    """Where the study's source is; SourceError where there is no such file, or it can only be elsewhere."""
    source = study.source
    query = None if source.line_items is None else _query(study, source.line_items)
    database = None if source.database is None else str(Path(source.database).absolute())
    if database is not None and not Path(database).is_file():
        raise SourceError(f"{study.name}: source.database {source.database} does not exist (working directory {Path.cwd()}).")
    return Located(source.kind, database, _absolute_patterns(study), query)


def read_source(
    connection: duckdb.DuckDBPyConnection, study: Study, source: Located, use: ColumnUse, folder: Path, *, everything: bool = False
) -> SourceTable:
    """The study's line items as one SELECT, without casts and window.

    Parameters
    ----------
    use : where the study names columns. folder : the run's. everything : as if it named all of them.

    Raises
    ------
    SourceError : the files cannot be read as one table, or the query is refused or does not run.
    """
    if source.query is not None:
        # what the query does with columns is not looked into
        use = replace(use, texts=(*use.texts, source.query))
    if source.kind == "database":
        query = source.query if source.query is not None else _only_table(connection, study)
        _check_query(study, query, read_objects(connection, ALIAS))
        return SourceTable(query)
    table = _files_table(connection, study, source, use, folder, everything=everything or _takes_all(source.query))
    if source.query is None:
        return table
    _check_query(study, source.query, SourceObjects(schemas=frozenset(), tables=frozenset({NAME})))
    # inlined, so that only the columns and rows that the query needs are read
    return replace(table, sql=f"with {NAME} as not materialized (\n{table.sql}\n) select * from (\n{source.query}\n)")


def source_columns(connection: duckdb.DuckDBPyConnection, line_items: str, study: Study) -> dict[str, str]:
    """Name -> DuckDB type of the line items; SourceError where they cannot be read."""
    shown = study.source.line_items or study.source.shown
    try:
        relation = connection.sql(one_statement(f"select * from (\n{line_items}\n)"))
    except duckdb.Error as error:
        reads_files = study.source.line_items is not None and study.source.kind != "database"
        hint = f"; the files are one relation, which the query reads by the name {NAME}" if reads_files else ""
        raise SourceError(f"{study.name}: {shown} cannot be read from this source: {first_line(error)}{hint}") from error
    return {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}


def _files_table(
    connection: duckdb.DuckDBPyConnection, study: Study, source: Located, use: ColumnUse, folder: Path, *, everything: bool
) -> SourceTable:
    match source.kind:
        case "parquet":
            patterns = [file for pattern in source.files for file in readable(pattern)]
            return parquet_table(connection, patterns, use, study.name, with_folders=study.source.hive)
        case "csv":
            options = study.source.options or CsvOptions()
            return csv_table(connection, _each(source.files), options, use, f"{study.name}: source.csv", folder, everything=everything)
        case "json":
            return json_table(connection, _each(source.files), f"{study.name}: source.json")
        case _:
            return SourceTable(f"select * from {quote(ARROW_TABLE)}")


def _takes_all(query: str | None) -> bool:
    """Whether a query may read columns that it does not name."""
    return query is not None and ("*" in query or "columns" in query.lower() or "exclude" in query.lower())


def _each(patterns: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(str(file) for pattern in patterns for file in local_files(pattern)))


def _absolute_patterns(study: Study) -> tuple[str, ...]:
    """The files or globs, none that matches nothing."""
    source = study.source
    field = f"{study.name}: source.{source.kind}"
    for pattern in source.files:
        if is_remote(pattern) and source.kind != "parquet":
            raise SourceError(f"{field} {pattern}: a run reads files of this machine only; copy them to one of its disks.")
        try:
            is_empty = not is_remote(pattern) and not local_files(pattern)
        except SourceError as error:
            raise SourceError(f"{field} {error}") from error
        if is_empty and Path(pattern).is_dir():
            raise SourceError(f"{field} {pattern} is a folder; name its files, such as {Path(pattern) / '*.parquet'}.")
        if is_empty:
            raise SourceError(f"{field} {pattern} matches no file (working directory {Path.cwd()}).")
    return tuple(pattern if is_remote(pattern) else str(Path(pattern).absolute()) for pattern in source.files)


def _only_table(connection: duckdb.DuckDBPyConnection, study: Study) -> str:
    """The one table or view of a database without a query."""
    found = connection.execute(
        "select table_schema, table_name from information_schema.tables where table_catalog = $name order by all", {"name": ALIAS}
    ).fetchall()
    names = [name if schema == "main" else f"{schema}.{name}" for schema, name in found]
    if len(found) != 1:
        shown = ", ".join(shorten(name, 60) for name in names[:MOST_TABLES]) + (", ..." if len(names) > MOST_TABLES else "")
        has = f"has {len(names)} tables and views ({shown})" if names else "has no table"
        raise SourceError(
            f"{study.name}: source.database {study.source.database} {has}; write line_items: query.sql, a file with one SELECT that gives "
            "line items."
        )
    return f"select * from {quote(found[0][0])}.{quote(found[0][1])}"


def _query(study: Study, name: str) -> str:
    """The text of the study's SQL file."""
    path = Path(name)
    try:
        text = read_user_file(path, "file with one SELECT")
    except StudyError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            text = _packaged(path, study)
        else:
            raise SourceError(f"{study.name}: source.line_items: {error}") from error
    return text.strip().removesuffix(";")


def _packaged(path: Path, study: Study) -> str:
    """The project's own queries are package data, so that a study runs from any working directory."""
    from sql import read_query

    if path.parent == Path("sql"):
        try:
            return read_query(path.stem)
        except FileNotFoundError:
            pass
    raise SourceError(f"{study.name}: source.line_items {path} does not exist (working directory {Path.cwd()}).")


def _check_query(study: Study, query: str, objects: SourceObjects) -> None:
    """The user's query is one SELECT over the declared source, or refused before it is run."""
    try:
        check_query(query, objects)
    except RefusedSqlError as error:
        raise SourceError(f"{study.name}: source.line_items {study.source.line_items or ''}: {sentence(error)}") from error
