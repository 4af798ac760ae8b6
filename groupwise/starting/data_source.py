"""The data that ``init`` is pointed at, as a source that can be read: its kind, how its text is written, casts where its types are text."""

from __future__ import annotations

import codecs
import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from groupwise.source.declared_source import Located, locate, read_source, source_columns
from groupwise.source.file_kinds import kind_of
from groupwise.source.relation import ALIAS, first_line, literal, open_source, quote
from groupwise.source.source_files import local_files
from groupwise.source.source_table import ColumnUse, SourceTable
from groupwise.source.text_files.column_text import Reading, read_texts
from groupwise.study.study import Study
from multilevel.errors import SourceError

EVERYTHING = ColumnUse((), (), ())
MOST_TRIES = 4
VALUE = re.compile(r"[-+]?\d+([.,]\d+)*|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*")
"""A number or a day, which no column is called; but a year may be the name of one."""
YEAR = re.compile(r"(19|20)\d\d")


@dataclass(frozen=True)
class Data:
    """A source and its columns.

    source : the study's field. sql : one SELECT. types : name -> DuckDB type after casts. query : a SELECT for ``line_items``, None where
    none is needed. of : what such a query selects from. notes : what was read how.
    """

    source: Mapping[str, Any]
    sql: str
    types: Mapping[str, str]
    query: str | None
    of: str
    notes: tuple[str, ...]


def declared(data: str) -> dict[str, Any]:
    """``source`` for a path, glob or folder; SourceError where it has no known kind."""
    path = Path(data)
    if path.is_dir():
        kinds: dict[str, str] = {}
        for file in sorted(path.rglob("*")):
            kind = kind_of(file.name) if file.is_file() else None
            if kind not in (None, "database"):
                kinds.setdefault(str(kind), "".join(file.suffixes[-2:] if file.suffix == ".gz" else file.suffixes[-1:]))
        if len(kinds) != 1:
            what = f"files of several kinds ({', '.join(kinds)})" if kinds else "no table files"
            raise SourceError(f"{data} is a folder with {what}; name the files, such as {path / '**' / '*.parquet'}.")
        kind, suffix = next(iter(kinds.items()))
        pattern = str(path / "**" / f"*{suffix}")
        folders = all("=" in str(file.parent.relative_to(path)) for file in path.rglob(f"*{suffix}"))
        return {kind: pattern, **({"hive": True} if kind == "parquet" and folders else {})}
    kind = kind_of(data)
    if kind is None:
        raise SourceError(f"{data}: the suffix does not say what it is; give a .csv, .parquet, .json, .feather or .duckdb file.")
    if kind == "csv":
        encoding = _encoding(data)
        return {kind: data, **({"options": {"encoding": encoding}} if encoding != "utf-8" else {})}
    return {kind: data}


def open_data(source: Mapping[str, Any], name: str, folder: Path, *, table: str | None = None) -> tuple[duckdb.DuckDBPyConnection, Data]:
    """A connection on which the data's SELECT runs, and the data.

    Parameters
    ----------
    source : what ``declared`` gives, with ``line_items`` where there is a query. name : of the study to be. folder : for files in between.
    table : of a database with several.

    Raises
    ------
    SourceError : the data cannot be read.
    """
    own = dict(source)
    study = _study(own, name)
    located = locate(study)
    connection = open_source(located.database, name, folder, located.files, located.kind)
    if located.kind == "database" and located.query is None:
        located = replace(located, query=f"select * from {_table(connection, table, str(source['database']))}")
    found = read_source(connection, study, located, EVERYTHING, folder, everything=True)
    if found.text is not None:
        own, found = _spelled_out(connection, own, name, located, found, folder)
    types = source_columns(connection, found.sql, study)
    if located.kind == "csv":
        _require_names(types, name, located.files[0])
    of = "source" if located.query is None else f"(\n{located.query}\n)"
    query, sql, types = _with_casts(connection, found.sql, types, of, is_text=located.kind == "csv")
    if query is None and table is not None:
        query = f"{located.query}\n"
    return connection, Data(own, sql, types, query, of, found.notes)


def _require_names(types: Mapping[str, str], study: str, file: str) -> None:
    """SourceError where the first line of a CSV file holds a row: the name of every column of values is such a value itself."""
    valued = [name for name, kind in types.items() if kind not in ("VARCHAR", "BOOLEAN")]
    if not valued or not all(VALUE.fullmatch(name) for name in valued) or all(YEAR.fullmatch(name) for name in valued):
        return
    shown = ", ".join(list(types)[:MOST_TRIES])
    raise SourceError(f"{study}: the first line of {file} holds values ({shown}) where names should stand; add a line with the names.")


