"""Rows to predict at: what the formula needs of a table, and its rows as combinations of the saved coefficients."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, hstack

from multilevel.arrays import Floats, Integers
from multilevel.cells.column_facts import Schema
from multilevel.cells.from_rows import evaluate
from multilevel.cells.statistics import CellStatistics, Labels
from multilevel.design.coding import code_terms
from multilevel.errors import DataError
from multilevel.formula.columns import columns_in, grouping_columns, predictor_expressions
from multilevel.formula.labels import expression_label
from multilevel.formula.parse import parse_formula
from multilevel.formula.tree import Call, Column, Expression, Formula
from multilevel.prediction.saved_model import SavedFactor, SavedModel

LISTED = 5
"""Values that a message names."""

type Texts = Sequence[str | None]


@dataclass(frozen=True)
class Needs:
    """Columns that a table must have: ``texts`` name levels and categories, ``numbers`` are calculated with."""

    texts: tuple[str, ...]
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class At:
    """A table of N rows to predict at. texts : column -> N labels, None where unknown. numbers : column -> (N,)."""

    n_rows: int
    texts: Mapping[str, Texts]
    numbers: Mapping[str, Floats]


@dataclass(frozen=True)
class NewEffects:
    """Effects of levels that the fit has not seen: of ``rows`` (M,), whose columns of Z are ``z`` (M, k)."""

    block: int
    rows: Integers
    z: Floats


@dataclass(frozen=True)
class PredictionRows:
    """rows : (N, p + q) of what is known. offset : (N,). new : effects that are unknown. is_new : (N,) whether a row has any."""

    rows: csr_array
    offset: Floats
    new: tuple[NewEffects, ...]
    is_new: NDArray[np.bool_]
    log_variance: Floats | None
    log_variance_error: Floats | None


def needs(kept: SavedModel, given: Collection[str], *, of_next: bool = False) -> Needs:
    """What predicting takes from a table with the columns ``given``; one named as a call of the formula stands for that call.

    ``of_next``: the next outcome too, and so its trials or its known precision.
    """
    formula = parse_formula(kept.formula)
    texts, numbers = list(grouping_columns(formula)), []
    for expression in (*predictor_expressions(formula), *formula.offsets):
        inner = expression.arguments[0] if isinstance(expression, Call) and expression.function == "C" else expression
        if _is_given(expression, given):
            numbers.append(expression_label(expression))
        elif expression_label(expression) in kept.labels and isinstance(inner, Column):
            texts.append(inner.name)
        elif isinstance(expression, Call) and expression.function == "between":
            texts += [name for argument in expression.arguments[1:] for name in columns_in(argument)]
        elif isinstance(expression, Call) and expression.function == "within":
            numbers += columns_in(expression.arguments[0])
            texts += [name for argument in expression.arguments[1:] for name in columns_in(argument)]
        else:
            numbers += columns_in(inner)
    if of_next:
        response = formula.response
        numbers += [] if response.trials is None else columns_in(response.trials)
        numbers += [name for name in (response.weights, response.standard_error) if name is not None]
    return Needs(tuple(dict.fromkeys(texts)), tuple(dict.fromkeys(numbers)))


def prediction_rows(kept: SavedModel, at: At) -> PredictionRows:
    """The table's rows as combinations of the saved coefficients.

    Raises
    ------
    DataError
        A category that the fit has not seen, a value that is missing or not finite; the message names the column and the row.
    """
    formula = parse_formula(kept.formula)
    cells = _as_cells(kept, at, formula)
    coded = {column.label: column.multiplier for column in code_terms(formula.population, cells)}
    fixed = np.column_stack([coded[label] for label in kept.population]) if kept.population else np.zeros((at.n_rows, 0))
    places = {name: _levels(factor, at) for name, factor in kept.factors.items()}
    pieces = [csr_array(fixed)]
    new: list[NewEffects] = []
    for index, (group, name) in enumerate(zip(formula.groups, kept.blocks, strict=True)):
        z = np.column_stack([column.multiplier for column in code_terms(group.terms, cells)])
        level, n_levels = places[name], len(kept.factors[name].levels)
        seen = np.flatnonzero(level >= 0)
        columns = level[seen, None] * z.shape[1] + np.arange(z.shape[1])
        shape = (at.n_rows, n_levels * z.shape[1])
        pieces.append(csr_array(coo_array((z[seen].ravel(), (np.repeat(seen, z.shape[1]), columns.ravel())), shape=shape)))
        unseen = np.flatnonzero(level < 0)
        if len(unseen):
            new.append(NewEffects(index, unseen, z[unseen]))
    is_new = np.any([level < 0 for level in places.values()], axis=0) if places else np.zeros(at.n_rows, dtype=bool)
    variance = _log_variance(kept, places, at.n_rows) if kept.log_variance is not None else (None, None)
    return PredictionRows(_joined(pieces), _offset(kept, at, formula), tuple(new), np.asarray(is_new), *variance)


def outcome_sizes(kept: SavedModel, at: At) -> Floats:
    """(N,) trials of each row's next outcome, or its weight; DataError where one is missing or not above zero."""
    response = parse_formula(kept.formula).response
    if response.trials is not None:
        frame = pd.DataFrame(dict(at.numbers), index=pd.RangeIndex(at.n_rows))
        name, sizes = expression_label(response.trials), _value(kept, response.trials, frame, {})
    elif response.weights is not None:
        name, sizes = response.weights, at.numbers[response.weights]
    elif response.standard_error is not None:
        name, sizes = response.standard_error, at.numbers[response.standard_error]
    else:
        return np.ones(at.n_rows)
    wrong = np.flatnonzero(~(_finite(sizes, name) > 0))
    if len(wrong):
        raise DataError(f"Row {wrong[0] + 1}: `{name}` is {sizes[wrong[0]]:g}; the next outcome needs one above zero.")
    return sizes if response.standard_error is None else sizes**-2.0


