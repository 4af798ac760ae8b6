"""Cell statistics of a data frame, in memory: the same numbers as the DuckDB query gives, for tests and for small data.

The query is the way for line items in a database; this one holds every row in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy.special import gammaln

from multilevel.arrays import Floats
from multilevel.cells.cell_plan import MOST_OUTCOMES, CellPlan, feature_label, plan_cells
from multilevel.cells.column_facts import ColumnKind, Schema
from multilevel.cells.observed import Observed
from multilevel.cells.statistics import CellStatistics, Labels, Outcomes
from multilevel.errors import DataError
from multilevel.families.family import RowValues
from multilevel.families.registry import family_named, has_two_parts, is_linear, statistics_of
from multilevel.formula.columns import columns_in, formula_columns, predictor_expressions, standardised
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Call, Column, Expression, Formula, Number, Operation

SIMPLE: dict[str, Callable[[Floats], Floats]] = {"log": np.log, "exp": np.exp, "sqrt": np.sqrt, "I": np.asarray}


def cells_from_frame(formula: Formula, frame: pd.DataFrame, family: str) -> CellStatistics:
    """The cell statistics of the rows of ``frame``.

    Parameters
    ----------
    formula : from ``parse_formula``.
    frame : one row per line item; no missing values in the formula's columns.
    family : a name in ``multilevel.families.registry``.

    Raises
    ------
    DataError
        If there are no rows, or a column is missing or holds missing values.
    """
    if frame.empty:
        raise DataError("There are no rows to summarise.")
    missing = [name for name in formula_columns(formula) if name in frame and frame[name].isna().any()]
    if missing:
        raise DataError(f"The columns {', '.join(missing)} hold missing values; exclude such rows first.")
    schema = schema_of_frame(formula, frame, family)
    return aggregate(plan_cells(formula, schema, family), schema, frame)


def schema_of_frame(formula: Formula, frame: pd.DataFrame, family: str) -> Schema:
    """Types, distinct counts and moments of a frame's columns."""
    kinds: dict[str, ColumnKind] = {str(name): _kind(frame[name]) for name in frame.columns}
    bare = Schema(kinds)
    numeric = [name for e in predictor_expressions(formula) for name in columns_in(e) if bare.kind(name) == "number"]
    distinct = {name: int(frame[name].nunique()) for name in numeric} if is_linear(family) else {}
    inner = [e for expression in (*predictor_expressions(formula), *formula.offsets) for e in standardised(expression)]
    moments: dict[str, tuple[float, float]] = {}
    for e in inner:
        values = evaluate(e, frame, Schema(kinds, moments=moments), {})
        moments[expression_label(e)] = (float(values.mean()), float(values.std(ddof=1)))
    return Schema(kinds, distinct=distinct, moments=moments, n_rows=len(frame))