def _study(source: Mapping[str, Any], name: str) -> Study:
    return Study.model_validate({"name": name, "formula": "y ~ 1 + (1 | g)", "source": dict(source)})


def _spelled_out(
    connection: duckdb.DuckDBPyConnection, source: dict[str, Any], name: str, located: Located, table: SourceTable, folder: Path
) -> tuple[dict[str, Any], SourceTable]:
    """The CSV source with options for what its text does not say, until nothing is open, and with those found, to be seen."""
    options: dict[str, Any] = dict(source.get("options", {}))
    for _ in range(MOST_TRIES):
        assert table.text is not None
        hints = [hint for hint in table.text.texts.hints.values() if hint.option is not None]
        if not hints:
            break
        for hint in hints:
            if hint.option == "nulls":
                options["nulls"] = list(dict.fromkeys([*options.get("nulls", []), hint.value]))
            elif hint.option is not None:
                options.setdefault(hint.option, hint.value)
        study = _study({**source, "options": options}, name)
        again = read_source(connection, study, located, EVERYTHING, folder, everything=True)
        if again.sql == table.sql:
            break
        table = again
    assert table.text is not None
    texts = table.text.texts
    formats = {one.format for one in texts.readings.values() if one.format is not None}
    found: dict[str, Any] = {"delimiter": table.text.delimiter} if table.text.delimiter != "," else {}
    if texts.decimal == ",":
        found["decimal"] = ","
    if len(formats) == 1:
        found["date_format"] = formats.pop()
    options = {**found, **options}
    if not options:
        return source, table
    study = _study({**source, "options": options}, name)
    return {**source, "options": options}, read_source(connection, study, located, EVERYTHING, folder, everything=True)


def _with_casts(
    connection: duckdb.DuckDBPyConnection, sql: str, types: dict[str, str], of: str, *, is_text: bool
) -> tuple[str | None, str, dict[str, str]]:
    """A query on ``of`` that casts text which holds numbers or days; None where there is none (CSV columns have their types already)."""
    if is_text:
        return None, sql, types
    texts = read_texts(connection, sql, [name for name, kind in types.items() if kind == "VARCHAR"])
    read = {name: one for name, one in texts.readings.items() if one.kind not in ("text", "boolean") and not _is_label(one)}
    if not read:
        return None, sql, types
    casts = ",\n".join(f"        {_plain(name, one)} as {quote(name)}" for name, one in read.items())
    query = f"-- Text that holds numbers or days, read as such.\nselect\n    * replace (\n{casts}\n    )\nfrom {of}\n"
    replaced = ", ".join(f"{one.value} as {quote(name)}" for name, one in read.items())
    return query, f"select * replace ({replaced}) from (\n{sql}\n)", types | {name: one.type for name, one in read.items()}


def _is_label(one: Reading) -> bool:
    """Whole numbers that somebody wrote as text are names rather than amounts."""
    return one.kind == "whole"


def _plain(name: str, one: Reading) -> str:
    text = f"trim({quote(name)})"
    if one.format is not None:
        return f"cast(strptime({text}, {literal(one.format)}) as {one.type.lower()})"
    return one.value


def _table(connection: duckdb.DuckDBPyConnection, wanted: str | None, database: str) -> str:
    """The table that is meant, in quotes; SourceError where that is not clear."""
    found = connection.execute(
        "select table_schema, table_name from information_schema.tables where table_catalog = $name order by all", {"name": ALIAS}
    ).fetchall()
    names = {name if schema == "main" else f"{schema}.{name}": f"{quote(schema)}.{quote(name)}" for schema, name in found}
    if wanted is None and len(names) == 1:
        return next(iter(names.values()))
    if wanted not in names:
        shown = ", ".join(list(names)[:20]) or "none"
        said = f"{database} has no table {wanted}" if wanted is not None else f"{database} has {len(names)} tables and views"
        raise SourceError(
            f"{said}: {shown}. Name one with --table, or a file with one SELECT that joins what belongs together with --line-items."
        )
    return names[wanted]


def _encoding(data: str) -> str:
    """utf-8, utf-16 or, where the text is neither, windows-1252."""
    encoding = "utf-8"
    for file in local_files(data)[:1]:
        with file.open("rb") as stream:
            content = gzip.GzipFile(fileobj=stream) if file.name.lower().endswith(".gz") else stream
            decoder = codecs.getincrementaldecoder("utf-8")()
            start = content.read(1 << 20)
            if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start[:1000]:
                return "utf-16"
            try:
                while start:
                    decoder.decode(start)
                    start = content.read(1 << 20)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                encoding = "windows-1252"
    return encoding


def told_error(error: duckdb.Error, name: str, data: str) -> SourceError:
    """What DuckDB refuses of the data."""
    return SourceError(f"{name}: {data} cannot be read: {first_line(error)}")
