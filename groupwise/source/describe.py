"""Extract: describe the study's line items as of a date. Nothing is copied; one scan counts and fingerprints them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb

from groupwise.compression.mix_query import keep_mix
from groupwise.faults import told
from groupwise.source.casts import cast_line_items, check_casts
from groupwise.source.conditions import check_type, condition_columns, row_condition
from groupwise.source.relation import ALIAS, Relation, first_line, open_source, quote, rows_of
from groupwise.source.sealing import readable
from groupwise.source.shards.shard_select import ColumnUse, ParquetTable, parquet_table
from groupwise.source.source_files import is_remote, parquet_files, source_state
from groupwise.source.time_limit import close
from groupwise.source.user_sql.objects import read_objects
from groupwise.source.user_sql.sql_errors import RefusedSqlError, sentence
from groupwise.source.user_sql.statement import one_statement
from groupwise.source.user_sql.user_query import check_query
from groupwise.study.source_hints import convert_words, is_text_table
from groupwise.study.study import Study
from groupwise.study.user_text import read_user_file
from groupwise.validation.missing_values import label_columns
from groupwise.validation.scan_sql import check_expressible
from groupwise.validation.suite import load_rules, read_rules
from groupwise.whole_files import write_whole
from multilevel.errors import DataError, SourceError, StudyError
from multilevel.formula.columns import formula_columns

RELATION_FILE = "relation.json"


@told("the line items cannot be described")
def extract(study: Study, as_of: date | None, folder: Path, *, today: date) -> Relation:
    """Describe the relation and write ``relation.json`` into ``folder``.

    Parameters
    ----------
    study : the study. as_of : overrides the study's own, or None. folder : the run's working folder.
    today : what ``latest`` means where there is no window to take a last row from, and what ``scheduled`` means.

    Raises
    ------
    SourceError : missing or locked file, or a query that does not run. DataError : no line items in the window.
    StudyError : ``where`` is not a row-wise condition over the relation's columns, or the suite cannot be checked on them.
    """
    if study.expectations is not None:
        read_rules(study.expectations)  # a wrong suite fails before any data is touched
    keep_mix(study, folder)
    query = None if study.source.parquet is not None else _query(study)
    patterns = _absolute_patterns(study)
    connection = open_source(study.source.database, study.name, folder, patterns)
    try:
        if query is not None:
            _check_query(connection, study, query)
        database = _absolute(study.source.database)
        state = source_state(database, patterns)
        table = ParquetTable(query) if query is not None else parquet_table(connection, _files(patterns), _use(study), study.name)
        as_stored = _columns(connection, table.sql, study)
        line_items = cast_line_items(table.sql, study.types, as_stored)
        _require_columns(study, as_stored)
        columns = as_stored | dict(study.types)
        _require_window(study, columns)
        _require_rules(study, columns)
        condition = _condition(connection, study, line_items, columns)
        day = _resolve_as_of(connection, study, as_of, today=today, line_items=line_items)
        window = study.window
        relation = Relation(
            study=study.name,
            database=database,
            parquet=patterns,
            line_items=line_items,
            as_of=day,
            window_column=window.column if window else None,
            start=_window_start(study, day),
            end=day if window else None,
            columns=columns,
            state=state,
            notes=table.notes,
        )
        check_casts(connection, table.sql, relation.window_condition(study.types), study.types, as_stored, study.name)
        rows, checksum = _fingerprint(connection, relation, [*used_columns(study), *study.missing, *condition_columns(condition)])
    finally:
        close(connection)
    relation = replace(relation, rows=rows, checksum=checksum)
    write_whole(folder / RELATION_FILE, relation.to_json())
    return relation


def used_columns(study: Study) -> list[str]:
    """Columns that the study's formula, cells, privacy rule and ``sampled`` name, in order of first use."""
    names = list(formula_columns(study.parsed_formula))
    names += list(study.cells or ())
    names += [study.privacy.of] if study.privacy else []
    names += list(study.sampled)
    return list(dict.fromkeys(names))


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _absolute_patterns(study: Study) -> tuple[str, ...]:
    """The Parquet files or globs, none that matches nothing."""
    for pattern in study.source.parquet or ():
        try:
            is_empty = not is_remote(pattern) and not parquet_files(pattern)
        except SourceError as error:
            raise SourceError(f"{study.name}: source.parquet {error}") from error
        if is_empty:
            raise SourceError(f"{study.name}: source.parquet {pattern} matches no file (working directory {Path.cwd()}).")
        if is_text_table(pattern):
            raise SourceError(f"{study.name}: source.parquet {pattern}: {convert_words(pattern)}.")
    return tuple(pattern if is_remote(pattern) else str(Path(pattern).absolute()) for pattern in study.source.parquet or ())


def _files(patterns: Sequence[str]) -> list[str]:
    """The patterns as a connection that reaches the source only can read them."""
    return [file for pattern in patterns for file in readable(pattern)]


