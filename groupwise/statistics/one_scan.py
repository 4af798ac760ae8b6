"""The fingerprint, the counts and the cells of a window from one scan, with the sums and the outcomes that go with cells.

Whether a gaussian predictor has few values, and joins the key of the cells, is known of all line items only. So the scan's cells have the
finest key that the plan could have, as the first line items tell; those of a coarser plan are added up from them. They are by flags too,
which say what becomes of a line item, so that counts are sums over cells, and cells those of the line items that are left.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from groupwise.compression.cell_checks import refuse_too_wide
from groupwise.compression.cell_query import ANCHOR, PARTITION, cell_parts
from groupwise.compression.column_scan import scattered_predictors, schema_of_types
from groupwise.compression.compress import CERTAIN, ScannedCells, ScannedUnits
from groupwise.compression.sql_expressions import TABLE, as_sql
from groupwise.compression.write_query import write_query
from groupwise.source.fingerprint import FINGERPRINT, Fingerprint, fingerprint_of, fingerprinted, packed_hash
from groupwise.source.relation import Relation, quote, rows_of
from groupwise.source.shards.inside_window import without_condition
from groupwise.source.user_sql.statement import run
from groupwise.statistics.first_look import LOOK, FirstLook, is_discrete, look_at_first
from groupwise.statistics.needs_of_cells import NeedsOfCells
from groupwise.statistics.scan_flags import MOST_FLAGS, flagged_rows, level_flags, packed_sql, scan_conditions
from groupwise.statistics.scan_query import ALIKE, CELLS, EVERYONE, HISTOGRAM, LARGEST, OUTCOMES, PART, SCAN, SIZE, UNITS, VALUE, WindowScan
from groupwise.statistics.sums import files_sql
from groupwise.study.study import Study
from groupwise.validation.missing_values import column_means, refuse_literal_level
from groupwise.validation.row_scan import FLAGS, RowScan, flag
from groupwise.validation.suite import load_rules
from groupwise.validation.window_counts import COUNTS, HASH, note_counts, noted_counts, predictors_to_count
from multilevel.cells.cell_plan import MOST_OUTCOMES, CellPlan, plan_cells
from multilevel.cells.column_facts import Schema
from multilevel.cells.unit_sums import CELL, MOST_PAIRS, MOST_UNITS, UNIT
from multilevel.errors import GroupwiseError
from multilevel.families.registry import is_linear
from multilevel.formula.columns import formula_columns, not_grouped_by, predictor_expressions, standardised
from multilevel.formula.tree import Column, Expression

logger = logging.getLogger("groupwise.run")

FILE = "scan.parquet"
SURELY = 1e-6
"""A standard deviation of a cell's outcomes relative to their mean that is no rounding: the outcome varies."""
FINEST = 4_000_000
"""Cells, or sums by cell and unit, that the scan may come to where the study's plan asks for fewer, as far as first line items tell."""
MOST_FINER = 4
"""Times as many as the plan's own that do not matter either."""
ENOUGH = 1.5
"""Times as many units as are sampled that the scan takes sums of: how many there are is not known before."""
SURE = 1.3
"""Approximate counts of units and pairs are off by less than this factor."""
PACKED = f"{FLAGS}packed"
NOT_READ = (GroupwiseError, duckdb.OutOfRangeException, duckdb.ConversionException, duckdb.BinderException, duckdb.OutOfMemoryException)
"""What a scan may end with that the steps after it have the study's words for, or need less for."""


def scan_window(
    connection: duckdb.DuckDBPyConnection, study: Study, relation: Relation, names: Sequence[str], folder: Path
) -> Fingerprint | None:
    """The fingerprint of the line items in the window. Counts and cells are left in ``folder`` for the steps that need them.

    None, and nothing is left, where one scan cannot do: line items alike that a rule forbids, weights, means over all line items inside the
    formula, too many cells by the finest key, or values that no cell can be made of. Who checks the line items then says what is wrong.

    names : columns that the fingerprint is of.
    """
    for old in (folder / FILE, *folder.glob("scan-units.*.parquet")):
        old.unlink(missing_ok=True)
    rules = load_rules(study, relation.columns)
    if not _is_plain(study):
        return None
    try:
        rows = RowScan(study, without_condition(connection, study, relation), rules, {}, has_no_duplicates=True)
        return _scanned(connection, replace(rows, means=_means(connection, rows)), names, folder)
    except NOT_READ as error:
        # the step that checks the line items, or the one that makes cells, says so in the study's words
        logger.info("%s: the line items are read once for each question: one scan ended with %s.", study.name, type(error).__name__)
        (folder / FILE).unlink(missing_ok=True)
        return None
    finally:
        connection.execute(f"drop table if exists {LOOK}").execute(f"drop table if exists {SCAN}")


