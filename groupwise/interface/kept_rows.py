"""The rows that a fit reads: of the data handed over, the columns that its study names, as one Parquet file in the fit's folder.

A copy of those columns is made once: what the caller does to the data afterwards changes no fit, every step and ``compare`` read the same
rows, and a run of ``groupwise estimate`` on that file gives the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from groupwise.interface.tabular import KINDS, tabular
from groupwise.resources import resources
from groupwise.source.describe import column_use, require_columns, used_columns
from groupwise.source.file_kinds import kind_of
from groupwise.source.relation import first_line, literal, quote
from groupwise.source.source_files import exactly, is_remote
from groupwise.study.study import Study
from multilevel.errors import DataError, SourceError
from multilevel.formula.columns import categories_in, predictor_expressions
from multilevel.text import shorten

ROWS_FILE = "line_items.parquet"

type Orders = dict[str, tuple[str, ...]]


def is_path(data: object) -> bool:
    """Whether the data are named rather than handed over."""
    return isinstance(data, str | os.PathLike) or (
        isinstance(data, list | tuple) and bool(data) and all(isinstance(each, str | os.PathLike) for each in data)
    )


def local_paths(data: object) -> list[str]:
    """The paths, where the data are named; SourceError unless they are files of one kind, on this machine, and no database."""
    paths = _paths(data)
    _refuse(paths)
    return paths


def _paths(data: object) -> list[str]:
    """The paths, where the data are named."""
    if not is_path(data):
        return []
    named: Any = data if isinstance(data, list | tuple) else [data]
    return [os.fspath(each) for each in named]


def source_of(data: object) -> dict[str, list[str]] | None:
    """The source that a study would declare for data which are named, so that both read them alike; None for data handed over.

    Files of no known suffix count as Parquet. Raises SourceError for a database, files of several kinds, and text files of another machine.
    """
    paths = _paths(data)
    if not paths:
        return None
    kinds = {kind_of(path) or "parquet" for path in paths}
    if "database" in kinds or len(kinds) > 1 or (kinds != {"parquet"} and any(map(is_remote, paths))):
        _refuse(paths)
    return {kinds.pop(): paths}


def keep_rows(data: object, study: Study, folder: Path) -> Orders:
    """Write what the study names of the data into ``folder / ROWS_FILE``.

    Returns
    -------
    Orders
        Categorical predictor -> its levels, where the data's own type orders them otherwise than by name and the study does not.

    Raises
    ------
    SourceError : the data are no table, lack a column, or cannot be read. DataError : no rows, or values of no one type.
    """
    connection = _connection(folder)
    try:
        return _keep(connection, data, study, folder / ROWS_FILE)
    finally:
        connection.close()


def _connection(folder: Path) -> duckdb.DuckDBPyConnection:
    given = resources()
    settings: dict[str, Any] = {
        "memory_limit": f"{given.query_memory // 1_000_000}MB",
        "threads": given.threads,
        "temp_directory": str(folder / "spill"),
    }
    connection = duckdb.connect(config=settings)
    connection.execute("set TimeZone = 'UTC'")
    return connection


def _keep(connection: duckdb.DuckDBPyConnection, data: object, study: Study, file: Path) -> Orders:
    try:
        table = tabular(data)
        if not table.names:
            raise SourceError(f"{study.name}: the data have no columns; hand over {KINDS}.")
        require_columns(study, dict.fromkeys(table.names, ""))
        use = column_use(study)
        needed = {*used_columns(study), *study.missing, *study.types}
        names = [name for name in dict.fromkeys(table.names) if name in needed or use.names(name)]
        table.require_single(names)
        categories = {name: table.categories(name) for name in _ordered(study) if name in names}
        connection.register("given_rows", table.read(names))
        # labels of a categorical column are text, whatever its values are
        picks = [f"cast({quote(name)} as varchar) as {quote(name)}" if categories.get(name) else quote(name) for name in names]
        connection.execute(f"copy (select {', '.join(picks)} from given_rows) to {literal(str(file))} (format parquet)")
    except (duckdb.Error, pa.ArrowException) as error:
        raise _unread(error) from error
    rows = f"read_parquet({literal(exactly(str(file)))})"
    if not connection.execute(f"select 1 from {rows} limit 1").fetchall():
        raise DataError(f"{study.name}: the data have no rows ({', '.join(names)}); fit at least a few.")
    return {name: found for name, listed in categories.items() if (found := _order(connection, rows, name, listed))}


def _ordered(study: Study) -> list[str]:
    """Categorical predictors whose levels the study does not list."""
    parts = predictor_expressions(study.parsed_formula)
    return [name for name in dict.fromkeys(name for part in parts for name in categories_in(part)) if name not in study.levels]


def _order(connection: duckdb.DuckDBPyConnection, rows: str, name: str, listed: Sequence[object]) -> tuple[str, ...]:
    """The categories that occur, in their order; empty where it is that of their names, or there is but one."""
    if not listed:
        return ()
    connection.register("listed", pa.table({"place": range(len(listed)), "level": listed}))
    found = connection.execute(
        f"select cast(level as varchar) from listed where cast(level as varchar) in (select {quote(name)} from {rows}) order by place"
    ).fetchall()
    levels = tuple(str(row[0]) for row in found)
    return levels if len(levels) > 1 and list(levels) != sorted(levels) else ()


def _refuse(paths: Sequence[str]) -> None:
    """SourceError where the paths are not files of one kind, on this machine."""
    for path in paths:
        if kind_of(path) == "database":
            raise SourceError(
                f"data: {path} is a database; hand over one of its tables: duckdb.connect({path!r}, read_only=True).table('line_items')."
            )
        if is_remote(path):
            raise SourceError(f"data: {path} is no file of this machine; read it yourself (pandas, Polars, DuckDB), and hand over {KINDS}.")
        if not Path(path).is_file():
            raise SourceError(f"data: there is no file {path} (working directory {Path.cwd()}).")
    if len({kind_of(path) or "parquet" for path in paths}) > 1:
        raise SourceError(f"data: {', '.join(paths)}: only files of one kind can be read together.")


def _unread(error: Exception) -> SourceError:
    """What DuckDB or Arrow says of the data; an error of ours that it met on its way is kept."""
    known: BaseException | None = error
    while known is not None:
        if isinstance(known, SourceError):
            return known
        known = known.__cause__ or known.__context__
    said = shorten(first_line(error), 300)
    return SourceError(f"data: cannot be read: {said}. Look at the columns' types, or convert the data to a pandas or Arrow table first.")
