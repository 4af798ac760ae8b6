"""A saved model as the rows of the tables in ``multilevel.catalogue.joint_tables``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.catalogue.joint_tables import joint_schema
from multilevel.errors import FitError
from multilevel.fit.arrow_form import rows_of
from multilevel.fit.shared_rows import as_csr, stacked
from multilevel.prediction.saved_averages import AverageRows, SavedAverages
from multilevel.prediction.saved_joint import KeptArrow, KeptDeviations, KeptMixture, SavedJoint
from multilevel.prediction.saved_model import SavedFactor, SavedModel

ARROW, POINTS, DRAWS = "arrow", "points", "draws"


def table_of(name: str, columns: Mapping[str, Any], n_rows: int) -> pa.Table:
    """The table of that name; a single value stands for all rows, None for null."""
    schema = joint_schema(name)
    arrays = []
    for field in schema:
        value = columns.get(field.name)
        if value is None:
            arrays.append(pa.nulls(n_rows, field.type))
        elif isinstance(value, str | bool | int | float):
            arrays.append(pa.repeat(pa.scalar(value, field.type), n_rows))
        elif isinstance(value, pa.Array):
            arrays.append(value)
        else:
            arrays.append(pa.array(value, field.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=schema)


def lists(values: np.ndarray, starts: np.ndarray, type_: pa.DataType, missing: np.ndarray | None = None) -> Any:
    """A list for each row: ``values`` from ``starts`` (n + 1,) on; null where ``missing`` (n,)."""
    made: Any = pa.ListArray
    mask = None if missing is None else pa.array(missing)
    return made.from_arrays(pa.array(starts, pa.int32()), pa.array(values, type_), pa.list_(pa.field("element", type_)), mask=mask)


def dense_lists(values: np.ndarray, type_: pa.DataType, missing: np.ndarray | None = None) -> Any:
    """A list of each row of (n, m)."""
    return lists(np.ascontiguousarray(values).ravel(), np.arange(len(values) + 1) * values.shape[1], type_, missing)


def model_rows(place: int, model: SavedModel, coordinates: int) -> pa.Table:
    """One row of ``models``."""
    kinds = {KeptArrow: ARROW, KeptMixture: POINTS, KeptDeviations: DRAWS}
    details = {"labels": dict(model.labels), "moments": dict(model.moments), "fills": dict(model.fills)}
    return table_of(
        "models",
        {
            "place": place,
            "part": model.part,
            "formula": model.formula,
            "family": model.family,
            "log_outcome": bool(model.log_outcome),
            "engine": model.engine,
            "distribution": kinds[type(model.joint)],
            "interval": float(model.interval),
            "population": [list(model.population)],
            "population_map": [model.population_map.ravel()],
            "coefficients": len(model.mean),
            "coordinates": coordinates,
            "scale": None if model.scale is None else float(model.scale),
            "log_scale_error": float(model.log_scale_error),
            "scale_draws": None if model.scale_draws is None else [model.scale_draws],
            "log_variance": None if model.log_variance is None else float(model.log_variance),
            "log_variance_error": float(model.log_variance_error),
            "point_weights": None if model.point_weights is None else [model.point_weights],
            "details": json.dumps(details),
        },
        1,
    )


def block_rows(place: int, model: SavedModel) -> pa.Table:
    """``blocks`` of one model."""
    n = len(model.blocks)
    starts = block_starts(model)
    drawn = model.covariance_draws
    points = model.covariance_points
    return table_of(
        "blocks",
        {
            "model": place,
            "block": np.arange(n),
            "grouping_factor": list(model.blocks),
            "terms": [list(terms) for terms in model.terms],
            "start": starts[:-1],
            "covariance": [part.ravel() for part in model.covariances],
            "map": [part.ravel() for part in model.maps],
            "covariance_points": None if points is None else [part.ravel() for part in points],
            "covariance_draws": None if drawn is None else [part.ravel() for part in drawn],
        },
        n,
    )


def block_starts(model: SavedModel) -> Integers:
    """(blocks + 1,) place of each block's first effect, and of what comes after the last."""
    sizes = [len(model.factors[name].levels) * len(terms) for name, terms in zip(model.blocks, model.terms, strict=True)]
    return len(model.population) + np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)


