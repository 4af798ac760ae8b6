"""Arrays to a published table: the common columns in front, types and order from the catalogue, rows sorted by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from multilevel.catalogue.published_tables import EVERY_TABLE, arrow_schema

type Values = NDArray[np.generic] | list[object] | pa.Array[Any] | None


@dataclass(frozen=True)
class Heading:
    """What every row carries first; ``pooling`` is "partial" unless a table says otherwise row by row."""

    study: str
    as_of: date
    run_id: str
    engine: str
    pooling: str = "partial"


def published_table(name: str, heading: Heading, columns: Mapping[str, Values], *, is_sorted: bool = False, **same: str | None) -> pa.Table:
    """The table ``name`` from its own columns: NaN becomes null, a column of None is null throughout.

    ``columns`` must hold every column that is not in the heading; ``pooling`` may be among them.
    ``is_sorted``: the rows stand in the order of the key already. ``same``: columns with one value in all rows.
    """
    schema = arrow_schema(name)
    own = {key: value for key, value in columns.items() if value is not None}
    n_rows = len(next(iter(own.values())))
    constants: dict[str, object] = {key: getattr(heading, key) for key in ("study", "as_of", "run_id", "engine", "pooling")}
    constants |= same
    arrays = [
        _array(field, own.get(field.name), constants.get(field.name), n_rows, is_given=field.name in {*columns, *same}) for field in schema
    ]
    table = pa.Table.from_arrays(arrays, schema=schema)
    return table if is_sorted else _sorted(table, EVERY_TABLE[name].sort_key)


def stack(pieces: list[dict[str, Values]]) -> dict[str, Values]:
    """Columns of several pieces under each other; a piece's None stands for nulls of its length."""
    return {name: np.concatenate([_filled(piece, name) for piece in pieces]) for name in pieces[0]}


def _filled(piece: dict[str, Values], name: str) -> NDArray[np.generic]:
    values = piece[name]
    if values is not None:
        return np.asarray(values)
    length = next(len(other) for other in piece.values() if other is not None)
    return np.full(length, np.nan)


def _array(field: pa.Field[Any], values: Values, constant: object, n_rows: int, *, is_given: bool) -> pa.Array[Any]:
    if isinstance(values, pa.Array):
        return values.cast(field.type)
    if values is not None:
        return pa.array(values, type=field.type, from_pandas=True)
    if is_given and constant is None:
        return pa.array([None], type=field.type).take(pa.array(np.zeros(n_rows, dtype=np.int64)))
    if constant is None:
        raise KeyError(f"the column {field.name} was not given")
    return pa.array([constant], type=field.type).take(pa.array(np.zeros(n_rows, dtype=np.int64)))


def _sorted(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in key])
