"""The SELECT that reads CSV files as one table. Their columns are text; what the study names is read as what all of its values are."""

from __future__ import annotations

import gzip
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from groupwise.source.relation import first_line, literal, quote
from groupwise.source.source_files import exactly
from groupwise.source.source_table import ColumnUse, CsvText, SourceTable
from groupwise.source.text_files.column_text import Reading, Texts, read_texts, text_of
from groupwise.source.text_files.csv_header import CsvHeader, read_header
from groupwise.study.study_source import CsvOptions
from multilevel.errors import SourceError

TRANSCODED = "windows-1252"
"""The encoding that DuckDB's reader does not know."""


def csv_table(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[str],
    options: CsvOptions,
    use: ColumnUse,
    subject: str,
    folder: Path,
    *,
    everything: bool = False,
) -> SourceTable:
    """One table of all files, columns matched by name.

    Parameters
    ----------
    files : paths. subject : begins messages. folder : the run's, for files that must be written in another encoding first.
    use : what the study names; only such columns are looked at. everything : look at all columns.

    Raises
    ------
    SourceError : no header, another encoding, a line with another number of values; the study names a column that the header has twice.
    """
    headers = {file: read_header(file, options.encoding, options.delimiter, subject) for file in files}
    read = _as_utf8(files, folder) if options.encoding == TRANSCODED else dict(zip(files, files, strict=True))
    spelled: dict[str, str] = {}
    for header in headers.values():
        for name in header.columns:
            spelled.setdefault(name.casefold(), name)
    columns = list(spelled.values())
    named = [name for name in columns if everything or use.names(name)]
    _refuse_repeated(headers, use, subject)
    raw = _union({read[file]: header for file, header in headers.items()}, columns, options)
    try:
        texts = read_texts(connection, raw, named, decimal=options.decimal, date_format=options.date_format)
    except duckdb.Error as error:
        raise SourceError(f"{subject}: {first_line(error)}") from error
    readings = {name: _reading(name, texts, use) for name in columns}
    picks = ", ".join(f"{reading.value} as {quote(name)}" for name, reading in readings.items())
    notes = tuple(_notes(headers, named, readings, texts, options))
    hints = {name: hint.words for name, hint in texts.hints.items()}
    return SourceTable(f"select {picks} from (\n{raw}\n)", notes, hints, text=CsvText(texts, next(iter(headers.values())).delimiter))


def _reading(name: str, texts: Texts, use: ColumnUse) -> Reading:
    found = texts.readings.get(name)
    # what the study casts itself is cast from the text, value by value, unless only the reader knows its form
    if found is None or found.kind == "text" or (name in use.cast and not found.is_foreign):
        return text_of(name)
    return found


def _refuse_repeated(headers: Mapping[str, CsvHeader], use: ColumnUse, subject: str) -> None:
    for file, header in headers.items():
        for name in header.repeated:
            if use.names(name):
                raise SourceError(f"{subject}: {file} has more than one column {name}; rename all but one in its first line.")


def _union(headers: Mapping[str, CsvHeader], columns: Sequence[str], options: CsvOptions) -> str:
    """All files as text: one SELECT for each set of files with the same header."""
    alike: dict[CsvHeader, list[str]] = defaultdict(list)
    for file, header in headers.items():
        alike[header].append(file)
    parts = []
    for header, files in alike.items():
        own = {name.casefold(): name for name in header.columns}
        picks = [
            f"{quote(own[name.casefold()])} as {quote(name)}" if name.casefold() in own else f"null::varchar as {quote(name)}"
            for name in columns
        ]
        parts.append(f"select {', '.join(picks)} from {_read(files, header, options)}")
    return "\nunion all\n".join(parts)


def _read(files: Sequence[str], header: CsvHeader, options: CsvOptions) -> str:
    encoding = "utf-8" if options.encoding == TRANSCODED else options.encoding
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header.columns)
    nulls = ", ".join(map(literal, ("", *options.nulls)))
    return (
        f"read_csv([{', '.join(literal(exactly(file)) for file in files)}], auto_detect = false, header = true, "
        f"delim = {literal(header.delimiter)}, quote = '\"', escape = '\"', encoding = {literal(encoding)}, "
        f"nullstr = [{nulls}], columns = {{{types}}}, hive_partitioning = false)"
    )


def _as_utf8(files: Sequence[str], folder: Path) -> dict[str, str]:
    """The files, written once more as UTF-8 into the run's folder, which is all that DuckDB reads of them."""
    made = {}
    for number, file in enumerate(files):
        target = folder / f"source-{number}.csv"
        opened = gzip.open if file.lower().endswith(".gz") else open
        with (
            opened(file, "rt", encoding="cp1252", errors="replace", newline="") as old,
            target.open("w", encoding="utf-8", newline="") as new,
        ):
            shutil.copyfileobj(old, new)
        made[file] = str(target.absolute())
    return made


def _notes(
    headers: Mapping[str, CsvHeader], named: Sequence[str], readings: Mapping[str, Reading], texts: Texts, options: CsvOptions
) -> list[str]:
    notes = []
    for name in named:
        lacking = [file for file, header in headers.items() if name.casefold() not in {own.casefold() for own in header.columns}]
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            notes.append(f"{name} is null in the rows of {lacking[0]}{more}: {len(lacking)} of {len(headers)} files have no such column.")
        form = readings[name].format
        if form is not None and options.date_format is None:
            notes.append(f"{name} is read as {form}.")
    if texts.decimal == "," and options.decimal is None:
        notes.append("Numbers are read with a decimal comma.")
    return [*notes, *(f"{hint.words}." for hint in texts.hints.values())]
