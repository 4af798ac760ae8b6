"""``groupwise export``: the published tables for a spreadsheet, as CSV files or one workbook."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from groupwise.publishing.locate import locate
from groupwise.publishing.version import Version
from multilevel.errors import PublishError, StudyError

SHEET_ROWS = 1_048_575
"""Rows of a worksheet, less its header."""

CELL_LETTERS = 32_767
SUFFIXES = (".xlsx", ".csv")


def export_tables(target: str, output: Path, names: Sequence[str], *, run_id: str | None, force: bool) -> list[str]:
    """Write tables of a published version; the paths written.

    Parameters
    ----------
    target : a study's YAML file or a published folder. output : a folder for one CSV a table, a .csv of one table, or an .xlsx with a
        sheet for each. names : of the tables; none: all that the version has. force : replace what is there.

    Raises
    ------
    StudyError : no such table; several for one .csv; a table with more rows than a sheet has. PublishError : a file is there already, or
        cannot be written. SourceError : nothing is published.
    """
    place, version = locate(target, run_id)
    tables = _chosen(place.tables(version), names)
    try:
        if output.suffix.lower() == ".xlsx":
            return [_workbook(tables, version, output, force)]
        if output.suffix.lower() == ".csv":
            if len(tables) > 1:
                raise StudyError(f"{output}: a CSV file holds one table; name it with --table, or a folder for all of them.")
            return [_csv(next(iter(tables.values())), output, force)]
        if output.suffix:
            raise StudyError(f"{output}: write a folder, or a file that ends in {' or '.join(SUFFIXES)}.")
        files = {name: output / f"{name}.csv" for name in tables}
        for file in files.values():
            _require_free(file, force)
        output.mkdir(parents=True, exist_ok=True)
        return [_csv(table, files[name], force) for name, table in tables.items()]
    except OSError as error:
        raise PublishError(f"{output} cannot be written: {error.strerror or error}") from error


def _chosen(tables: Mapping[str, pa.Table], names: Sequence[str]) -> dict[str, pa.Table]:
    unknown = [name for name in names if name not in tables]
    if unknown:
        raise StudyError(f"--table {unknown[0]}: the version has {', '.join(sorted(tables))}.")
    return {name: tables[name] for name in tables if not names or name in names}


def _require_free(file: Path, force: bool) -> None:
    if file.exists() and not force:
        raise PublishError(f"{file} is there already; --force replaces it.")


def _csv(table: pa.Table, file: Path, force: bool) -> str:
    """Whole or not at all; null is an empty field, text is quoted."""
    _require_free(file, force)
    partial = file.with_name(f"{file.name}.partial")
    try:
        csv.write_csv(table, partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return str(file)


def _workbook(tables: Mapping[str, pa.Table], version: Version, file: Path, force: bool) -> str:
    """A sheet for each table, its header frozen and filtered; texts are texts, whatever they begin with."""
    if importlib.util.find_spec("xlsxwriter") is None:
        raise StudyError("a workbook needs the extra `excel`: pip install 'groupwise[excel]'; a folder gets CSV files without it.")
    import xlsxwriter

    large = next((name for name, table in tables.items() if table.num_rows > SHEET_ROWS), None)
    if large is not None:
        raise StudyError(
            f"{large} has {tables[large].num_rows:,} rows, a sheet {SHEET_ROWS:,}; export a folder of CSV files, or name smaller tables."
        )
    _require_free(file, force)
    partial = file.with_name(f"{file.name}.partial")
    options = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False, "constant_memory": True}
    try:
        with xlsxwriter.Workbook(str(partial), options) as book:
            bold, day = book.add_format({"bold": True}), book.add_format({"num_format": "yyyy-mm-dd"})
            about = book.add_worksheet("about")
            for row, (name, value) in enumerate(_about(tables, version)):
                about.write_string(row, 0, name, bold)
                about.write_string(row, 1, value)
            for name, table in tables.items():
                sheet = book.add_worksheet(name)
                sheet.freeze_panes(1, 0)
                sheet.autofilter(0, 0, table.num_rows, table.num_columns - 1)
                for column, header in enumerate(table.column_names):
                    sheet.write_string(0, column, header, bold)
                for row, values in enumerate(_rows(table), start=1):
                    for column, value in enumerate(values):
                        _write(sheet, row, column, value, day)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return str(file)


def _rows(table: pa.Table) -> Any:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _write(sheet: Any, row: int, column: int, value: object, day: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, int | float):
        sheet.write_number(row, column, value)
    elif isinstance(value, date):
        sheet.write_datetime(row, column, value, day)
    else:
        sheet.write_string(row, column, str(value)[:CELL_LETTERS])


def _about(tables: Mapping[str, pa.Table], version: Version) -> list[tuple[str, str]]:
    first = next(iter(tables.values())).slice(0, 1).to_pylist()
    known = first[0] if first else {}
    rows = [(name, str(known[name])) for name in ("study", "as_of", "engine") if name in known]
    return [*rows, ("run_id", version.run_id), ("published", str(version.folder)), ("columns", "docs/tables.md says what each is")]
