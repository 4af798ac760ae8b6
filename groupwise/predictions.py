"""Contrasts and predictions from the saved model of a published version."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.publishing.target import Target, open_target
from groupwise.publishing.version import Version
from groupwise.source.conditions import is_missing
from groupwise.source.relation import first_line, literal, quote
from groupwise.source.source_files import exactly, is_remote, plain_path
from groupwise.study.study import Study
from groupwise.validation.missing_values import MISSING_LEVEL
from multilevel.errors import DataError, SourceError, StudyError

if TYPE_CHECKING:
    from multilevel.prediction.average_contrast import AverageContrast, Choice
    from multilevel.prediction.coefficient_contrast import LevelContrast
    from multilevel.prediction.prediction_rows import At
    from multilevel.prediction.saved_averages import SavedAverages
    from multilevel.prediction.saved_model import SavedModel

KINDS = ("members", "population", "coefficient")
MADE = ("estimate", "std_error", "lower", "upper", "is_new")
"""Columns that a prediction adds to the table."""


@dataclass(frozen=True)
class SavedModels:
    """The saved models of one published version: one, or the two parts of a two-part model. averages: by factor, those that it published;
    empty in a version of before they were kept."""

    version: Version
    models: tuple[SavedModel, ...]
    averages: tuple[SavedAverages, ...] = ()


def read_saved(study: Study, run_id: str | None = None) -> SavedModels:
    """The saved models of the latest version, or of that of ``run_id``.

    Raises
    ------
    SourceError
        Nothing is published, no such version, or the version keeps nothing; the message says why.
    """
    target = open_target(study.publish_to, study.name)
    version = _version(study, target, run_id)
    with tempfile.TemporaryDirectory(prefix="groupwise-") as folder:
        return saved_of(study, version, target.joint(version, Path(folder)))


def saved_of(study: Study, version: Version, file: Path | None) -> SavedModels:
    """The saved models in a version's file; SourceError where it has none, with the reason."""
    from multilevel.prediction.saved_file import read_averages, read_models

    if file is not None:
        return SavedModels(version, read_models(file), read_averages(file))
    raise SourceError(f"{study.name}: run {version.run_id} has no saved joint distribution: {_why(study)}.")


def contrast_averages(
    saved: SavedModels, levels: Sequence[str], factor: str | None = None, of: str | None = None
) -> tuple[list[AverageContrast], list[Choice], str]:
    """Every pair of ``levels`` on the scale of the outcome, of more than two the choice among them, and of whom they speak.

    ``of``: members or population; None: the headline. Raises StudyError, SourceError.
    """
    from multilevel.prediction.average_contrast import average_contrasts, choices
    from multilevel.prediction.coefficient_contrast import find_levels

    found, places = find_levels(saved.models[0], levels, factor)
    own = [averages for averages in saved.averages if averages.factor == found.name]
    kept = next((averages for averages in own if of in (None, averages.of)), None)
    if own and kept is None:
        raise StudyError(f"--of {of}: {found.name} has no population estimates; the study names no sampled column inside it.")
    if kept is None:
        raise SourceError(
            f"Run {saved.version.run_id} keeps no averages, only coefficients: run groupwise estimate again, or add --of coefficient."
        )
    if len(set(places)) < len(places):
        raise StudyError(f"{' and '.join(map(repr, levels))}: name each level once.")
    pairs = average_contrasts(kept, places, levels)
    return pairs, choices(kept, places, levels) if len(levels) > 2 else [], kept.of


def contrast_levels(saved: SavedModels, level_a: str, level_b: str, factor: str | None = None) -> list[LevelContrast]:
    """``level_a`` minus ``level_b`` for every term that varies by their factor, of every part of the model; raises StudyError."""
    from multilevel.prediction.coefficient_contrast import level_contrasts

    return [found for model in saved.models for found in level_contrasts(model, level_a, level_b, factor)]