def aggregate(plan: CellPlan, schema: Schema, frame: pd.DataFrame) -> CellStatistics:
    """Group the rows by the plan's key and keep what the plan says."""
    means = {mean.label: _level_mean(mean.columns, evaluate(mean.value, frame, schema, {}), frame) for mean in plan.level_means}

    def number(expression: Expression) -> Floats:
        return evaluate(expression, frame, schema, means)

    codes, first = _cell_codes([_key_values(key, frame, schema, means) for key in plan.keys], len(frame))
    n_cells = len(first)

    def total(values: Floats) -> Floats:
        return np.bincount(codes, weights=values, minlength=n_cells)

    offset = sum((number(e) for e in plan.offsets), np.zeros(len(frame)))
    outcome, raw = number(plan.outcome), number(plan.raw_outcome)
    weight = np.ones(len(frame))
    if plan.weights is not None:
        weight = number(Column(plan.weights))
    elif plan.standard_error is not None:
        weight = number(Column(plan.standard_error)) ** -2.0
    trials = np.ones(len(frame)) if plan.trials is None else number(plan.trials)
    features = [np.prod([number(e) for e in product], axis=0) for product in plan.features]
    keeps, two_parts = statistics_of(plan.family), has_two_parts(plan.family)
    if two_parts:
        weight = (raw > 0).astype(np.float64)
    if not keeps.moments:
        mean, cross = np.zeros((n_cells, 0)), np.zeros((n_cells, 0, 0))
    elif two_parts:
        mean, cross = _moments_above_zero(raw, weight, codes, n_cells)
    else:
        mean, cross = _moments([*features, outcome - offset], weight, codes, n_cells)
    n = np.bincount(codes, minlength=n_cells).astype(np.int64)
    size = trials if keeps.size == "trials" else np.exp(offset) if keeps.size == "exposure" else np.ones(len(frame))
    return CellStatistics(
        family=plan.family,
        log_outcome=plan.log_outcome,
        groups={name: _labels(frame[name], schema.kind(name), first) for name in plan.groups},
        labels={expression_label(e): _categorical(e, frame, schema, means, first) for e in plan.labels},
        numbers={expression_label(e): number(e)[first] for e in plan.numbers},
        features=tuple(feature_label(product) for product in plan.features),
        n=n,
        weight=total(weight) if plan.has_weights or two_parts else n.astype(np.float64),
        mean=mean,
        cross=cross,
        size=n.astype(np.float64) if keeps.size == "rows" else total(size),
        total=total(raw),
        offset=offset[first] if plan.offset_in_key else np.zeros(n_cells),
        once=_constants(plan, RowValues(outcome, raw, trials, offset, weight)),
        histogram=_histogram(raw) if keeps.distinct_outcomes == "kept" else None,
        known_sigma=plan.known_sigma,
        outcomes=_single_outcomes(codes, raw, size) if plan.has_single_outcomes else None,
        log_total=total(np.log(np.where(raw > 0, raw, 1.0))) if keeps.log_sums else None,
        observed=_observed(plan, raw, trials, offset).grouped(codes, np.ones(len(frame), np.int64), n_cells),
    )


def _observed(plan: CellPlan, raw: Floats, trials: Floats, offset: Floats) -> Observed:
    """Of every row by itself."""
    nothing = np.zeros(len(raw))
    size = np.exp(offset) if plan.has_exposure else trials
    return Observed(raw, nothing, size, nothing, nothing)


def evaluate(expression: Expression, frame: pd.DataFrame, schema: Schema, means: Mapping[str, Floats]) -> Floats:
    """(N,) value of a numeric expression in every row."""
    match expression:
        case Column(name):
            return frame[name].to_numpy(dtype=np.float64)
        case Number(value):
            return np.full(len(frame), value)
        case Operation(operator, operands):
            return _operate(operator, [evaluate(operand, frame, schema, means) for operand in operands])
        case Call("between", arguments):
            return means[expression_label(Call("between", arguments))]
        case Call(function, arguments):
            return _call(function, arguments, evaluate(arguments[0], frame, schema, means), schema, means)


def _call(function: str, arguments: tuple[Expression, ...], values: Floats, schema: Schema, means: Mapping[str, Floats]) -> Floats:
    if function == "within":
        return values - means[expression_label(Call("between", arguments))]
    if function == "bin" and isinstance(arguments[1], Number):
        return (np.floor(values / arguments[1].value) + 0.5) * arguments[1].value
    if function in {"center", "scale"}:
        mean, sd = schema.moments[expression_label(arguments[0])]
        return (values - mean) / (sd if function == "scale" else 1.0)
    return np.asarray(SIMPLE[function](values), dtype=np.float64)


def _operate(operator: str, values: list[Floats]) -> Floats:
    if len(values) == 1:
        return -values[0] if operator == "-" else values[0]
    operations = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "**": np.power}
    return np.asarray(operations[operator](values[0], values[1]))


def _moments(columns: list[Floats], weight: Floats, codes: np.ndarray, n_cells: int) -> tuple[Floats, Floats]:
    """Weighted means (C, m + 1) and centred cross-products (C, m + 1, m + 1), in two passes."""
    total = np.bincount(codes, weights=weight, minlength=n_cells)
    # around the overall mean first: a mean of large numbers would lose the digits that the second pass needs
    shifts = [float(np.average(column, weights=weight)) for column in columns]
    offsets = [np.bincount(codes, weights=weight * (c - s), minlength=n_cells) / total for c, s in zip(columns, shifts, strict=True)]
    centred = [c - s - o[codes] for c, s, o in zip(columns, shifts, offsets, strict=True)]
    cross = np.array([[np.bincount(codes, weights=weight * a * b, minlength=n_cells) for b in centred] for a in centred])
    mean = np.column_stack([o + s for o, s in zip(offsets, shifts, strict=True)])
    return mean, np.ascontiguousarray(np.moveaxis(cross, 2, 0))


