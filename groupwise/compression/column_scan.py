"""Facts about a study's rows that the cell plan needs: types for free, counts and moments in one scan only where the formula asks."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from groupwise.compression.cell_query import FAR, render, subquery
from groupwise.compression.sql_expressions import TABLE, as_sql, double
from groupwise.source.relation import quote
from groupwise.source.user_sql.statement import one_statement, run
from multilevel.cells.column_facts import FEW_CELLS, MOST_MORE, ColumnKind, Schema
from multilevel.errors import DataError
from multilevel.families.registry import is_linear
from multilevel.formula.columns import columns_in, grouping_columns, predictor_expressions, standardised
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula
from multilevel.text import shorten

TEMPORAL = ("DATE", "TIME", "INTERVAL")
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
WIDE = ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT")

DIGITS = 15
"""Decimal digits that every double holds."""

NUMERIC = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
)


@dataclass(frozen=True)
class ValueCounts:
    """What was counted of a study's rows before: how many there are, and about how many different values every numeric predictor has.

    scattered : as of ``Schema``, where it was counted too.
    """

    n_rows: int
    distinct: Mapping[str, int]
    scattered: frozenset[str] | None = None


def column_kinds(connection: duckdb.DuckDBPyConnection, study_sql: str) -> tuple[dict[str, ColumnKind], frozenset[str]]:
    """Kind of every column of the study's rows, and which hold whole numbers, without reading them."""
    relation = connection.sql(one_statement(study_sql))
    types = {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
    return {name: _kind(kind) for name, kind in types.items()}, frozenset(name for name, kind in types.items() if kind in WHOLE)


def wide_types(connection: duckdb.DuckDBPyConnection, study_sql: str) -> dict[str, str]:
    """Numeric column -> type, where the type holds numbers of more than 15 digits exactly."""
    relation = connection.sql(study_sql)
    types = {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
    return {name: kind for name, kind in types.items() if _is_wide(kind)}


def _digits(decimal: str) -> int:
    return int(decimal.removeprefix("DECIMAL(").split(",")[0]) if decimal.endswith(")") else 0


def schema_of_types(types: Mapping[str, str], distinct: Mapping[str, int], scattered: Collection[str] = ()) -> Schema:
    """``read_schema`` of rows whose columns have these types, where the numbers of distinct values are known and no moments are needed."""
    kinds = {name: _kind(kind) for name, kind in types.items()}
    whole = frozenset(name for name, kind in types.items() if kind in WHOLE)
    wide = {name: kind for name, kind in types.items() if _is_wide(kind)}
    return Schema(kinds, distinct=distinct, integers=whole, scattered=frozenset(scattered), wide=wide)


def _is_wide(kind: str) -> bool:
    return kind in WIDE or (kind.startswith("DECIMAL(") and _digits(kind) > DIGITS)


def read_schema(
    connection: duckdb.DuckDBPyConnection, study_sql: str, formula: Formula, family: str, known: ValueCounts | None = None
) -> Schema:
    """What ``plan_cells`` and the query need to know: one scan where the formula asks for counts or moments, else none.

    ``known`` : counts of the rows, which then need no scan.

    Raises
    ------
    DataError
        If the formula names a column that the rows do not have.
    """
    kinds, integers = column_kinds(connection, study_sql)
    schema = Schema(kinds, integers=integers, wide=wide_types(connection, study_sql))
    numeric = numeric_predictors(formula, schema) if is_linear(family) else []
    if known is not None:
        schema, numeric = replace(schema, distinct={name: known.distinct[name] for name in numeric}, n_rows=known.n_rows), []
    facts = {f"distinct.{name}": f"approx_count_distinct({TABLE}.{quote(name)})" for name in numeric}
    calculated = (*predictor_expressions(formula), *formula.offsets)
    pending = list(dict.fromkeys(inner for e in calculated for inner in standardised(e)))
    if known is not None and known.scattered is not None and not pending:
        return replace(schema, scattered=known.scattered)
    if not facts and not pending:
        return replace(schema, scattered=scattered_predictors(connection, study_sql, formula, schema))
    moments: dict[str, tuple[float, float]] = {}
    while True:
        ready = [e for e in pending if all(expression_label(inner) in moments for inner in standardised(e))]
        pending = [e for e in pending if e not in ready]
        for expression in ready:
            value = as_sql(expression, moments)
            facts |= {
                f"mean.{expression_label(expression)}": f"favg({value})",
                f"sd.{expression_label(expression)}": f"stddev_samp({value})",
            }
        found = _scan(connection, study_sql, facts)
        for label in map(expression_label, ready):
            moments[label] = (_finite(found[f"mean.{label}"], "mean", label), _finite(found[f"sd.{label}"], "standard deviation", label))
        moments |= _about_their_means(connection, study_sql, {expression_label(e): as_sql(e, moments) for e in ready}, moments)
        counted = schema.distinct or {name: int(found[f"distinct.{name}"]) for name in numeric}
        schema = replace(schema, distinct=counted, moments=moments, n_rows=int(found["n_rows"]))
        if not pending:
            return replace(schema, scattered=scattered_predictors(connection, study_sql, formula, schema))
        facts = {}


def possibly_scattered(schema: Schema) -> list[str]:
    """Numeric predictors with few values, those with fewest first; none where they cannot make many cells of each."""
    joined = sorted(schema.discrete & schema.distinct.keys(), key=lambda name: (schema.distinct[name], name))
    is_small = schema.n_rows is None or schema.n_rows <= FEW_CELLS
    return [] if is_small or math.prod(schema.distinct[name] for name in joined) <= MOST_MORE else joined


def scattered_predictors(connection: duckdb.DuckDBPyConnection, study_sql: str, formula: Formula, schema: Schema) -> frozenset[str]:
    """Predictors with few values that make many cells of each cell of the grouping columns: those with most values first.

    Depends on all rows together; what is true of a part of them says nothing of the whole.
    """
    joined = possibly_scattered(schema)
    if not joined:
        return frozenset()
    keys = [quote(name) for name in grouping_columns(formula)]
    prefixes = {str(n): [*keys, *map(quote, joined[:n])] or ["1"] for n in range(len(joined) + 1)}
    found = _scan(connection, study_sql, {n: f"approx_count_distinct(hash({', '.join(names)}))" for n, names in prefixes.items()})
    fewest = max(int(found["0"]), FEW_CELLS)
    kept = max(n for n in range(len(joined) + 1) if int(found[str(n)]) <= MOST_MORE * fewest or n == 0)
    return frozenset(joined[kept:])


def _about_their_means(
    connection: duckdb.DuckDBPyConnection, study_sql: str, values: dict[str, str], moments: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Means and sds of what lies far from zero, once more about the means found first: a sum of large numbers has lost their digits."""
    far = {
        label: f"({sql} - {double(moments[label][0])})" for label, sql in values.items() if abs(moments[label][0]) > FAR * moments[label][1]
    }
    if not far:
        return {}
    facts = {f"mean.{label}": f"favg({sql})" for label, sql in far.items()} | {
        f"sd.{label}": f"stddev_samp({sql})" for label, sql in far.items()
    }
    found = _scan(connection, study_sql, facts)
    return {label: (moments[label][0] + float(found[f"mean.{label}"]), float(found[f"sd.{label}"])) for label in far}


def numeric_predictors(formula: Formula, schema: Schema) -> list[str]:
    """Columns of a gaussian study whose number of distinct values decides whether they join the key."""
    names = [name for e in predictor_expressions(formula) if not schema.is_categorical(e) for name in columns_in(e)]
    grouping = {name for group in formula.groups for name in group.columns}
    return [name for name in dict.fromkeys(names) if schema.kind(name) == "number" and name not in grouping]


def _scan(connection: duckdb.DuckDBPyConnection, study_sql: str, facts: dict[str, str]) -> dict[str, Any]:
    listed = ",\n    ".join(f"{sql} as {quote(name)}" for name, sql in facts.items()) or "1 as one"
    cursor = run(connection, render("cell_schema", study_rows=subquery(study_sql), facts=listed))
    names = [column[0] for column in cursor.description or ()]
    row = cursor.fetchone()
    return dict(zip(names, row or (), strict=True))


def _finite(value: float | None, what: str, label: str) -> float:
    """A constant that the query will hold; DataError where the rows give none."""
    if value is None or not math.isfinite(value):
        raise DataError(
            f"The {what} of {shorten(label)} over all rows is {'missing' if value is None else 'not a finite number'}: look for infinite, "
            "huge or missing values in its columns (or a single row), and leave them out with `where`."
        )
    return float(value)


def _kind(duckdb_type: str) -> ColumnKind:
    """Lists, structs and everything else that is neither number nor date can still group: as text."""
    if duckdb_type == "BOOLEAN":
        return "boolean"
    if duckdb_type in NUMERIC or (duckdb_type.startswith("DECIMAL") and duckdb_type.endswith(")")):
        return "number"
    return "temporal" if duckdb_type.startswith(TEMPORAL) and not duckdb_type.endswith("]") else "text"