def _joined(pieces: Sequence[csr_array]) -> csr_array:
    return csr_array(hstack(pieces, format="csr"))


def _is_given(expression: Expression, given: Collection[str]) -> bool:
    return not isinstance(expression, Column) and expression_label(expression) in given


def _as_cells(kept: SavedModel, at: At, formula: Formula) -> CellStatistics:
    """The table's rows as cells of one row each, every predictor fixed."""
    frame = pd.DataFrame(dict(at.numbers), index=pd.RangeIndex(at.n_rows))
    means = {mean.label: _mean_of_level(mean.keys, mean.values, [at.texts[name] for name in mean.columns]) for mean in kept.means}
    labels: dict[str, Labels] = {}
    numbers: dict[str, Floats] = {}
    for expression in predictor_expressions(formula):
        name = expression_label(expression)
        if name in kept.labels:
            labels[name] = _categories(kept, expression, at, frame)
        elif _is_given(expression, at.numbers):
            numbers[name] = _finite(at.numbers[name], name)
        else:
            _check_means(expression, means)
            numbers[name] = _finite(_value(kept, expression, frame, means), name)
    n = np.ones(at.n_rows, dtype=np.int64)
    ones, none = np.ones(at.n_rows), np.zeros((at.n_rows, 0))
    return CellStatistics(
        family=kept.family,
        log_outcome=kept.log_outcome,
        groups={},
        labels=labels,
        numbers=numbers,
        features=(),
        n=n,
        weight=ones,
        mean=none,
        cross=np.zeros((at.n_rows, 0, 0)),
        size=ones,
        total=ones,
        offset=np.zeros(at.n_rows),
        once={},
    )