def scanned_cells(folder: Path) -> ScannedCells | None:
    """The cells that ``scan_window`` has left; None where it left none."""
    path, noted = folder / FILE, noted_counts(folder)
    if noted is None or noted.noted("plan") is None or not path.exists():
        return None
    units = {name: ScannedUnits(n_units, folder / f"scan-units.{place}.parquet") for name, (place, n_units) in noted.noted("units").items()}
    anchored = f"select * from {files_sql([path])}"
    names = ", ".join(quote(name) for name in pq.read_schema(path).names if not name.startswith(ANCHOR))
    cells = f"select {names} from {files_sql([path])}"
    return ScannedCells(
        noted.noted("plan"), cells, anchored, noted.noted("n_cells"), noted.noted("with_outcomes"), noted.noted("histogram"), units
    )


def _is_plain(study: Study) -> bool:
    """Whether nothing has to be known of all line items before cells can be made of them, but for means that fill in."""
    formula = study.parsed_formula
    return not any(standardised(part) for part in (*predictor_expressions(formula), *formula.offsets))


def _means(connection: duckdb.DuckDBPyConnection, blind: RowScan) -> dict[str, float]:
    """Of columns that are filled in, from a scan of their own."""
    kept = f"select * from ({blind.marked_sql()}) where {flag('is kept')}"
    return column_means(connection, blind.study, kept, blind.types)


@dataclass(frozen=True)
class _Scan:
    """A scan that has filled its table. ``conditions`` : of ``_conditions``; ``kept`` : packed flags of line items that are left."""

    connection: duckdb.DuckDBPyConnection
    rows: RowScan
    window: WindowScan
    needs: NeedsOfCells
    by_flags: list[tuple[int, Fingerprint]]
    conditions: list[str]

    @property
    def kept(self) -> list[int]:
        return [packed for packed, _ in self.by_flags if self._has(packed, "left")]

    @property
    def kept_sql(self) -> str:
        """SQL over the scan's cells: whether they are of line items that are left."""
        return f"{PARTITION} in ({', '.join(map(str, self.kept))})" if self.kept else "false"

    def counted(self) -> dict[str, int] | None:
        """Line items by what they are counted by; None where the cells tell that some break a need, and not how many do."""
        found = {name: sum(own.rows for packed, own in self.by_flags if self._has(packed, name)) for name in self.conditions}
        found |= {"total": sum(own.rows for _, own in self.by_flags)} | dict.fromkeys([f"breaking {i}" for i in self.needs.of_means], 0)
        if self.needs.of_means:
            query = f"select {self.needs.are_kept_sql} from {SCAN} where {PART} = '{CELLS}' and {self.kept_sql}"
            if not self.first(query):
                return None
        if self.needs.of_keys:
            named: dict[Expression, str] = {key: key.name for key in self.window.plan.keys if isinstance(key, Column)}
            cells = self.window.key_rows_sql(named, self.kept_sql, "n")
            counts = self.needs.counts_sql()
            row = self.connection.execute(f"select {', '.join(counts.values())} from ({cells}) as {TABLE}").fetchone() or ()
            found |= {name: int(count) for name, count in zip(counts, row, strict=True)}
        return found

    def first(self, sql: str) -> int:
        """A number."""
        return int((self.connection.execute(sql).fetchone() or (0,))[0] or 0)

    def _has(self, packed: int, name: str) -> bool:
        return bool(packed >> self.conditions.index(name) & 1)