def factor_rows(place: int, model: SavedModel) -> pa.Table:
    """``factors`` of one model."""
    every = list(model.factors.values())
    return table_of(
        "factors",
        {
            "model": place,
            "place": np.arange(len(every)),
            "grouping_factor": [factor.name for factor in every],
            "columns": [list(factor.columns) for factor in every],
            "levels": [len(factor.levels) for factor in every],
            "is_nested": [factor.parents is not None for factor in every],
            "is_plain": [all(map(_is_plain, labels)) for labels in (set().union(*factor.keys) for factor in every)],
            "log_variance_sd": [float(factor.log_variance_sd) for factor in every],
        },
        len(every),
    )


def plain_forms(label: str) -> tuple[str, ...]:
    """How a number may be written in the shortest way, as itself or as a truth value; nothing for other labels."""
    try:
        value = float(label)
    except ValueError:
        return ()
    whole = (str(int(value)),) if value.is_integer() else ()
    truth = {0.0: ("false",), 1.0: ("true",)}.get(value, ())
    return (*whole, repr(value), *truth)


def _is_plain(label: str) -> bool:
    forms = plain_forms(label)
    return not forms or label in forms


def level_rows(place: int, model: SavedModel) -> pa.Table:
    """``levels`` of one model, sorted."""
    tables = [_levels(place, factor) for _, factor in sorted(model.factors.items())]
    return pa.concat_tables(tables) if tables else joint_schema("levels").empty_table()


def _levels(place: int, factor: SavedFactor) -> pa.Table:
    n = len(factor.levels)
    found = table_of(
        "levels",
        {
            "model": place,
            "grouping_factor": factor.name,
            "level": pa.array(factor.levels, pa.string()),
            "parent_level": None if factor.parents is None else pa.array(factor.parents, pa.string()),
            "place": np.arange(n),
            "keys": None if len(factor.keys) == 1 else [list(key) for key in zip(*factor.keys, strict=True)],
            "log_variance": np.array(factor.log_variances) if factor.log_variances else None,
            "log_variance_error": np.array(factor.log_variance_errors) if factor.log_variances else None,
        },
        n,
    )
    return found.sort_by([("level", "ascending"), ("parent_level", "ascending")])


def mean_rows(place: int, model: SavedModel) -> pa.Table:
    """``level_means`` of one model."""
    tables = [
        table_of(
            "level_means",
            {
                "model": place,
                "predictor": mean.label,
                "columns": [list(mean.columns)] * len(mean.values),
                "keys": [list(key) for key in zip(*mean.keys, strict=True)],
                "value": np.array(mean.values),
            },
            len(mean.values),
        )
        for mean in model.means
    ]
    return pa.concat_tables(tables) if tables else joint_schema("level_means").empty_table()


def contrast_rows(place: int, model: SavedModel) -> pa.Table:
    """``level_rows`` of one model."""
    tables = [
        table_of(
            "level_rows",
            {
                "model": place,
                "grouping_factor": factor,
                "term": term,
                "place": np.arange(rows.shape[0]),
                "places": lists(rows.indices, rows.indptr, pa.int32()),
                "values": lists(rows.data, rows.indptr, pa.float64()),
            },
            rows.shape[0],
        )
        for (factor, term), rows in sorted(model.contrasts.items())
    ]
    return pa.concat_tables(tables) if tables else joint_schema("level_rows").empty_table()


@dataclass(frozen=True)
class Mixed:
    """joint : a model's distribution with one more coordinate for each combination that averages share. estimates : of those. rows : each
    average's, in coordinates."""

    joint: SavedJoint
    estimates: Floats
    rows: list[csr_array]