def _value(kept: SavedModel, expression: Expression, frame: pd.DataFrame, means: Mapping[str, Floats]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return evaluate(expression, frame, Schema({}, moments=kept.moments), means)


def _check_means(expression: Expression, means: Mapping[str, Floats]) -> None:
    if not isinstance(expression, Call) or expression.function not in {"within", "between"}:
        return
    mean = expression_label(Call("between", expression.arguments))
    name = expression_label(expression)
    if mean not in means:
        raise DataError(f"`{name}` needs means by level that the fit does not keep; add a column named `{name}` with its values.")
    unknown = np.flatnonzero(np.isnan(means[mean]))
    if len(unknown):
        raise DataError(
            f"Row {unknown[0] + 1}: `{name}` needs the mean of a level that the fit has not seen; add a column named `{name}` with its "
            "values."
        )


def _mean_of_level(keys: tuple[tuple[str, ...], ...], values: Sequence[float], columns: Sequence[Texts]) -> Floats:
    places = _matched(keys, columns)
    return np.where(places < 0, np.nan, np.asarray(values)[places])


def _categories(kept: SavedModel, expression: Expression, at: At, frame: pd.DataFrame) -> Labels:
    name = expression_label(expression)
    known = kept.labels[name]
    inner = expression.arguments[0] if isinstance(expression, Call) else expression
    if isinstance(inner, Column):
        given: Texts = at.texts[inner.name]
    else:
        given = [repr(float(value)) for value in _value(kept, inner, frame, {})]
    codes = _matched((known,), [given])
    wrong = np.flatnonzero(codes < 0)
    if len(wrong):
        more = f" ({len(wrong):,} such rows)" if len(wrong) > 1 else ""
        shown = ", ".join(known[:LISTED]) + (", ..." if len(known) > LISTED else "")
        raise DataError(
            f"Row {wrong[0] + 1}{more}: {name} is {given[wrong[0]]!r}, which the fit has not seen; it has {shown}. "
            "Only grouping factors can have new levels."
        )
    return Labels(codes.astype(np.int32), np.array(known, dtype=object))


def _finite(values: Floats, name: str) -> Floats:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        more = f" ({len(wrong):,} such rows)" if len(wrong) > 1 else ""
        raise DataError(f"Row {wrong[0] + 1}{more}: `{name}` is missing or not finite; every predictor needs a value.")
    return values


def _offset(kept: SavedModel, at: At, formula: Formula) -> Floats:
    frame = pd.DataFrame(dict(at.numbers), index=pd.RangeIndex(at.n_rows))
    total = np.zeros(at.n_rows)
    for expression in formula.offsets:
        name = f"offset({expression_label(expression)})"
        given = at.numbers.get(expression_label(expression)) if _is_given(expression, at.numbers) else None
        total = total + _finite(_value(kept, expression, frame, {}) if given is None else given, name)
    return total


def _levels(factor: SavedFactor, at: At) -> Integers:
    """(N,) the level of each row, -1 where it is unknown."""
    return _matched(factor.keys, [at.texts[name] for name in factor.columns])


def _matched(keys: tuple[tuple[str, ...], ...], columns: Sequence[Texts]) -> Integers:
    """(N,) places of the rows' labels among the keys, -1 for none; a number is the same number however it is written."""
    written = [_as_written(known, given) for known, given in zip(keys, columns, strict=True)]
    places = {key: place for place, key in enumerate(zip(*keys, strict=True))}
    return np.array([places.get(key, -1) for key in zip(*written, strict=True)], dtype=np.int64).reshape(-1)


def _as_written(known: Sequence[str], given: Texts) -> list[str | None]:
    """Labels as the fit wrote them: ``7.0`` is ``7`` where that is a label, 0 and 1 are false and true where those are."""
    own = set(known)
    strangers = {label for label in given if label is not None and label not in own}
    if not strangers:
        return list(given)
    by_value = {value: label for label in own if (value := _number(label)) is not None}
    if own <= {"false", "true"}:
        by_value = {0.0: "false", 1.0: "true"}
    same = {label: by_value.get(value, label) for label in strangers if (value := _number(label)) is not None}
    return [label if label is None else same.get(label, label) for label in given]


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


def _log_variance(kept: SavedModel, places: Mapping[str, Integers], n_rows: int) -> tuple[Floats, Floats]:
    """(N,) log sigma^2 of each row and its standard error; of a level never seen the average's, with the sd between levels."""
    centre, squared = np.full(n_rows, kept.log_variance or 0.0), np.full(n_rows, kept.log_variance_error**2)
    for name, factor in kept.factors.items():
        level = places[name]
        if not factor.log_variances:
            continue
        effects, errors = np.asarray(factor.log_variances), np.asarray(factor.log_variance_errors)
        centre = centre + np.where(level < 0, 0.0, effects[level])
        squared = squared + np.where(level < 0, factor.log_variance_sd, errors[level]) ** 2
    return centre, np.sqrt(squared)