def _scanned(connection: duckdb.DuckDBPyConnection, rows: RowScan, names: Sequence[str], folder: Path) -> Fingerprint | None:
    study = rows.study
    units = not_grouped_by(study.parsed_formula, study.sampled)
    look = look_at_first(connection, rows, [*formula_columns(study.parsed_formula), *units])
    distinct = look.distinct(predictors_to_count(rows))
    planned = _planned(look, rows, names, distinct, units)
    if planned is None:
        return None
    window, needs, conditions = planned
    run(connection, f"create or replace table {SCAN} as {window.sql}")
    found = _Scan(connection, rows, window, needs, _by_flags(connection, study), conditions)
    if found.first(f"select sum(n) from {SCAN} where {PART} = '{ALIKE}'"):
        return None
    counted = found.counted()
    if counted is None:
        return None
    refuse_literal_level(study, counted)
    varied = _varied(found)
    if varied is None:
        return None
    distinct, scattered = _few_values(found, distinct, counted["left"])
    schema = schema_of_types(rows.study_types, distinct, scattered)
    plan = plan_cells(study.parsed_formula, schema, study.family)
    noted = _written(found, plan, schema, folder)
    if noted is None:
        return None
    counts = rows.counts(
        {name: counted[name] for name in ("total", *rows.conditions())} | {f"varied {i}": own for i, own in enumerate(varied)}
    )
    note_counts(folder / COUNTS, counts, distinct, scattered=sorted(scattered), means=dict(rows.means), plan=repr(plan), **noted)
    return reduce(add, (fingerprint for _, fingerprint in found.by_flags), Fingerprint())


def _planned(
    look: FirstLook, rows: RowScan, names: Sequence[str], distinct: Mapping[str, int], units: Sequence[str]
) -> tuple[WindowScan, NeedsOfCells, list[str]] | None:
    """The scan, the needs that its cells tell of, and what it counts by; None where it could come to far more cells than are needed."""
    study = rows.study
    formula = study.parsed_formula
    finest = {name: 1 if is_discrete(count) else count for name, count in distinct.items()}
    schema = schema_of_types(rows.study_types, finest)
    plan = plan_cells(formula, schema, study.family)
    coarsest = plan_cells(formula, replace(schema, distinct=dict(distinct), scattered=frozenset(distinct)), study.family)
    few = [name for name, count in finest.items() if count == 1]
    if plan.has_weights or len(plan.level_means) > len(plan.means_from_cells) or len(plan.level_means) > len(coarsest.means_from_cells):
        return None
    if any(Column(name) not in plan.keys for name in few):
        return None
    refuse_too_wide(plan, formula)
    parts = cell_parts(plan, schema)
    keys = [parts.inputs[alias] for alias in parts.keys.values()]
    if not _is_fit(look, keys, [key for key, part in zip(keys, parts.keys, strict=True) if part in coarsest.keys]):
        return None
    with_outcomes = plan.has_single_outcomes
    if with_outcomes:
        sizes = [parts.inputs[name] for name in ("trials", "log_exposure") if name in parts.inputs]
        pairs = [*keys, parts.inputs["outcome"], *sizes]
        if look.different(pairs) > MOST_OUTCOMES:
            with_outcomes = False
        elif not _is_fit(look, pairs, keys):
            return None
    needs = NeedsOfCells(rows, plan, parts)
    conditions = scan_conditions(rows, needs.asked)
    if len(conditions) > MOST_FLAGS:
        return None
    kept = flag("is kept")
    columns = {name: f"{TABLE}.{quote(name)}" for name in dict.fromkeys([*formula_columns(formula), *units])}
    values = ", ".join(f"{sql if rows.keeps_all else f'case when {kept} then {sql} end'} as {quote(name)}" for name, sql in columns.items())
    own = packed_hash(fingerprinted(names, rows.relation.columns))
    unique = {place: rule.own_columns for place, rule in enumerate(rows.rules) if rule.is_unique}
    alike = {f"{FLAGS}alike {place} {name}": quote(name) for place, own_columns in unique.items() for name in own_columns}
    shown = "".join(f", {TABLE}.{quote(name)}" for name in (*(f"{FLAGS}applies {place}" for place in unique), *alike))
    flagged = flagged_rows(rows, {HASH: own} | level_flags(rows) | alike)
    packed = packed_sql(rows, conditions, needs.asked)
    window = WindowScan(
        plan=plan,
        schema=schema,
        rows=f"select {values}, {packed} as {quote(PACKED)}, {quote(HASH)}, {kept}{shown} from ({flagged}) as {TABLE}",
        flagged=packed if packed.isdigit() else f"{TABLE}.{quote(PACKED)}",
        kept=f"{TABLE}.{kept}",
        line_hash=f"{TABLE}.{quote(HASH)}",
        unique=[
            (f"{TABLE}.{flag('applies', place)}", [f"{TABLE}.{quote(f'{FLAGS}alike {place} {name}')}" for name in own_columns])
            for place, own_columns in unique.items()
        ],
        units=_sampled(look, keys, units),
        with_outcomes=with_outcomes,
        filled=needs.filled_sql,
    )
    return window, needs, list(conditions)