def with_mixes(model: SavedModel, place: int, averages: Sequence[AverageRows]) -> Mixed:
    """The distribution that ``averages`` of the part at ``place`` are rows of.

    Combinations that share noise with the rows are written out in them, entry by entry.
    """
    joint = model.joint
    if isinstance(joint, KeptMixture):
        return Mixed(joint, np.zeros(0), [joint.inner(as_csr(one.rows[place])) for one in averages])
    assert isinstance(joint, KeptArrow | KeptDeviations)
    matrix = joint.matrix
    at = matrix.shape[1]
    rows: list[csr_array] = []
    mixes = [csr_array((0, at))]
    estimates = [np.zeros(0)]
    for one in averages:
        own, shared, weights = one.rows[place].own @ matrix, one.rows[place].shared @ matrix, one.rows[place].weights
        if isinstance(joint, KeptArrow) and joint.form.shares_noise(own, shared):
            rows.append(csr_array(own + weights @ shared))
            continue
        shape = (own.shape[0], at + shared.shape[0])
        beyond = csr_array((weights.data, weights.indices + at, weights.indptr), shape=shape)
        rows.append(csr_array(csr_array((own.data, own.indices, own.indptr), shape=shape) + beyond))
        mixes.append(csr_array(shared))
        estimates.append(np.asarray(one.rows[place].shared @ model.mean))
        at += shared.shape[0]
    return Mixed(_extended(joint, stacked(mixes)), np.concatenate(estimates), rows)


def _extended(joint: KeptArrow | KeptDeviations, mixes: csr_array) -> SavedJoint:
    r = mixes.shape[0]
    if not r:
        return joint
    whole = csr_array((joint.matrix.data, joint.matrix.indices, joint.matrix.indptr), shape=(joint.matrix.shape[0], mixes.shape[1] + r))
    if isinstance(joint, KeptDeviations):
        more = np.asarray(mixes @ joint.deviations.T.astype(np.float64)).T.astype(np.float32)
        return KeptDeviations(np.hstack([joint.deviations, more]), whole, joint.has_draws)
    return KeptArrow(
        joint.form.with_combinations(mixes),
        np.concatenate([joint.location, mixes @ joint.location]),
        np.vstack([joint.directions, mixes @ joint.directions]),
        whole,
    )


def coefficient_rows(place: int, model: SavedModel, joint: SavedJoint, mixes: Floats) -> pa.Table:
    """``coefficients`` of one model; ``mixes``: the estimates of the coordinates after its coefficients."""
    named = _names(model, len(mixes))
    estimate = np.concatenate([model.mean, mixes])
    columns: dict[str, Any] = {"model": place, "place": np.arange(len(estimate)), "estimate": estimate, **named}
    if isinstance(joint, KeptDeviations):
        columns["draws"] = dense_lists(joint.deviations.T, pa.float32())
    elif isinstance(joint, KeptArrow):
        columns |= _regressions(joint)
    return table_of("coefficients", columns, len(estimate))


def _regressions(joint: KeptArrow) -> dict[str, Any]:
    form = joint.form
    places, given, variance = rows_of(form.steps)
    step = np.repeat(np.arange(len(form.steps)), [len(one.places) for one in form.steps])
    order = np.argsort(np.concatenate([places, form.core]))
    c = len(form.core)
    in_core = np.concatenate([np.zeros(len(places), np.bool_), np.ones(c, np.bool_)])[order]
    rows = csr_array(stacked([given, csr_array((c, form.width))]) if len(places) else csr_array((c, form.width)))[order]
    rows.sort_indices()
    masked = np.where(in_core, np.nan, np.concatenate([variance, np.zeros(c)])[order])
    return {
        "location": joint.location,
        "step": pa.array(np.concatenate([step, np.zeros(c, np.int64)])[order], pa.int64(), mask=in_core),
        "variance": masked,
        "given": lists(rows.indices, rows.indptr, pa.int32(), in_core),
        "weights": lists(rows.data, rows.indptr, pa.float64(), in_core),
        "directions": dense_lists(joint.directions, pa.float64()),
    }


