"""Contrasts and predictions from the saved model of a published version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.kept_models import SavedModels
from groupwise.source.conditions import is_missing
from groupwise.source.other_rows import read_rows
from groupwise.source.relation import first_line, literal, quote
from groupwise.source.source_files import is_remote, plain_path
from groupwise.study.study import Study
from groupwise.validation.missing_values import MISSING_LEVEL
from multilevel.errors import DataError, SourceError, StudyError

if TYPE_CHECKING:
    from multilevel.prediction.average_contrast import AverageContrast, Choice
    from multilevel.prediction.coefficient_contrast import LevelContrast
    from multilevel.prediction.prediction_rows import At
    from multilevel.prediction.saved_model import SavedModel

MOST_COMPARED = 100
"""Levels of which every pair is compared: 4,950 pairs."""

KINDS = ("members", "population", "coefficient")
MADE = ("estimate", "std_error", "lower", "upper", "is_new")
"""Columns that a prediction adds to the table."""


def contrast_averages(
    saved: SavedModels, levels: Sequence[str], factor: str | None = None, of: str | None = None
) -> tuple[list[AverageContrast], list[Choice], str]:
    """Every pair of ``levels`` on the scale of the outcome, of more than two the choice among them, and of whom they speak.

    ``of``: members or population; None: the headline. Raises StudyError, SourceError.
    """
    from multilevel.prediction.average_contrast import average_contrasts, choices
    from multilevel.prediction.coefficient_contrast import find_levels, named_places

    found, _ = _models_of(saved, levels, factor, lambda models: find_levels(models[0].factors, levels, factor))
    own = saved.source.averages(found.name, levels)
    kept = next((averages for averages in own if of in (None, averages.of)), None)
    if own and kept is None:
        raise StudyError(f"--of {of}: {found.name} has no population estimates; the study names no sampled column inside it.")
    if kept is None:
        raise SourceError(
            f"Run {saved.version.run_id} keeps no averages, only coefficients: run groupwise estimate again, or add --of coefficient."
        )
    places = named_places(found.name, kept.levels, kept.parents, levels)
    if len(set(places)) < len(places):
        raise StudyError(f"{' and '.join(map(repr, levels))}: name each level once.")
    pairs = average_contrasts(kept, places, levels)
    return pairs, choices(kept, places, levels) if len(levels) > 2 else [], kept.of


def contrast_levels(saved: SavedModels, level_a: str, level_b: str, factor: str | None = None) -> list[LevelContrast]:
    """``level_a`` minus ``level_b`` for every term that varies by their factor, of every part of the model; raises StudyError."""
    from multilevel.prediction.coefficient_contrast import level_contrasts

    def every(models: Sequence[SavedModel]) -> list[LevelContrast]:
        return [found for model in models for found in level_contrasts(model, level_a, level_b, factor)]

    return _models_of(saved, (level_a, level_b), factor, every)


def _models_of[T](saved: SavedModels, levels: Sequence[str], factor: str | None, work: Callable[[Sequence[SavedModel]], T]) -> T:
    """What ``work`` makes of the models with ``levels``; where it refuses, the complaint knows every level that there is."""
    from multilevel.prediction.coefficient_contrast import find_levels

    try:
        return work(saved.source.at_labels(levels))
    except StudyError:
        find_levels(saved.source.factors(), levels, factor)
        raise


@dataclass(frozen=True)
class Chosen:
    """The levels whose differences are asked for: ``levels``, or all that lie ``within`` a parent, or the ``top`` with the highest
    averages, there or anywhere; of one ``factor``; ``of``: members, population or coefficient, None: the headline."""

    levels: tuple[str, ...] = ()
    factor: str | None = None
    of: str | None = None
    within: str | None = None
    top: int | None = None

    def among(self, saved: SavedModels) -> Sequence[str]:
        """The levels by name.

        Raises StudyError where the factor is not named and several may be meant, or it has too few or too many such levels.
        """
        if self.within is None and self.top is None:
            return self.levels
        factors = saved.source.bare()[0].factors
        able = [name for name, each in factors.items() if self.within is None or each.parents is not None]
        if self.factor is None and len(able) != 1:
            raise StudyError(f"Name the factor with --factor: {', '.join(able) or 'no factor is nested in another'}.")
        name = able[0] if self.factor is None else self.factor
        if name not in factors:
            raise StudyError(f"--factor {name}: the study's grouping factors are {', '.join(factors)}.")
        levels = saved.source.highest(name, self.of, MOST_COMPARED + 1 if self.top is None else self.top, self.within)
        where = "" if self.within is None else f" within {self.within!r}"
        if len(levels) < 2:
            raise StudyError(f"{name} has {'one level' if levels else 'no level'}{where} with averages; a difference needs two.")
        if len(levels) > MOST_COMPARED:
            raise StudyError(f"{name} has more than {MOST_COMPARED} levels{where}; add --top {MOST_COMPARED} or fewer.")
        return levels


def check_contrast(asked: Chosen) -> None:
    """Raise StudyError where no such differences exist."""
    levels, of = asked.levels, asked.of
    if of not in (None, *KINDS):
        raise StudyError(f"--of {of}: write {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    if asked.within is not None or asked.top is not None:
        if levels or of == "coefficient":
            raise StudyError("--within and --top choose the levels, whose averages are compared: name no levels beside them.")
        return
    if len(levels) < 2:
        raise StudyError(f"contrast {' '.join(map(str, levels))}: name two levels, or more.")
    if of == "coefficient" and len(levels) > 2:
        raise StudyError("--of coefficient: name two levels.")


def contrast_rows(study: Study, saved: SavedModels, asked: Chosen) -> list[dict[str, Any]]:
    """The differences as rows of a table; errors as of ``contrast_averages``."""
    levels = asked.among(saved)
    if asked.of == "coefficient":
        return [coefficient_row(each, study) for each in contrast_levels(saved, levels[0], levels[1], asked.factor)]
    pairs, _, kind = contrast_averages(saved, levels, asked.factor, asked.of)
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


def interval_of(text: str | float | None) -> tuple[float | None, bool]:
    """The probability of ``--interval`` (None: the study's), and whether it is of the next outcome: 0.9, next, or next:0.9.

    Raises StudyError for anything else.
    """
    of_next = isinstance(text, str) and text.split(":", 1)[0] == "next"
    given = text.partition(":")[2] or None if isinstance(text, str) and of_next else text
    try:
        probability = None if given is None else float(given)
    except ValueError:
        probability = np.nan
    if probability is not None and not 0.0 < probability < 1.0:
        raise StudyError(f"--interval {text}: write a probability between 0 and 1, such as 0.9, next, or next:0.9.")
    return probability, of_next


def predict_at(study: Study, saved: SavedModels, at: str, *, interval: str | float | None = None) -> pa.Table:
    """The table ``at`` with the expected outcome of every row: ``estimate, std_error, lower, upper, is_new``.

    Parameters
    ----------
    at : a Parquet, CSV, JSON or Arrow file with the formula's predictors and grouping columns, read as the study's source is; a
        grouping column that is null, or a level never seen, is a new group.
    interval : as of ``interval_of``: of the next outcome, ``std_error`` is its standard deviation.

    Raises
    ------
    SourceError : the file cannot be read, or lacks a column. DataError : a row cannot be predicted.
    """
    table = _read(study, at)
    for name, column in zip(MADE, predict_rows(study, saved, table, at, interval=interval), strict=True):
        table = table.append_column(name, pa.array(column))
    return table


def predict_rows(
    study: Study, saved: SavedModels, table: pa.Table, named: str, *, interval: str | float | None = None
) -> Sequence[np.ndarray]:
    """The columns ``MADE`` of a table of N rows, each (N,); as ``predict_at``. ``named`` begins messages on rows."""
    from multilevel.prediction.row_predictions import predict

    probability, of_next = interval_of(interval)
    with _connection() as connection:
        rows = _at(connection, study, saved.source.bare(), table, of_next=of_next)
    try:
        summary, is_new = predict(saved.source.at_rows(rows.texts), rows, interval=probability, of_next=of_next, seed=study.seed)
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


def _read(study: Study, at: str) -> pa.Table:
    try:
        at = plain_path(at)
    except ValueError as error:
        raise SourceError(f"--at {at}: {error}.") from error
    if not is_remote(at) and not Path(at).is_file():
        raise SourceError(f"--at {at}: there is no such file (working directory {Path.cwd()}).")
    table = read_rows(study, [at], f"--at {at}")
    if not table.num_rows:
        raise SourceError(f"--at {at}: the table has no rows.")
    taken = [name for name in MADE if name in table.column_names]
    if taken:
        raise SourceError(f"--at {at}: the prediction writes the columns {', '.join(MADE)}; rename the table's own {', '.join(taken)}.")
    return table


def _at(connection: duckdb.DuckDBPyConnection, study: Study, models: Sequence[SavedModel], table: pa.Table, *, of_next: bool = False) -> At:
    """The columns that the formula needs, as the fit read them: levels and categories as text, the rest as numbers."""
    from multilevel.prediction.prediction_rows import At, needs

    given = table.column_names
    fills = models[0].fills
    wanted = needs(models[0], given, of_next=of_next)
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
