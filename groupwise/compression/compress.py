"""Compress: the study's rows to cell statistics, by one DuckDB query; what leaves this step is two small files."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from groupwise.compression.cell_checks import check_cells, has_lost_digits, refuse_too_wide
from groupwise.compression.cell_query import CellQuery, compile_cells, render, subquery
from groupwise.compression.column_scan import ValueCounts, read_schema
from groupwise.compression.second_pass import second_pass_sql
from groupwise.compression.sql_expressions import as_sql
from groupwise.compression.unit_query import unit_counts, write_unit_sums
from groupwise.compression.write_query import write_query
from groupwise.faults import told
from groupwise.source.relation import Relation, connect, first_line, literal, quote
from groupwise.source.source_files import exactly
from groupwise.source.time_limit import close
from groupwise.source.user_sql.statement import one_statement, run
from multilevel.cells.cell_plan import MOST_OUTCOMES, CellPlan, plan_cells
from multilevel.cells.column_facts import Schema
from multilevel.cells.files import CellsSpec, units_path, write_cells_spec
from multilevel.cells.level_order import LevelOrder
from multilevel.cells.unit_sums import CELL
from multilevel.errors import DataError
from multilevel.families.registry import is_linear, statistics_of
from multilevel.formula.columns import columns_in
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Call, Column, Expression, Formula

MAX_CELLS = 2_000_000
ONE_TEXT = re.compile(
    r"(VARCHAR|BOOLEAN|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(\d+,\d+\)|DATE|TIMESTAMP.*|UUID|ENUM\(.*\))$"
)
"""DuckDB types whose different values are different as text."""

CERTAIN = 0.8
"""An approximate count below this part of the limit needs no exact one: the sketch is off by a few per cent at most."""


@dataclass(frozen=True)
class CompressedStudy:
    """Where the cells are, and how much smaller they are than the rows."""

    cells_path: Path
    spec_path: Path
    n_cells: int
    n_rows: int
    compression_ratio: float
    sql: str


@dataclass(frozen=True)
class ScannedUnits:
    """Sums by cell and unit that an earlier scan has made; ``n_units`` : how many units there are."""

    n_units: int
    path: Path


@dataclass(frozen=True)
class ScannedCells:
    """What an earlier scan has made.

    plan : the text of the plan that the cells were made by. sql : the cells, keys included; n_cells : how many.
    anchored : the cells with ``second_pass.anchors``, where the plan has moments.
    with_outcomes : whether they have single rows' outcomes. histogram : of ``histogram``. units : by sampled column, not always all.
    """

    plan: str
    sql: str
    anchored: str
    n_cells: int
    with_outcomes: bool
    histogram: list[list[float]]
    units: Mapping[str, ScannedUnits]


@told("the line items cannot be compressed")
def compress(
    relation: Relation,
    study_sql: str,
    formula: Formula,
    family: str,
    folder: Path,
    *,
    max_cells: int = MAX_CELLS,
    most_outcomes: int = MOST_OUTCOMES,
    orders: Mapping[str, LevelOrder] | None = None,
    units: Sequence[str] = (),
    known: ValueCounts | None = None,
    scanned: ScannedCells | None = None,
) -> CompressedStudy:
    """Write cells.parquet and cells.json into ``folder``.

    Parameters
    ----------
    relation : where the line items are; opened read-only.
    study_sql : one complete SELECT giving the study's rows (after window, where, missing values and quarantine).
    max_cells : limit for the families whose predictors must all join the key; gaussian has none.
    most_outcomes : different (cell, outcome) pairs up to which single rows' outcomes are kept.
    orders : column of a categorical predictor -> the order of its levels, where it is not the sorted one.
    units : sampled columns that the formula leaves out; sums by cell and unit are kept of each (``units.<i>.parquet``).
    known : counts of the rows, where there are some; else a scan takes them.
    scanned : cells of the rows, where there are some; they are used if the plan is that of the study.

    Raises
    ------
    DataError
        No rows, a null or a value that is not finite, or too many cells. Nothing is left in ``folder`` then.
    FormulaError
        If the response does not fit the family, or the cells would have more columns than DuckDB can group.
    """
    folder.mkdir(parents=True, exist_ok=True)
    connection = connect(relation, folder)
    try:
        return compress_rows(
            connection,
            study_sql,
            formula,
            family,
            folder,
            max_cells=max_cells,
            most_outcomes=most_outcomes,
            orders=orders,
            units=units,
            known=known,
            scanned=scanned,
        )
    finally:
        close(connection)


def compress_rows(
    connection: duckdb.DuckDBPyConnection,
    study_sql: str,
    formula: Formula,
    family: str,
    folder: Path,
    *,
    max_cells: int = MAX_CELLS,
    most_outcomes: int = MOST_OUTCOMES,
    orders: Mapping[str, LevelOrder] | None = None,
    units: Sequence[str] = (),
    known: ValueCounts | None = None,
    scanned: ScannedCells | None = None,
) -> CompressedStudy:
    """``compress`` on an open connection."""
    folder.mkdir(parents=True, exist_ok=True)
    with explained(formula):
        schema = read_schema(connection, study_sql, formula, family, known)
        plan = plan_cells(formula, schema, family)
        refuse_too_wide(plan, formula)
        refuse_merged_levels(connection, study_sql, plan)
        done = scanned if scanned is not None and scanned.plan == repr(plan) else None
        if done is None:
            rough = _rough(connection, study_sql, plan, schema, units)
            _refuse_too_many_cells(connection, study_sql, plan, schema, rough, max_cells)
            with_outcomes = rough.outcomes is not None and CERTAIN * rough.outcomes <= most_outcomes
        else:
            rough = _Rough(0, None, None, {})
            with_outcomes = done.with_outcomes
        query = compile_cells(plan, schema, study_sql, with_outcomes=with_outcomes, with_key=bool(units))
        sql = query.sql if done is None else done.sql if units else f"select * exclude ({CELL}) from ({done.sql}) as cells"
        cells = write_query(connection, by_key(sql, plan), folder / "cells.parquet")
        n_cells, n_rows = check_cells(connection, cells, plan)
        if done is not None and n_cells > max_cells and not is_linear(plan.family) and plan.keys:
            cells.unlink()
            raise too_many_cells(plan, n_cells, n_rows, max_cells)
        if with_outcomes and not has_few_outcomes(connection, cells, most_outcomes):
            write_query(connection, f"select * exclude (outcomes) from read_parquet({literal(exactly(str(cells)))})", cells)
        two_passes = is_linear(plan.family) and not plan.has_weights and has_lost_digits(connection, cells)
        if two_passes and done is not None:
            again = second_pass_sql(plan, schema, study_sql, done.anchored)
            write_query(connection, by_key(again if units else f"select * exclude ({CELL}) from ({again}) as cells", plan), cells)
            two_passes = has_lost_digits(connection, cells)
        if two_passes:
            query = compile_cells(plan, schema, study_sql, two_passes=True, with_key=bool(units))
            cells = write_query(connection, by_key(query.sql, plan), cells)
        n_units = _unit_sums(connection, study_sql, plan, schema, cells, units, rough, done, two_passes=two_passes)
        counts = histogram(connection, plan, schema, study_sql) if done is None else done.histogram
    spec_path = folder / "cells.json"
    spec = cells_spec(formula, plan, schema, query, n_rows=n_rows, n_cells=n_cells, counts=counts)
    write_cells_spec(replace(spec, levels=orders_by_label(plan, orders or {}), units=n_units), spec_path)
    return CompressedStudy(cells, spec_path, n_cells, n_rows, n_rows / n_cells, query.sql)


def by_key(sql: str, plan: CellPlan) -> str:
    """The cells of ``sql`` in the order of their keys: threads hand them over in any order, on which last digits and simulations depend.
    Levels whose cells are side by side are gone through faster, too."""
    names = [f"g.{name}" for name in plan.groups]
    names += [f"c.{expression_label(expression)}" for expression in plan.labels]
    names += [f"x.{expression_label(expression)}" for expression in plan.numbers]
    keys = ", ".join(quote(name) for name in names)
    return f"select * from (\n{sql}\n) as cells order by {keys}" if keys else sql


def _unit_sums(
    connection: duckdb.DuckDBPyConnection,
    study_sql: str,
    plan: CellPlan,
    schema: Schema,
    cells: Path,
    units: Sequence[str],
    rough: _Rough,
    done: ScannedCells | None,
    *,
    two_passes: bool,
) -> dict[str, int]:
    """Write the sums by cell and unit that no earlier scan has made; how many units every column has."""
    known = {} if done is None or two_passes else {name: done.units[name] for name in units if name in done.units}
    asked = [name for name in units if name not in known and name not in rough.units]
    about = rough.units if not asked else _rough(connection, study_sql, plan, schema, asked).units
    found = {}
    for place, column in enumerate(units):
        path = units_path(cells, place)
        if column in known:
            shutil.copyfile(known[column].path, path)
            found[column] = known[column].n_units
        else:
            found[column] = write_unit_sums(connection, study_sql, plan, schema, column, path, two_passes=two_passes, about=about[column])
    return found


def cells_spec(
    formula: Formula, plan: CellPlan, schema: Schema, query: CellQuery, *, n_rows: int, n_cells: int, counts: list[list[float]]
) -> CellsSpec:
    """What cells.json says of the plan."""
    return CellsSpec(
        formula=formula.text,
        family=plan.family,
        log_outcome=plan.log_outcome,
        known_sigma=plan.known_sigma,
        groups={name: schema.kind(name) for name in plan.groups},
        labels={expression_label(e): _order(e, schema) for e in plan.labels},
        numbers=tuple(expression_label(e) for e in plan.numbers),
        features=plan.feature_labels,
        once=query.once,
        n_rows=n_rows,
        n_cells=n_cells,
        histogram=counts if statistics_of(plan.family).distinct_outcomes == "kept" else [],
        moments=dict(schema.moments),
        constants={"log_factorial": math.fsum(n * math.lgamma(value + 1) for value, n in counts)} if needs_outcomes(plan) else {},
    )


def orders_by_label(plan: CellPlan, orders: Mapping[str, LevelOrder]) -> dict[str, LevelOrder]:
    """Orders by the labels of the predictors that they are of."""
    return {expression_label(part): orders[name] for part in plan.labels for name in columns_in(part) if name in orders}


@dataclass(frozen=True)
class _Rough:
    """About how many there are, from one scan; no more than rows. cells, outcomes : None where nobody needs to know.

    units : column -> its different units, and their pairs with a cell.
    """

    n_rows: int
    cells: int | None
    outcomes: int | None
    units: Mapping[str, tuple[int, int]]


def _rough(connection: duckdb.DuckDBPyConnection, study_sql: str, plan: CellPlan, schema: Schema, units: Sequence[str]) -> _Rough:
    """Counts that decide what is kept; no scan where nothing depends on any."""
    keys = [quote(key.name) if isinstance(key, Column) else as_sql(key, schema.moments) for key in plan.keys]
    facts = {}
    if not is_linear(plan.family) and plan.keys:
        facts["n_cells"] = f"approx_count_distinct(hash({', '.join(keys)}))"
    if plan.has_single_outcomes:
        facts["n_outcomes"] = f"approx_count_distinct({outcome_pair(plan, schema)})"
    for place, column in enumerate(units):
        facts |= {f"{name}_{place}": sql for name, sql in unit_counts(plan, schema, column).items()}
    if not facts:
        return _Rough(0, None, None, {})
    listed = ", ".join(f"{sql} as {name}" for name, sql in facts.items())
    row = run(connection, render("cell_schema", study_rows=subquery(study_sql), facts=listed)).fetchone()
    found = dict(zip(("n_rows", *facts), row or (), strict=True))

    def at_most_rows(name: str) -> int | None:
        return min(found["n_rows"], found[name]) if name in found else None

    of_units = {column: (int(found[f"n_units_{place}"]), int(found[f"n_pairs_{place}"])) for place, column in enumerate(units)}
    return _Rough(found["n_rows"], at_most_rows("n_cells"), at_most_rows("n_outcomes"), of_units)


def _refuse_too_many_cells(
    connection: duckdb.DuckDBPyConnection, study_sql: str, plan: CellPlan, schema: Schema, rough: _Rough, max_cells: int
) -> None:
    """Count the cells before they are made, where all predictors join the key; DataError with the count and the way out."""
    if rough.cells is None or rough.cells <= CERTAIN * max_cells:
        return
    keys = ", ".join(quote(key.name) if isinstance(key, Column) else as_sql(key, schema.moments) for key in plan.keys)
    exact = run(connection, render("cell_count", study_rows=subquery(study_sql), keys=keys)).fetchone() or (0,)
    if exact[0] > max_cells:
        raise too_many_cells(plan, exact[0], rough.n_rows, max_cells)


def too_many_cells(plan: CellPlan, n_cells: int, n_rows: int, max_cells: int) -> DataError:
    """What is said of more cells than the study allows."""
    numbers = [expression_label(e) for e in plan.numbers if not (isinstance(e, Call) and e.function == "bin")]
    offer = f"write bin({numbers[0]}, width) for {numbers[0]}" if numbers else "leave out a grouping factor or a predictor"
    return DataError(
        f"{n_cells:,} cells from {n_rows:,} rows: more than max_cells = {max_cells:,}. Under family {plan.family} every predictor joins "
        f"the key, so {offer}, or raise max_cells in the study (memory and time grow with it)."
    )


def outcome_pair(plan: CellPlan, schema: Schema) -> str:
    """SQL over a row: a number for its cell with its outcome and size."""
    sizes = () if plan.offset_in_key else plan.offsets
    sizes = sizes if plan.trials is None else (plan.trials,)
    values = [as_sql(expression, schema.moments) for expression in (plan.raw_outcome, *sizes)]
    keys = [quote(key.name) if isinstance(key, Column) else as_sql(key, schema.moments) for key in plan.keys]
    return f"hash({', '.join([*keys, *values])})"


def has_few_outcomes(connection: duckdb.DuckDBPyConnection, cells: Path, most_outcomes: int) -> bool:
    """Whether the (cell, outcome) pairs that the cells hold are few enough."""
    query = f"select coalesce(sum(cardinality(outcomes)), 0) from read_parquet({literal(exactly(str(cells)))})"
    return int((connection.execute(query).fetchone() or (0,))[0]) <= most_outcomes


def refuse_merged_levels(connection: duckdb.DuckDBPyConnection, study_sql: str, plan: CellPlan) -> None:
    """DataError where different values of a column that names levels are written alike as text; reads rows only for types that can be."""
    relation = connection.sql(one_statement(study_sql))
    types = {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
    named = [*plan.groups, *(name for expression in plan.labels for name in columns_in(expression))]
    names = [name for name in dict.fromkeys(named) if not ONE_TEXT.match(types[name])]
    for name in names:
        own = quote(name)
        counted = f"select count(distinct {own}), count(distinct cast({own} as varchar)) from {subquery(study_sql)}"
        values, texts = run(connection, counted).fetchone() or (0, 0)
        if texts < values:
            raise DataError(
                f"{name}: {values:,} different values of type {types[name]} are {texts:,} as text, by which the tables name levels: "
                f"different ones would become one. Make a text or a number of {name} in line_items."
            )


@contextmanager
def explained(formula: Formula) -> Iterator[None]:
    """What DuckDB says about a value, in the study's terms."""
    try:
        yield
    except duckdb.OutOfRangeException as error:
        raise DataError(
            f"`{formula.text}` cannot be calculated for every row: {first_line(error)}. Look for zeros, negative or infinite values in "
            "the columns inside log( ), sqrt( ), exp( ) or a division, and leave such rows out with `where`."
        ) from error
    except (duckdb.ConversionException, duckdb.BinderException) as error:
        raise DataError(f"`{formula.text}` does not fit the columns' types: {first_line(error)}.") from error


def histogram(connection: duckdb.DuckDBPyConnection, plan: CellPlan, schema: Schema, study_sql: str) -> list[list[float]]:
    """Distinct outcomes and how often: far fewer logarithms of factorials than rows."""
    if not needs_outcomes(plan):
        return []
    response = as_sql(plan.raw_outcome, schema.moments)
    rows = run(connection, render("cell_histogram", study_rows=subquery(study_sql), response=response)).fetchall()
    return [[float(value), float(count)] for value, count in rows]


def needs_outcomes(plan: CellPlan) -> bool:
    """Whether the distinct outcomes and how often they occur are needed."""
    return statistics_of(plan.family).distinct_outcomes != "not needed"


def _order(expression: Expression, schema: Schema) -> str:
    inner = expression.arguments[0] if isinstance(expression, Call) else expression
    return schema.kind(inner.name) if isinstance(inner, Column) else "number"