def check_contrast(levels: Sequence[object], of: str | None) -> None:
    """Raise StudyError where no such differences exist."""
    if of not in (None, *KINDS):
        raise StudyError(f"--of {of}: write {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    if len(levels) < 2:
        raise StudyError(f"contrast {' '.join(map(str, levels))}: name two levels, or more.")
    if of == "coefficient" and len(levels) > 2:
        raise StudyError("--of coefficient: name two levels.")


def contrast_rows(study: Study, saved: SavedModels, levels: Sequence[str], factor: str | None, of: str | None) -> list[dict[str, Any]]:
    """The differences as rows of a table; parameters and errors as of ``contrast_averages``, and ``of`` may be coefficient."""
    if of == "coefficient":
        return [coefficient_row(each, study) for each in contrast_levels(saved, levels[0], levels[1], factor)]
    pairs, _, kind = contrast_averages(saved, levels, factor, of)
    return [average_row(each, kind, study) for each in pairs]


def average_row(each: AverageContrast, of: str, study: Study) -> dict[str, Any]:
    """A difference of averages as a row of a table."""
    bounds = (None, None, None) if each.ratio is None else each.ratio
    return {
        "level_a": each.level_a,
        "level_b": each.level_b,
        "of": of,
        "scale": "response",
        "difference": each.difference,
        "std_error": each.std_error,
        "lower": each.lower,
        "upper": each.upper,
        "ratio": bounds[0],
        "probability": each.probability,
        "grouping_factor": each.grouping_factor,
        "ratio_lower": bounds[1],
        "ratio_upper": bounds[2],
        "interval": study.interval,
        "is_simultaneous": each.is_simultaneous,
    }


def coefficient_row(each: LevelContrast, study: Study) -> dict[str, Any]:
    """A difference of coefficients as a row of a table."""
    return {
        "level_a": each.level_a,
        "level_b": each.level_b,
        "of": "coefficient",
        "scale": "link",
        "difference": each.estimate,
        "std_error": each.std_error,
        "lower": each.lower,
        "upper": each.upper,
        "ratio": None if each.ratio is None else each.ratio[0],
        "probability": each.probability_greater,
        "grouping_factor": each.grouping_factor,
        "term": each.term,
        "part": each.part,
        "interval": study.interval,
    }


def predict_at(study: Study, saved: SavedModels, at: str, *, interval: float | None = None) -> pa.Table:
    """The table ``at`` with the expected outcome of every row: ``estimate, std_error, lower, upper, is_new``.

    Parameters
    ----------
    at : a Parquet or CSV file with the formula's predictors and grouping columns; a grouping column that is null, or a level never seen, is
        a new group. interval : probability of the intervals; None: the study's.

    Raises
    ------
    SourceError : the file cannot be read, or lacks a column. DataError : a row cannot be predicted.
    """
    with _connection() as connection:
        table = _read(connection, at)
    for name, column in zip(MADE, predict_rows(study, saved, table, at, interval=interval), strict=True):
        table = table.append_column(name, pa.array(column))
    return table


def predict_rows(study: Study, saved: SavedModels, table: pa.Table, named: str, *, interval: float | None = None) -> Sequence[np.ndarray]:
    """The columns ``MADE`` of a table of N rows, each (N,); as ``predict_at``. ``named`` begins messages on rows."""
    from multilevel.prediction.row_predictions import predict

    with _connection() as connection:
        rows = _at(connection, study, saved.models, table)
    try:
        summary, is_new = predict(saved.models, rows, interval=interval, seed=study.seed)
    except DataError as error:
        raise DataError(f"{named}: {error}") from error
    return summary.estimate, summary.std_error, summary.lower, summary.upper, is_new


def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})


def write_predictions(table: pa.Table, file: Path) -> None:
    """Write a prediction as Parquet, or as CSV where the name ends so; SourceError where the place refuses."""
    import pyarrow.csv as pc

    try:
        if file.suffix.lower() == ".csv":
            pc.write_csv(table, file)
        else:
            pq.write_table(table, file, compression="zstd")
    except OSError as error:
        raise SourceError(f"--output {file}: cannot be written ({error.strerror or error}).") from error


def _version(study: Study, target: Target, run_id: str | None) -> Version:
    if run_id is None:
        latest = target.latest()
        if latest is None:
            raise SourceError(f"{study.name}: nothing is published in {study.publish_to} yet; run groupwise estimate first.")
        return latest
    found = [version for version in target.versions() if version.run_id == run_id]
    if not found:
        raise SourceError(f"{study.name}: no version of run {run_id!r} in {study.publish_to}; groupwise diff lists them.")
    return found[0]


