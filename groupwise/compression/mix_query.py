"""The table of weights that a study standardises to: read once, when the line items are described, and kept with the run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq

from groupwise.source.parquet_statistics import CAN_HAVE_NAN
from groupwise.source.relation import ALIAS, first_line, literal, open_source, quote
from groupwise.source.sealing import readable
from groupwise.source.source_files import is_remote, local_files
from groupwise.source.time_limit import close
from groupwise.source.user_sql.objects import read_objects
from groupwise.source.user_sql.sql_errors import RefusedSqlError, sentence
from groupwise.source.user_sql.statement import one_statement, run
from groupwise.source.user_sql.user_query import check_query
from groupwise.study.study import Study
from groupwise.study.study_source import Mix
from groupwise.study.user_text import read_user_file
from multilevel.cells.reference_mix import MixTable, with_mix
from multilevel.cells.statistics import CellStatistics
from multilevel.errors import SourceError, StudyError
from multilevel.fit.container import Check

MIX_FILE = "mix.parquet"
OF_THE_DATA = "the line items themselves"
WEIGHT = "weight"
MOST_ROWS = 1_000_000


def keep_mix(study: Study, folder: Path) -> None:
    """Write ``mix.parquet`` into ``folder``, where the study names a table: its columns as text, and ``weight``.

    Raises
    ------
    SourceError : the table cannot be read. StudyError : ``weight`` is missing, null, negative, not finite or nowhere above zero, another
    column is null, or there are more than a million rows.
    """
    mix = study.standardise_to
    if mix is None:
        return
    query = mix_text(mix, study.name)
    parquet = () if mix.parquet is None else (mix.parquet,)
    connection = open_source(mix.database, f"{study.name}: standardise_to", folder, parquet, wishes=study.wishes, zone=study.zone)
    try:
        _check_query(connection, mix, query, study.name)
        try:
            columns = connection.sql(one_statement(query)).columns
            if WEIGHT not in columns:
                raise StudyError(f"{study.name}: standardise_to: {described(mix)} has no column weight; it has {', '.join(columns)}.")
            texts = [f"cast({quote(name)} as varchar) as {quote(name)}" for name in columns if name != WEIGHT]
            selected = ", ".join([*texts, "cast(weight as double) as weight"])
            target = literal(str(folder / MIX_FILE))
            run(connection, f"copy (select {selected} from (\n{query}\n) limit {MOST_ROWS + 1}) to {target} (format parquet)")
        except duckdb.Error as error:
            raise SourceError(f"{study.name}: standardise_to: {described(mix)} cannot be read: {first_line(error)}") from error
    finally:
        close(connection)
    read_mix(study, folder)


def read_mix(study: Study, folder: Path) -> MixTable:
    """The kept table, checked."""
    name = f"{study.name}: standardise_to"
    table = pq.read_table(folder / MIX_FILE)
    if table.num_rows > MOST_ROWS:
        raise StudyError(f"{name}: the table has more than {MOST_ROWS:,} rows; add the weights up over fewer columns.")
    nulls = [column for column in table.column_names if table.column(column).null_count]
    if nulls:
        raise StudyError(f"{name}: {nulls[0]} is null in {table.column(nulls[0]).null_count:,} rows; every row needs all its values.")
    weight = table.column(WEIGHT).to_numpy().astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(weight) | (weight < 0.0))
    if len(wrong):
        raise StudyError(f"{name}: weight {weight[wrong[0]]:g} in row {wrong[0] + 1}: weights are finite and not negative.")
    if not weight.sum() > 0.0:
        raise StudyError(f"{name}: the weights of {table.num_rows:,} rows sum to 0; at least one must be above it.")
    columns = {column: [str(value) for value in table.column(column).to_pylist()] for column in table.column_names if column != WEIGHT}
    return MixTable(columns, weight, name)


def mixed_cells(study: Study, cells: CellStatistics, folder: Path) -> tuple[CellStatistics, Check]:
    """The cells with the study's mix, and the ``weights_source`` row of ``diagnostics``."""
    if study.standardise_to is None:
        return cells, _source(None, OF_THE_DATA)
    table = read_mix(study, folder)
    return with_mix(cells, table), _source(len(table.weight), mix_words(study, folder))


def mix_words(study: Study, folder: Path) -> str:
    """What the estimates are standardised to: the table, what it names, and a checksum of what was read."""
    if study.standardise_to is None:
        return OF_THE_DATA
    table = pq.read_table(folder / MIX_FILE)
    rows = sorted(zip(*(table.column(name).to_pylist() for name in sorted(table.column_names)), strict=True), key=repr)
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
    named = ", ".join(name for name in table.column_names if name != WEIGHT)
    return f"{described(study.standardise_to)}: weights of {named} ({table.num_rows:,} rows, sha256 {digest})"


def described(mix: Mix) -> str:
    """Where the table is."""
    return str(mix.parquet) if mix.parquet is not None else f"{mix.query} on {mix.database}"


def _source(rows: int | None, words: str) -> Check:
    message = f"group_estimates and cell_estimates are standardised to {words}"
    return Check("weights_source", None if rows is None else float(rows), None, passed=True, message=message)


def mix_text(mix: Mix, study: str) -> str:
    """The query that gives the table; SourceError where it cannot be read or matches no file."""
    if mix.parquet is not None:
        try:
            is_empty = not is_remote(mix.parquet) and not local_files(mix.parquet)
        except SourceError as error:
            raise SourceError(f"{study}: standardise_to.parquet {error}") from error
        if is_empty:
            raise SourceError(f"{study}: standardise_to.parquet {mix.parquet} matches no file (working directory {Path.cwd()}).")
        return f"select * from read_parquet([{', '.join(map(literal, readable(mix.parquet)))}], {CAN_HAVE_NAN}, hive_partitioning = false)"
    try:
        return read_user_file(Path(str(mix.query)), "file with one SELECT").strip().removesuffix(";")
    except StudyError as error:
        raise SourceError(f"{study}: standardise_to.query: {error}") from error


def _check_query(connection: duckdb.DuckDBPyConnection, mix: Mix, query: str, study: str) -> None:
    """The user's query is one SELECT over the declared database, or refused before it is run."""
    if mix.parquet is not None:
        return
    try:
        check_query(query, read_objects(connection, ALIAS))
    except RefusedSqlError as error:
        raise SourceError(f"{study}: standardise_to.query {mix.query}: {sentence(error)}") from error