def _use(study: Study) -> ColumnUse:
    """Where the study names columns."""
    rules = read_rules(study.expectations) if study.expectations is not None else ()
    texts = [*used_columns(study), *study.missing, *study.types, study.where or "", study.window.column if study.window else ""]
    return ColumnUse([*texts, *(str(rule.kwargs) for rule in rules)], label_columns(study), tuple(study.types))


def _query(study: Study) -> str:
    """The text of the study's SQL file."""
    path = Path(str(study.source.line_items))
    try:
        text = read_user_file(path, "file with one SELECT")
    except StudyError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            text = _packaged(path, study)
        else:
            raise SourceError(f"{study.name}: source.line_items: {error}") from error
    return text.strip().removesuffix(";")


def _check_query(connection: duckdb.DuckDBPyConnection, study: Study, query: str) -> None:
    """The user's query is one SELECT over the declared database, or refused before it is run."""
    try:
        check_query(query, read_objects(connection, ALIAS))
    except RefusedSqlError as error:
        raise SourceError(f"{study.name}: source.line_items {study.source.line_items}: {sentence(error)}") from error


def _packaged(path: Path, study: Study) -> str:
    """The project's own queries are package data, so that a study runs from any working directory."""
    from sql import read_query

    if path.parent == Path("sql"):
        try:
            return read_query(path.stem)
        except FileNotFoundError:
            pass
    raise SourceError(f"{study.name}: source.line_items {path} does not exist (working directory {Path.cwd()}).")


def _columns(connection: duckdb.DuckDBPyConnection, line_items: str, study: Study) -> dict[str, str]:
    source = study.source.line_items or ", ".join(study.source.parquet or ())
    try:
        relation = connection.sql(one_statement(f"select * from (\n{line_items}\n)"))
    except duckdb.Error as error:
        raise SourceError(f"{study.name}: {source} cannot be read from this source: {first_line(error)}") from error
    return {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}


def _require_columns(study: Study, columns: dict[str, str]) -> None:
    made = [f"{name}_missing" for name, rule in study.missing.items() if rule == "mean_and_indicator"]
    # DuckDB's names know no upper and lower case
    known = {name.casefold() for name in columns}
    taken = [name for name in made if name.casefold() in known]
    if taken:
        raise SourceError(f"{study.name}: missing: mean_and_indicator makes a column {taken[0]}, but the line items have one; rename it.")
    wanted = [*used_columns(study), *study.missing, *study.types, *([study.window.column] if study.window else [])]
    unknown = [name for name in dict.fromkeys(wanted) if name not in columns and name not in made]
    if unknown:
        close = difflib.get_close_matches(unknown[0], list(columns), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SourceError(f"{study.name}: the line items have no column {', '.join(unknown)}; {hint}they have {', '.join(columns)}.")


def _require_rules(study: Study, columns: dict[str, str]) -> None:
    """The suite fits these columns and every rule can be part of the scan."""
    if study.expectations is not None:
        check_expressible(load_rules(study.expectations, columns), columns, study.expectations)


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


def _require_window(study: Study, columns: Mapping[str, str]) -> None:
    if study.window is None:
        return
    name = study.window.column
    kind = columns[name]
    if not kind.startswith(("DATE", "TIMESTAMP")):
        hint = f" Text in ISO form can be read as dates: add types: {{{name}: TIMESTAMP}} to the study." if kind == "VARCHAR" else ""
        raise SourceError(f"{study.name}: window.column {name} is {kind}; it must be a date or a timestamp.{hint}")


def _fingerprint(connection: duckdb.DuckDBPyConnection, relation: Relation, names: list[str]) -> tuple[int, str]:
    """Rows in the window and a checksum of the columns in use, whatever the rows' order, in one scan.

    The xor of the rows' hashes alone would not see a row that comes twice; their sum does. On two cores it costs about half a second for
    ten million rows of ten columns. DuckDB may hash otherwise in another version, so compare checksums of one version only.
    """
    used = [name for name in dict.fromkeys(names) if name in relation.columns] or list(relation.columns)[:1]
    packed = f"hash({', '.join(quote(name) for name in used)})"
    mixed = f"coalesce(bit_xor({packed}), 0) as parity, coalesce(sum({packed} % 1000000007), 0) as total"
    query = f"select count(*) as n_rows, {mixed} from ({relation.sql})"
    row = rows_of(connection, query, relation.study, "the line items cannot be read")[0]
    if not row["n_rows"]:
        raise DataError(_empty(connection, relation))
    return int(row["n_rows"]), f"{int(row['parity']):016x}-{int(row['total']):x}"


def _empty(connection: duckdb.DuckDBPyConnection, relation: Relation) -> str:
    if relation.window_column is None:
        return f"{relation.study}: the source has no line items."
    first, last = _span(connection, relation.study, relation.line_items, relation.window_column)
    has = f"the data has {first} to {last}" if first else "the data has no line items at all"
    return (
        f"{relation.study}: no line items in the window {relation.start} to {relation.end} (end not included); {has}. "
        "Choose another --as-of or more window.days."
    )
