"""Extract: describe the study's line items as of a date. Nothing is copied; one scan counts and fingerprints them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb

from groupwise.compression.mix_query import keep_mix
from groupwise.faults import told
from groupwise.source.casts import cast_line_items, check_casts
from groupwise.source.conditions import check_type, condition_columns, row_condition
from groupwise.source.declared_source import locate, read_source, source_columns
from groupwise.source.fingerprint import Fingerprint, fingerprint
from groupwise.source.relation import Relation, open_source, quote, rows_of
from groupwise.source.source_files import source_state
from groupwise.source.source_table import FILE_COLUMN, ColumnUse, SourceTable
from groupwise.source.time_limit import close
from groupwise.study.study import Study
from groupwise.validation.missing_values import label_columns
from groupwise.validation.needs import calculated_columns
from groupwise.validation.scan_sql import check_expressible
from groupwise.validation.suite import load_rules, study_rules
from groupwise.whole_files import write_whole
from multilevel.errors import DataError, SourceError
from multilevel.formula.columns import formula_columns
from multilevel.text import shorten

type Survey = Callable[[duckdb.DuckDBPyConnection, Relation, Sequence[str], Callable[[Relation], None]], Fingerprint]
"""Connection, relation, the columns in use, a check of casts (of a relation's line items) -> the fingerprint of those in the window."""

RELATION_FILE = "relation.json"


def whole_window(
    connection: duckdb.DuckDBPyConnection, relation: Relation, names: Sequence[str], check: Callable[[Relation], None]
) -> Fingerprint:
    """A ``Survey`` that reads every line item in the window."""
    check(relation)
    return fingerprint(connection, relation, names)


@told("the line items cannot be described")
def extract(study: Study, as_of: date | None, folder: Path, *, today: date, survey: Survey = whole_window) -> Relation:
    """Describe the relation and write ``relation.json`` into ``folder``.

    Parameters
    ----------
    study : the study. as_of : overrides the study's own, or None. folder : the run's working folder.
    today : what ``latest`` means where there is no window to take a last row from, and what ``scheduled`` means.
    survey : how the line items in the window get their fingerprint; those that are known already need not be read.

    Raises
    ------
    SourceError : missing or locked file, or a query that does not run. DataError : no line items in the window.
    StudyError : ``where`` is not a row-wise condition over the relation's columns, or the suite cannot be checked on them.
    """
    study_rules(study)  # a wrong suite fails before any data is touched
    keep_mix(study, folder)
    source = locate(study)
    connection = open_source(source.database, study.name, folder, source.files, source.kind, wishes=study.wishes, zone=study.zone)
    try:
        state = source_state(source.database, source.files)
        table = read_source(connection, study, source, column_use(study), folder)
        as_stored = source_columns(connection, table.sql, study)
        as_stored.pop(FILE_COLUMN, None)
        line_items = cast_line_items(table.sql, study.types, as_stored)
        require_columns(study, as_stored, table.folders)
        columns = as_stored | dict(study.types)
        _require_window(study, columns, table)
        _require_numbers(study, columns, table)
        ruled = _require_rules(study, columns)
        condition = _condition(connection, study, line_items, columns)
        day = _resolve_as_of(connection, study, as_of, today=today, line_items=line_items)
        window = study.window
        relation = Relation(
            study=study.name,
            database=source.database,
            files=source.files,
            kind=source.kind,
            line_items=line_items,
            as_of=day,
            window_column=window.column if window else None,
            start=_window_start(study, day),
            end=day if window else None,
            columns=columns,
            state=state,
            notes=table.notes,
            wishes=study.wishes,
            zone=study.zone,
        )

        def check(part: Relation) -> None:
            check_casts(connection, table.sql, part.window_condition(study.types), study.types, as_stored, study.name)

        found = survey(connection, relation, [*used_columns(study), *study.missing, *condition_columns(condition), *ruled], check)
        if not found.rows:
            raise DataError(_empty(connection, relation))
    finally:
        close(connection)
    relation = replace(relation, rows=found.rows, checksum=found.checksum)
    write_whole(folder / RELATION_FILE, relation.to_json())
    return relation


def used_columns(study: Study) -> list[str]:
    """Columns that the study's formula, cells, privacy rule and ``sampled`` name, in order of first use."""
    names = list(formula_columns(study.parsed_formula))
    names += list(study.cells or ())
    names += [study.privacy.of] if study.privacy else []
    names += list(study.sampled)
    return list(dict.fromkeys(names))


def column_use(study: Study) -> ColumnUse:
    """Where the study names columns."""
    rules = study_rules(study)
    texts = [*used_columns(study), *study.missing, *study.types, study.where or "", study.window.column if study.window else ""]
    texts.append(study.partition_column or "")
    texts += [f"{rule.kwargs} {rule.order_by or ''}" for rule in rules]
    by_file = study.statistics is not None and study.source.kind == "parquet" and study.source.line_items is None
    return ColumnUse(texts, label_columns(study), tuple(study.types), by_file)


def require_columns(study: Study, columns: Mapping[str, str], folders: Collection[str] = ()) -> None:
    """SourceError where the line items lack a column that the study names, or have one that it makes.

    columns : name -> type. folders : columns that only the folders' names have.
    """
    made = [f"{name}_missing" for name, rule in study.missing.items() if rule == "mean_and_indicator"]
    # DuckDB's names know no upper and lower case
    known = {name.casefold() for name in columns}
    taken = [name for name in made if name.casefold() in known]
    if taken:
        raise SourceError(f"{study.name}: missing: mean_and_indicator makes a column {taken[0]}, but the line items have one; rename it.")
    wanted = [*used_columns(study), *study.missing, *study.types, *([study.window.column] if study.window else [])]
    wanted += [study.partition_column] if study.partition_column else []
    unknown = [name for name in dict.fromkeys(wanted) if name not in columns and name not in made]
    in_folders = next((name for name in unknown if name in folders), None)
    if in_folders is not None:
        files = study.source.files
        shown = files[0] if len(files) == 1 else f"[{', '.join(files)}]"
        raise SourceError(
            f"{study.name}: the files have no column {in_folders}, only their folders' names do ({in_folders}=...); to read it from there "
            f"write source: {{parquet: {shorten(shown)}, hive: true}}."
        )
    if unknown:
        close = difflib.get_close_matches(unknown[0], list(columns), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SourceError(f"{study.name}: the line items have no column {', '.join(unknown)}; {hint}they have {', '.join(columns)}.")


def _require_rules(study: Study, columns: dict[str, str]) -> list[str]:
    """Columns that the rules read, all where one of several rows is kept; every rule fits these columns and can be part of the scan."""
    rules = load_rules(study, columns)
    check_expressible(rules, columns)
    return list(columns) if any(rule.keep for rule in rules) else [name for rule in rules for name in rule.columns]


def _condition(connection: duckdb.DuckDBPyConnection, study: Study, line_items: str, columns: dict[str, str]) -> str:
    """``where`` as SQL, refused before anything is read; ``true`` without one."""
    if study.where is None:
        return "true"
    condition = row_condition(study.where, columns, study=study.name)
    check_type(connection, line_items, condition, study=study.name)
    return condition


def _resolve_as_of(connection: duckdb.DuckDBPyConnection, study: Study, as_of: date | None, *, today: date, line_items: str) -> date:
    wanted = as_of if as_of is not None else study.as_of
    if isinstance(wanted, date):
        return wanted
    if wanted == "scheduled" or study.window is None:
        return today
    first, last = _span(connection, study.name, line_items, study.window.column)
    if first is None or last is None:
        raise DataError(f"{study.name}: the source has no line items with a {study.window.column}.")
    if last == date.max:
        raise DataError(
            f"{study.name}: as_of: latest: the last {study.window.column} is {last}, which is no real day; give a date (--as-of)."
        )
    return last + timedelta(days=1)


def _span(connection: duckdb.DuckDBPyConnection, study: str, line_items: str, column: str) -> tuple[date | None, date | None]:
    """First and last day of the window column, whatever the window."""
    name = quote(column)
    query = f"select min({name})::date as first_day, max({name})::date as last_day from (\n{line_items}\n)"
    row = rows_of(connection, query, study, f"window.column {column} cannot be read as dates")[0]
    return row["first_day"], row["last_day"]


def _window_start(study: Study, day: date) -> date | None:
    if study.window is None:
        return None
    try:
        return day - timedelta(days=study.window.days)
    except OverflowError as error:
        raise DataError(f"{study.name}: as_of {day} less window.days {study.window.days} is no date; choose another --as-of.") from error


def _require_window(study: Study, columns: Mapping[str, str], table: SourceTable) -> None:
    field, name = ("window", study.window.column) if study.window else ("statistics", study.partition_column)
    if name is None:
        return
    kind = columns[name]
    if not kind.startswith(("DATE", "TIMESTAMP")):
        hint = f" Text in ISO form can be read as dates: add types: {{{name}: TIMESTAMP}} to the study." if kind == "VARCHAR" else ""
        if name in table.hints:
            hint = f" {table.hints[name]}."
        elif kind == "VARCHAR" and study.source.kind == "csv":
            hint = ' Say how its days are written: options: {date_format: "%d/%m/%Y"}.'
        raise SourceError(f"{study.name}: {field}.column {name} is {kind}; it must be a date or a timestamp.{hint}")


def _require_numbers(study: Study, columns: Mapping[str, str], table: SourceTable) -> None:
    """A text column that the study calculates with, and that could be numbers if the study said how they are written."""
    for name in calculated_columns(study):
        if name in table.hints and columns[name] == "VARCHAR":
            raise SourceError(f"{study.name}: {table.hints[name]}. Until then {name} is text, and the study calculates with it.")


def _empty(connection: duckdb.DuckDBPyConnection, relation: Relation) -> str:
    if relation.window_column is None:
        return f"{relation.study}: the source has no line items."
    first, last = _span(connection, relation.study, relation.line_items, relation.window_column)
    has = f"the data has {first} to {last}" if first else "the data has no line items at all"
    return (
        f"{relation.study}: no line items in the window {relation.start} to {relation.end} (end not included); {has}. "
        "Choose another --as-of or more window.days."
    )