def _names(model: SavedModel, n_mixes: int) -> dict[str, Any]:
    """grouping_factor, level, parent_level and term of every coordinate."""
    p, text = len(model.population), pa.string()
    factors, levels = [pa.nulls(p, text)], [pa.nulls(p, text)]
    parents, terms = [pa.nulls(p, text)], [pa.array(list(model.population), text)]
    for name, own in zip(model.blocks, model.terms, strict=True):
        factor, k = model.factors[name], len(own)
        n = len(factor.levels)
        each = np.repeat(np.arange(n), k)
        factors.append(pa.repeat(pa.scalar(name, text), n * k))
        levels.append(pa.array(factor.levels, text).take(each))
        parents.append(pa.nulls(n * k, text) if factor.parents is None else pa.array(factor.parents, text).take(each))
        terms.append(pa.array(list(own), text).take(np.tile(np.arange(k), n)))
    for column in (factors, levels, parents):
        column.append(pa.nulls(n_mixes, text))
    terms.append(pa.array([str(at) for at in range(n_mixes)], text))
    columns = {"grouping_factor": factors, "level": levels, "parent_level": parents, "term": terms}
    return {name: pa.concat_arrays(pieces) for name, pieces in columns.items()}


def core_rows(place: int, joint: SavedJoint) -> pa.Table:
    """``core`` of one model, its coordinates in their order."""
    if isinstance(joint, KeptDeviations):
        return joint_schema("core").empty_table()
    if isinstance(joint, KeptArrow):
        order = np.argsort(joint.form.core)
        core = joint.form.core[order]
        return _core(place, 0, core, joint.location[core], joint.form.covariance[np.ix_(order, order)])
    if not isinstance(joint, KeptMixture):
        raise FitError("This kind of joint distribution has no core.")
    points, every = joint.points, np.arange(joint.points.means.shape[1])
    tables = [_core(place, at, every, mean, points.roots[:, at] @ points.roots[:, at].T) for at, mean in enumerate(points.means)]
    return pa.concat_tables(tables)


def _core(place: int, point: int, core: Integers, location: Floats, covariance: Floats) -> pa.Table:
    columns = {"model": place, "point": point, "place": core, "location": location, "covariance": dense_lists(covariance, pa.float64())}
    return table_of("core", columns, len(core))


def average_rows(one: SavedAverages | AverageRows, rows: Sequence[csr_array]) -> pa.Table:
    """``averages`` of one factor and kind; ``rows``: in coordinates, one a part, of ``AverageRows``."""
    n = len(one.levels)
    columns = {
        "grouping_factor": one.factor,
        "of": one.of,
        "model": 0,
        "place": np.arange(n),
        "level": pa.array(one.levels, pa.string()),
        "parent_level": None if one.parents is None else pa.array(one.parents, pa.string()),
        "estimate": one.estimate,
        "std_error": one.std_error,
        "own": one.own,
        "is_positive": bool(one.is_positive),
        "has_draws": bool(one.has_draws),
    }
    if isinstance(one, SavedAverages):
        kept = {"is_median": one.is_median, "spread": dense_lists(one.spread, pa.float32())}
        if one.at_points is not None:
            roots = one.at_points.roots.reshape(n, -1)
            kept |= {"away": dense_lists(one.at_points.away, pa.float32()), "roots": dense_lists(roots, pa.float32())}
        return table_of("averages", columns | kept, n)
    tables = []
    for place, part in enumerate(rows):
        part.sort_indices()
        entries = {"places": lists(part.indices, part.indptr, pa.int32()), "values": lists(part.data, part.indptr, pa.float64())}
        tables.append(table_of("averages", columns | {"model": place, "is_median": False} | entries, n))
    return pa.concat_tables(tables)