def _is_fit(look: FirstLook, fine: Sequence[str], coarse: Sequence[str]) -> bool:
    """Whether a finer key makes not many more cells; both are SQL over ``study``, and the finer has all of the coarser."""
    more = [key for key in fine if key not in coarse]
    if look.different(more) <= MOST_FINER:
        return True
    expected = look.expected(fine)
    return expected <= FINEST or expected <= MOST_FINER * look.expected(coarse) < look.n_about


def _sampled(look: FirstLook, keys: Sequence[str], units: Sequence[str]) -> dict[str, int]:
    """Sampled column -> the largest hash of a unit that sums are taken of, so that they are enough; not of columns with too many pairs."""
    found = {}
    for name in units:
        own = f"{TABLE}.{quote(name)}"
        expected = look.expected([own])
        share = min(1.0, 2 * ENOUGH * MOST_UNITS / expected)
        if look.expected([*keys, own]) * share <= FINEST:
            found[name] = LARGEST if share == 1.0 else int(share * LARGEST)
    return found


def _by_flags(connection: duckdb.DuckDBPyConnection, study: Study) -> list[tuple[int, Fingerprint]]:
    """Packed flags, and the fingerprint of the line items that have them."""
    n_rows, total = FINGERPRINT
    sums = f"cast(sum(n) as bigint) as {n_rows}, sum({total}) as {total}"
    query = f"select {PARTITION} as packed, {sums} from {SCAN} where {PART} = '{CELLS}' group by packed order by packed"
    return [(int(row["packed"]), fingerprint_of(row)) for row in rows_of(connection, query, study.name, "the line items cannot be counted")]


def _varied(found: _Scan) -> list[bool] | None:
    """Per ``Varied``, whether one of its values differs between line items; None where the cells leave that open."""
    plan, parts = found.window.plan, found.window.parts
    differs = {
        f"{TABLE}.{quote(key.name)}": f"min({at}) is distinct from max({at})" for key, at in parts.keys.items() if isinstance(key, Column)
    }
    outcome = as_sql(plan.outcome, {})
    if is_linear(plan.family):
        place = len(plan.features)
        mean, square = (
            ("observed.mean", "observed.square") if "observed.mean" in parts.aggregates else (f"mean.{place}", f"cross.{place}.{place}")
        )
        differs[outcome] = f'bool_or("{square}" > {SURELY**2} * n * "{mean}" * "{mean}")'
    varied = found.rows.varied
    if any(value not in differs for one in varied for value in one.values):
        return None
    picks = ", ".join(f"coalesce({' or '.join(differs[value] for value in one.values)}, false)" for one in varied)
    query = f"select {picks or 'true'} from {SCAN} where {PART} = '{CELLS}' and {found.kept_sql}"
    row = found.connection.execute(query).fetchone() or ()
    is_open = any(outcome in one.values and not own for one, own in zip(varied, row, strict=False))
    return None if is_open else [bool(own) for own in row[: len(varied)]]