def _why(study: Study) -> str:
    from multilevel.prediction.save_model import MOST_COEFFICIENTS

    if study.privacy is not None:
        return "under privacy nothing of single groups is kept besides the tables"
    return (
        f"it has more than {MOST_COEFFICIENTS:,} coefficients (leave out the factor with most levels), or was published under privacy or "
        "before groupwise kept one (run groupwise estimate again)"
    )


def _read(connection: duckdb.DuckDBPyConnection, at: str) -> pa.Table:
    try:
        at = plain_path(at)
    except ValueError as error:
        raise SourceError(f"--at {at}: {error}.") from error
    if not is_remote(at) and not Path(at).is_file():
        raise SourceError(f"--at {at}: there is no such file (working directory {Path.cwd()}).")
    reader = "read_csv" if at.lower().endswith((".csv", ".csv.gz", ".tsv")) else "read_parquet"
    try:
        table = _rows(connection, f"select * from {reader}({literal(exactly(at))})")
    except duckdb.Error as error:
        raise SourceError(f"--at {at}: cannot be read as {'CSV' if reader == 'read_csv' else 'Parquet'}: {first_line(error)}") from error
    if not table.num_rows:
        raise SourceError(f"--at {at}: the table has no rows.")
    taken = [name for name in MADE if name in table.column_names]
    if taken:
        raise SourceError(f"--at {at}: the prediction writes the columns {', '.join(MADE)}; rename the table's own {', '.join(taken)}.")
    return table


def _at(connection: duckdb.DuckDBPyConnection, study: Study, models: Sequence[SavedModel], table: pa.Table) -> At:
    """The columns that the formula needs, as the fit read them: levels and categories as text, the rest as numbers."""
    from multilevel.prediction.prediction_rows import At, needs

    given = table.column_names
    fills = models[0].fills
    wanted = needs(models[0], given)
    indicators = {f"{name}_missing" for name in fills} - set(given)
    absent = [name for name in dict.fromkeys((*wanted.texts, *wanted.numbers)) if name not in given and name not in indicators]
    if absent:
        raise SourceError(
            f"--at: the formula needs the column{'s' if len(absent) > 1 else ''} {', '.join(absent)}; the table has {', '.join(given)}. "
            "A grouping column may be null: then the row is of a group never seen."
        )
    connection.register("at_rows", table)
    types = {row[0]: row[1] for row in connection.execute("describe at_rows").fetchall()}
    texts = {name: _text(study, name, types[name]) for name in wanted.texts}
    numbers = {name: _number(fills, name, types) for name in wanted.numbers}
    picks = ", ".join(
        [f"{sql} as {quote(f't.{name}')}" for name, sql in texts.items()]
        + [f"{sql} as {quote(f'n.{name}')}" for name, sql in numbers.items()]
    )
    try:
        found = _rows(connection, f"select {picks or '1'} from at_rows")
    except duckdb.Error as error:
        raise SourceError(f"--at: a column is not of the type that the formula needs: {first_line(error)}") from error
    return At(
        table.num_rows,
        {name: found.column(f"t.{name}").to_pylist() for name in texts},
        {name: found.column(f"n.{name}").to_numpy(zero_copy_only=False).astype(np.float64) for name in numbers},
    )


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    """A query's rows, in their order."""
    table: Any = connection.sql(query).to_arrow_table()
    return table


def _text(study: Study, name: str, kind: str) -> str:
    own = f"cast({quote(name)} as varchar)"
    if study.missing.get(name) != "level":
        return own
    return f"case when {is_missing(name, kind)} then {literal(MISSING_LEVEL)} else {own} end"


def _number(fills: Mapping[str, float], name: str, types: Mapping[str, str]) -> str:
    source = name.removesuffix("_missing")
    if name not in types and source in fills:
        return f"cast({is_missing(source, types[source])} as double)"
    own = f"cast({quote(name)} as double)"
    return f"case when {is_missing(name, types[name])} then {fills[name]!r} else {own} end" if name in fills else own
