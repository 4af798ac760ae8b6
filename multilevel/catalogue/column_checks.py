"""The output suite: what a published table must satisfy, read off its description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from multilevel.arrays import Floats
from multilevel.catalogue.column import Column, Ordering, TableSpec

Flags = NDArray[np.bool_]

# Quantiles and means of the same draws agree to rounding only.
_ROUNDING = 1e-9


def table_violations(spec: TableSpec, schema: pa.Schema, table: pa.Table) -> list[str]:
    """Every way in which ``table`` breaks ``spec``, each naming the table, the column and how many rows; schema errors come alone."""
    wrong = _schema_violations(spec.name, schema, table.schema)
    if wrong:
        return wrong
    found = [message for column in spec.columns for message in _column_violations(column, table)]
    found += _key_violations(spec, table) + _order_violations(spec, table)
    found += [message for ordering in spec.orderings for message in _ordering_violations(ordering, table)]
    return [f"{spec.name}: {message}" for message in found]


def _schema_violations(name: str, expected: pa.Schema, actual: pa.Schema) -> list[str]:
    if expected.names != actual.names:
        return [f"{name}: the columns are {actual.names}, they should be {expected.names}"]
    wrong = [
        f"{name}: column {want.name} is {have.type}, it should be {want.type}"
        for want, have in zip(expected, actual, strict=True)
        if want.type != have.type
    ]
    if not wrong and not expected.equals(actual, check_metadata=True):
        wrong.append(f"{name}: the metadata or null flags of the schema differ from the catalogue; build the table with arrow_schema")
    return wrong


def _column_violations(column: Column, table: pa.Table) -> list[str]:
    values = table[column.name]
    found = []
    if not column.nullable and values.null_count:
        found.append(f"{column.name} is null in {values.null_count} rows, it never may be")
    present = values.drop_null()
    if column.type in ("float64", "int64"):
        numbers = np.asarray(present.to_numpy(), float)
        found += _count(~np.isfinite(numbers), f"{column.name} is NaN or infinite")
        if column.minimum is not None:
            found += _count(numbers < column.minimum, f"{column.name} is below {column.minimum:g}")
        if column.maximum is not None:
            found += _count(numbers > column.maximum, f"{column.name} is above {column.maximum:g}")
    if column.allowed is not None:
        legal = np.isin(np.asarray(present.to_pylist(), object), column.allowed)
        found += _count(~legal, f"{column.name} is not one of {', '.join(column.allowed)}")
    return found


def _key_violations(spec: TableSpec, table: pa.Table) -> list[str]:
    distinct = table.select(list(spec.unique_key)).group_by(list(spec.unique_key)).aggregate([]).num_rows
    if distinct == table.num_rows:
        return []
    return [f"{table.num_rows - distinct} rows repeat the key ({', '.join(spec.unique_key)})"]


def _order_violations(spec: TableSpec, table: pa.Table) -> list[str]:
    """Rows that should stand before the row above them: files promise their order to readers, in their metadata too. Nulls come last."""
    pairs = max(table.num_rows - 1, 0)
    settled, wrong = np.zeros(pairs, dtype=bool), np.zeros(pairs, dtype=bool)
    for name in spec.sort_key:
        above, below = table[name].slice(0, pairs), table[name].slice(1)
        lost, missing = _flags(pc.is_null(above)), _flags(pc.is_null(below))
        same = _flags(pc.equal(above, below)) | (lost & missing)
        rises = _flags(pc.less(above, below)) | (~lost & missing)
        wrong |= ~settled & ~same & ~rises
        settled |= ~same
    return _count(wrong, f"the order of the key ({', '.join(spec.sort_key)}) is broken")


def _flags(values: Any) -> Flags:
    """Booleans of Arrow, null counting as false."""
    return np.asarray(pc.fill_null(values, pa.scalar(False)).to_numpy(zero_copy_only=False), bool)


def _ordering_violations(ordering: Ordering, table: pa.Table) -> list[str]:
    lower, upper = _numbers(table, ordering.lower), _numbers(table, ordering.upper)
    found = _count(_above(lower, upper), f"{ordering.lower} is above {ordering.upper}")
    if ordering.estimate is None:
        return found
    estimate = np.where(_bounded(ordering, table), _numbers(table, ordering.estimate), np.nan)
    found += _count(_above(lower, estimate), f"{ordering.estimate} is below {ordering.lower}")
    found += _count(_above(estimate, upper), f"{ordering.estimate} is above {ordering.upper}")
    return found


def _bounded(ordering: Ordering, table: pa.Table) -> Flags:
    """Rows whose estimate must lie inside its interval."""
    bounded = np.ones(table.num_rows, dtype=bool)
    if ordering.rule != "always":
        bounded &= np.asarray(table["engine"].to_pylist(), object) == "likelihood"
    if ordering.rule == "likelihood_seen":
        bounded &= ~np.asarray(table["is_new"].to_pylist(), bool)
    return bounded


def _numbers(table: pa.Table, name: str) -> Floats:
    """A column as floats, nulls as NaN: every comparison with them is false."""
    return np.asarray(table[name].to_numpy(), float)


def _above(left: Floats, right: Floats) -> Flags:
    return left - right > _ROUNDING * (np.abs(left) + np.abs(right))


def _count(mask: Flags, message: str) -> list[str]:
    rows = int(mask.sum())
    return [f"{message} in {rows} row{'s' if rows != 1 else ''}"] if rows else []