def _few_values(found: _Scan, distinct: Mapping[str, int], n_left: int) -> tuple[dict[str, int], frozenset[str]]:
    """About how many values each numeric predictor has, and which of those with few make too many cells: as scans of all would say."""
    formula = found.rows.study.parsed_formula
    named: dict[Expression, str] = {key: key.name for key in found.window.plan.keys if isinstance(key, Column)}
    sql = found.window.key_rows_sql(named, found.kept_sql)
    few = [name for name, count in distinct.items() if is_discrete(count)]
    counts = ", ".join(f"approx_count_distinct({quote(name)})" for name in few)
    row = found.connection.execute(f"select {counts} from ({sql})").fetchone() if few else ()
    counted = dict(distinct) | dict(zip(few, map(int, row or ()), strict=True))
    schema = replace(schema_of_types(found.rows.study_types, counted), n_rows=n_left)
    return counted, scattered_predictors(found.connection, sql, formula, schema)


def _written(found: _Scan, plan: CellPlan, schema: Schema, folder: Path) -> dict[str, object] | None:
    """Write the cells and the sums by unit; what is noted of them. None where two cells have one key."""
    cells = found.window.cells_sql(plan, schema, found.kept)
    with_outcomes = _has_few_outcomes(found, plan, schema)
    if with_outcomes:
        maps = found.window.outcomes_sql(cell_parts(plan, schema))
        cells = f"select cells.*, maps.outcomes from ({cells}) as cells left join ({maps}) as maps on cells.{CELL} = maps.{CELL}"
    path = write_query(found.connection, f"select * from ({cells}) as cells", folder / FILE)
    n_cells = found.first(f"select count(*) from {files_sql([path])}")
    if found.first(f"select count(distinct {CELL}) from {files_sql([path])}") != n_cells:
        return None
    units = {}
    for place, name in enumerate(found.window.units):
        n_units = _write_units(found, plan, schema, place, name, folder / f"scan-units.{place}.parquet")
        if n_units is not None:
            units[name] = (place, n_units)
    outcomes = f"select {VALUE}, n from {SCAN} where {PART} = '{HISTOGRAM}' order by {VALUE}"
    counts = found.connection.execute(outcomes).fetchall() if found.window.needs_histogram else []
    histogram = [[float(value), float(n)] for value, n in counts]
    return {"n_cells": n_cells, "with_outcomes": with_outcomes, "histogram": histogram, "units": units}


def _has_few_outcomes(found: _Scan, plan: CellPlan, schema: Schema) -> bool:
    """Whether single rows' outcomes are kept, as the step that makes cells decides it."""
    if not found.window.with_outcomes:
        return False
    pairs = f"from {SCAN} where {PART} = '{OUTCOMES}'"
    if found.first(f"select count(*) {pairs}") > MOST_OUTCOMES:
        return False
    keys = [found.window.parts.keys[key] for key in cell_parts(plan, schema).keys]
    sizes = [] if plan.offset_in_key else [SIZE]
    return CERTAIN * found.first(f"select approx_count_distinct(hash({', '.join([*keys, VALUE, *sizes])})) {pairs}") <= MOST_OUTCOMES


def _write_units(found: _Scan, plan: CellPlan, schema: Schema, place: int, name: str, path: Path) -> int | None:
    """Write the sums of a sampled column's first units by hash; how many it has. None where the scan has too few, or too many pairs."""
    unit, part = f"unit_{place}", f"from {SCAN} where {PART} = '{UNITS}{place}'"
    n_seen = found.first(f"select count(distinct {unit}) {part}")
    is_all = found.window.units[name] == LARGEST
    n_units = n_seen if is_all else found.first(f"select n from {SCAN} where {PART} = '{EVERYONE}{place}'")
    if n_seen < min(n_units, MOST_UNITS):
        return None
    ordered = f"select {unit} as {VALUE}, row_number() over (order by hash({unit}), {unit}) as {UNIT} from (select distinct {unit} {part})"
    numbers = f"(select * from ({ordered}) where {UNIT} <= {MOST_UNITS})"
    write_query(found.connection, found.window.units_sql(plan, schema, found.kept, place, numbers), path)
    if found.first(f"select count(*) from {files_sql([path])}") * SURE > MOST_PAIRS:
        path.unlink()
        return None
    return n_units