def _moments_above_zero(raw: Floats, weight: Floats, codes: np.ndarray, n_cells: int) -> tuple[Floats, Floats]:
    """Moments (C, 1), (C, 1, 1) of log y over the rows above zero; 0 in cells without any."""
    if not weight.any():
        return np.zeros((n_cells, 1)), np.zeros((n_cells, 1, 1))
    logarithm = np.log(np.where(weight > 0, raw, 1.0))
    with np.errstate(invalid="ignore"):
        mean, cross = _moments([logarithm], weight, codes, n_cells)
    return np.nan_to_num(mean), np.nan_to_num(cross)


def _cell_codes(keys: list[np.ndarray], n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell of each row, and the first row of each cell, cells in sorted order of the key."""
    if not keys:
        return np.zeros(n_rows, dtype=np.int64), np.zeros(1, dtype=np.int64)
    grouped = pd.DataFrame(dict(enumerate(keys))).groupby(list(range(len(keys))), sort=True).ngroup().to_numpy()
    return grouped, np.unique(grouped, return_index=True)[1]


def _key_values(key: Expression, frame: pd.DataFrame, schema: Schema, means: Mapping[str, Floats]) -> np.ndarray:
    return np.asarray(frame[key.name]) if isinstance(key, Column) else evaluate(key, frame, schema, means)


def _categorical(e: Expression, frame: pd.DataFrame, schema: Schema, means: Mapping[str, Floats], first: np.ndarray) -> Labels:
    inner = e.arguments[0] if isinstance(e, Call) else e
    if isinstance(inner, Column):
        return _labels(frame[inner.name], schema.kind(inner.name), first)
    return _labels(pd.Series(evaluate(inner, frame, schema, means)), "number", first)


def _labels(column: pd.Series, kind: ColumnKind, first: np.ndarray) -> Labels:
    values = column.to_numpy()[first]
    if kind in {"number", "boolean"}:
        codes, found = pd.factorize(values, sort=True)
        text = [str(value).lower() if kind == "boolean" else str(value) for value in found.tolist()]
    else:
        codes, found = pd.factorize(np.array([str(value) for value in values], dtype=object), sort=True)
        text = list(found)
        if len(found) < len(pd.unique(values)):
            raise DataError(f"{column.name}: different values are the same as text (1 and '1', say); make the column of one type.")
    return Labels(codes.astype(np.int32), np.array(text, dtype=object))


def _level_mean(columns: tuple[str, ...], values: Floats, frame: pd.DataFrame) -> Floats:
    return pd.Series(values).groupby([np.asarray(frame[name]) for name in columns]).transform("mean").to_numpy()


def _constants(plan: CellPlan, rows: RowValues) -> dict[str, float]:
    """``CellStatistics.once``: what the family asks for, and what goes with the formula."""
    if has_two_parts(plan.family):
        return {"sum_log_outcome": float(np.log(rows.raw[rows.raw > 0]).sum()), "n_negative": float(np.sum(rows.raw < 0))}
    family = family_named(plan.family)
    sums = family.row_sums(has_trials=plan.trials is not None, has_offset=bool(plan.offsets))
    once = {name: float(part.rows(rows).sum()) for name, part in sums.items()}
    if family.statistics.distinct_outcomes != "not needed":
        once["log_factorial"] = float(gammaln(rows.raw + 1).sum())
    if plan.has_weights:
        once["log_weights"] = float(np.log(rows.weight).sum())
    if plan.log_outcome:
        once["log_jacobian"] = -float(rows.outcome.sum())
    return once


def _single_outcomes(codes: np.ndarray, raw: Floats, size: Floats) -> Outcomes | None:
    distinct, n = np.unique(np.column_stack([codes, raw, size]), axis=0, return_counts=True)
    if len(distinct) > MOST_OUTCOMES:
        return None
    return Outcomes(distinct[:, 0].astype(np.int32), distinct[:, 1], distinct[:, 2], n.astype(np.float64))


def _histogram(raw: Floats) -> Floats:
    values, counts = np.unique(raw, return_counts=True)
    return np.column_stack([values, counts]).astype(np.float64)


def _kind(column: pd.Series) -> ColumnKind:
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    return "temporal" if pd.api.types.is_datetime64_any_dtype(column) else "text"
