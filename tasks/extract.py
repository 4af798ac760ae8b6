"""Extract: describe the study's line items as of a date. Nothing is copied; one scan counts and fingerprints them."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import duckdb

from multilevel.errors import DataError, SourceError
from multilevel.formula.columns import formula_columns
from tasks.relation import Relation, first_line, literal, open_source, quote
from tasks.study import Study

RELATION_FILE = "relation.json"


def extract(study: Study, as_of: date | None, folder: Path, *, today: date) -> Relation:
    """Describe the relation and write ``relation.json`` into ``folder``.

    Parameters
    ----------
    study : the study. as_of : overrides the study's own, or None. folder : the run's working folder.
    today : what ``latest`` means where there is no window to take a last row from, and what ``scheduled`` means.

    Raises
    ------
    SourceError : missing or locked file, or a query that does not run. DataError : no line items in the window.
    """
    line_items = _line_items(study)
    connection = open_source(study.source.database, study.name, folder)
    try:
        columns = _columns(connection, line_items, study)
        _require_columns(study, columns)
        day = _resolve_as_of(connection, study, as_of, today=today, line_items=line_items, columns=columns)
        window = study.window
        relation = Relation(
            study=study.name,
            database=_absolute(study.source.database),
            parquet=study.source.parquet or (),
            line_items=line_items,
            as_of=day,
            window_column=window.column if window else None,
            start=day - timedelta(days=window.days) if window else None,
            end=day if window else None,
            columns=columns,
        )
        rows, checksum = _fingerprint(connection, relation, study)
    finally:
        connection.close()
    relation = Relation(**{**relation.__dict__, "rows": rows, "checksum": checksum})
    (folder / RELATION_FILE).write_text(relation.to_json(), encoding="utf-8")
    return relation


def used_columns(study: Study) -> list[str]:
    """Columns that the study's formula, cells and window name, in order of first use."""
    names = list(formula_columns(study.parsed_formula))
    names += list(study.cells or ())
    names += [study.privacy.of] if study.privacy else []
    return list(dict.fromkeys(names))


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _line_items(study: Study) -> str:
    source = study.source
    if source.parquet is not None:
        for pattern in source.parquet:
            if "://" not in pattern and not _matches(pattern):
                raise SourceError(f"{study.name}: source.parquet {pattern} matches no file (working directory {Path.cwd()}).")
        files = ", ".join(literal(pattern if "://" in pattern else str(Path(pattern).absolute())) for pattern in source.parquet)
        return f"select * from read_parquet([{files}])"
    path = Path(str(source.line_items))
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = _packaged(path, study)
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{study.name}: source.line_items {path} cannot be read ({error}).") from error
    text = text.strip().removesuffix(";")
    if len(duckdb.extract_statements(text)) != 1:
        raise SourceError(f"{study.name}: source.line_items {path} must hold exactly one SELECT statement.")
    return text


def _packaged(path: Path, study: Study) -> str:
    """The project's own queries are package data, so that a study runs from any working directory."""
    from sql import read_query

    if path.parent == Path("sql"):
        try:
            return read_query(path.stem)
        except FileNotFoundError:
            pass
    raise SourceError(f"{study.name}: source.line_items {path} does not exist (working directory {Path.cwd()}).")


def _matches(pattern: str) -> bool:
    path = Path(pattern)
    if path.is_file():
        return True
    anchor, parts = Path(path.anchor or "."), path.parts[1:] if path.is_absolute() else path.parts
    return next(iter(anchor.glob(str(Path(*parts)))), None) is not None if parts else False


def _columns(connection: duckdb.DuckDBPyConnection, line_items: str, study: Study) -> dict[str, str]:
    where = study.source.line_items or ", ".join(study.source.parquet or ())
    try:
        described = connection.sql(f"describe select * from (\n{line_items}\n)").fetchall()
    except duckdb.Error as error:
        raise SourceError(f"{study.name}: {where} does not run on this source: {first_line(error)}") from error
    return {row[0]: row[1] for row in described}


def _require_columns(study: Study, columns: dict[str, str]) -> None:
    indicators = {f"{name}_missing" for name, rule in study.missing.items() if rule == "mean_and_indicator"}
    wanted = [*used_columns(study), *study.missing, *([study.window.column] if study.window else [])]
    unknown = [name for name in wanted if name not in columns and name not in indicators]
    if unknown:
        import difflib

        close = difflib.get_close_matches(unknown[0], list(columns), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SourceError(f"{study.name}: the line items have no column {', '.join(unknown)}; {hint}they have {', '.join(columns)}.")


def _resolve_as_of(
    connection: duckdb.DuckDBPyConnection, study: Study, as_of: date | None, *, today: date, line_items: str, columns: dict[str, str]
) -> date:
    wanted = as_of if as_of is not None else study.as_of
    if isinstance(wanted, date):
        return wanted
    if wanted == "scheduled" or study.window is None:
        return today
    column = study.window.column
    if not columns[column].startswith(("DATE", "TIMESTAMP")):
        raise SourceError(f"{study.name}: window.column {column} is {columns[column]}; it must be a date or a timestamp.")
    (last,) = connection.sql(f"select max({quote(column)})::date from (\n{line_items}\n)").fetchall()[0]
    if last is None:
        raise DataError(f"{study.name}: the source has no line items with a {column}.")
    return last + timedelta(days=1)


def _fingerprint(connection: duckdb.DuckDBPyConnection, relation: Relation, study: Study) -> tuple[int, str]:
    """Rows in the window and an order-independent checksum of the used columns, in one scan."""
    names = [name for name in used_columns(study) if name in relation.columns] or list(relation.columns)[:1]
    packed = ", ".join(quote(name) for name in names)
    mixed = f"coalesce(bit_xor(hash({packed})), 0), coalesce(sum(hash({packed}) % 1000000007), 0)"
    query = f"select count(*), {mixed} from ({relation.sql})"
    try:
        rows, parity, total = connection.sql(query).fetchall()[0]
    except duckdb.Error as error:
        raise SourceError(f"{study.name}: the line items cannot be read: {first_line(error)}") from error
    if not rows:
        raise DataError(_empty(connection, relation))
    return int(rows), f"{int(parity):016x}-{int(total):x}"


def _empty(connection: duckdb.DuckDBPyConnection, relation: Relation) -> str:
    if relation.window_column is None:
        return f"{relation.study}: the source has no line items."
    column = quote(relation.window_column)
    first, last = connection.sql(f"select min({column})::date, max({column})::date from (\n{relation.line_items}\n)").fetchall()[0]
    has = f"the data has {first} to {last}" if first else "the data has no line items at all"
    return (
        f"{relation.study}: no line items in the window {relation.start} to {relation.end} (end not included); {has}. "
        "Choose another --as-of or more window.days."
    )
