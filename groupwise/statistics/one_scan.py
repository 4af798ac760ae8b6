"""The fingerprint, the counts and the cells of a window from one scan: where the first line items already tell what the cells are.

A gaussian predictor with few values joins the key of the cells, which only a count of all line items can say; one of which some thousand
line items have many values does not. The scan's cells are by flags too, which say what becomes of a line item, so that counts are sums over
cells, and cells those of the line items that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from groupwise.compression.cell_checks import refuse_too_wide
from groupwise.compression.cell_query import PARTITION, compile_cells
from groupwise.compression.column_scan import schema_of_types
from groupwise.compression.compress import ScannedCells
from groupwise.compression.sql_expressions import TABLE, as_sql
from groupwise.compression.write_query import write_query
from groupwise.source.fingerprint import FINGERPRINT, Fingerprint, fingerprint_of, fingerprinted, packed_hash
from groupwise.source.relation import Relation, quote, rows_of
from groupwise.statistics.sums import added_sql, files_sql
from groupwise.study.study import Study
from groupwise.validation.row_scan import FLAGS, RowScan, flag
from groupwise.validation.window_counts import COUNTS, HASH, countable, note_counts, noted_counts, predictors_to_count
from multilevel.cells.cell_plan import CellPlan, plan_cells
from multilevel.cells.column_facts import DISCRETE, Schema
from multilevel.errors import GroupwiseError
from multilevel.families.registry import is_linear
from multilevel.formula.columns import formula_columns, predictor_expressions, standardised
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Column

FILE = "scan.parquet"
FIRST = 20_000
"""Line items that are looked at before the scan."""
MANY = 3 * DISCRETE
"""Different values of a predictor among them that leave no doubt that it has too many to join the key."""
MOST_FLAGS = 60
SURELY = 1e-6
"""A standard deviation of a cell's outcomes relative to their mean that is no rounding: the outcome varies."""
PACKED = f"{FLAGS}packed"


def scan_window(
    connection: duckdb.DuckDBPyConnection, study: Study, relation: Relation, names: Sequence[str], folder: Path
) -> Fingerprint | None:
    """The fingerprint of the line items in the window. Counts and cells are left in ``folder`` for the steps that need them.

    None, and nothing is left, where one scan cannot do: families that keep other sums, predictors with few values, constants that have to
    be known before, or values that no cell can be made of. Who checks the line items then says what is wrong with them.

    names : columns that the fingerprint is of.
    """
    path = folder / FILE
    path.unlink(missing_ok=True)
    scan = countable(study, relation)
    if scan is None or not _is_plain(study):
        return None
    flags = list(scan.conditions())
    distinct = _first_values(connection, scan)
    if len(flags) > MOST_FLAGS or any(count < MANY for count in distinct.values()):
        return None
    try:
        schema = schema_of_types(scan.study_types, distinct)
        plan = plan_cells(study.parsed_formula, schema, study.family)
        if plan.has_weights or plan.level_means:
            return None
        refuse_too_wide(plan, study.parsed_formula)
        write_query(connection, _query(scan, names, plan, schema), path)
    except (GroupwiseError, duckdb.OutOfRangeException, duckdb.ConversionException, duckdb.BinderException):
        # the step that checks the line items, or the one that makes cells, says so in the study's words
        path.unlink(missing_ok=True)
        return None
    groups = _by_flags(connection, study, path)
    kept = [packed for packed, _ in groups if _has(packed, flags, "left")]
    varied = _varied(connection, scan, plan, f"(select * from {files_sql([path])} where {_of(kept)})")
    if varied is None:
        path.unlink()
        return None
    found = reduce(add, (fingerprint for _, fingerprint in groups), Fingerprint())
    counted = {name: sum(own.rows for packed, own in groups if _has(packed, flags, name)) for name in flags}
    counted |= {"total": found.rows} | {f"varied {i}": own for i, own in enumerate(varied)}
    note_counts(folder / COUNTS, scan.counts(counted), distinct, plan=repr(plan), kept=kept)
    return found


def scanned_cells(folder: Path) -> ScannedCells | None:
    """The cells that ``scan_window`` has left; None where it left none."""
    path, noted = folder / FILE, noted_counts(folder)
    if noted is None or noted.noted("plan") is None or not path.exists():
        return None
    kept = noted.noted("kept")
    names = [name for name in pq.read_schema(path).names if name not in (PARTITION, *FINGERPRINT)]
    cells = f"select {', '.join(map(quote, names))} from {files_sql([path])} where {_of(kept)}"
    return ScannedCells(noted.noted("plan"), cells if len(kept) <= 1 else added_sql(f"({cells}) as cells", names))


def _is_plain(study: Study) -> bool:
    """Whether nothing has to be known of all line items before cells can be made of them."""
    formula = study.parsed_formula
    return is_linear(study.family) and not formula.offsets and not any(standardised(part) for part in predictor_expressions(formula))


def _first_values(connection: duckdb.DuckDBPyConnection, scan: RowScan) -> dict[str, int]:
    """How many different values the numeric predictors have among the first line items."""
    names = predictors_to_count(scan)
    if not names:
        return {}
    first = f"select * from ({scan.flagged_sql()}) where {flag('is kept')} limit {FIRST}"
    counts = ", ".join(f"count(distinct {quote(name)}) as {quote(name)}" for name in names)
    row = rows_of(connection, f"select {counts} from ({first})", scan.study.name, "the line items cannot be checked")[0]
    return {name: int(row[name]) for name in names}


def _query(scan: RowScan, names: Sequence[str], plan: CellPlan, schema: Schema) -> str:
    """Cells of the line items by what becomes of these; values of line items that are left out take part in nothing."""
    kept = flag("is kept")
    columns = {name: f"{TABLE}.{quote(name)}" for name in formula_columns(scan.study.parsed_formula)}
    values = ", ".join(f"{sql if scan.keeps_all else f'case when {kept} then {sql} end'} as {quote(name)}" for name, sql in columns.items())
    own = packed_hash(fingerprinted(names, scan.relation.columns))
    flagged = scan.flagged_sql(f", {own} as {quote(HASH)}")
    rows = f"select {values}, {_packed(scan)} as {quote(PACKED)}, {quote(HASH)} from ({flagged}) as {TABLE}"
    by, line_hash = f"{TABLE}.{quote(PACKED)}", f"{TABLE}.{quote(HASH)}"
    return compile_cells(plan, schema, rows, with_key=True, partition=by, line_hash=line_hash).sql


def _packed(scan: RowScan) -> str:
    """SQL: what a line item is counted by, a bit for each; written out only for line items that are not like most."""
    conditions = scan.conditions()
    whole = " + ".join(f"(cast(coalesce({sql}, false) as bigint) << {place})" for place, sql in enumerate(conditions.values()))
    usual = [name for name in conditions if name == "left" or name.startswith("checked ")]
    wrong = [sql for name, sql in conditions.items() if name.startswith("unexpected ")] + [need.breaks for need in scan.needs]
    is_usual = " and ".join([*(conditions[name] for name in usual), f"not coalesce({' or '.join(wrong) or 'false'}, false)"])
    packed = sum(1 << list(conditions).index(name) for name in usual)
    return f"case when {is_usual} then {packed} else {whole} end"


def _by_flags(connection: duckdb.DuckDBPyConnection, study: Study, path: Path) -> list[tuple[int, Fingerprint]]:
    """Packed flags, and the fingerprint of the line items that have them."""
    n_rows, parity, total = FINGERPRINT
    sums = f"cast(sum(n) as bigint) as {n_rows}, bit_xor({parity}) as {parity}, sum({total}) as {total}"
    query = f"select {PARTITION} as packed, {sums} from {files_sql([path])} group by packed"
    return [(int(row["packed"]), fingerprint_of(row)) for row in rows_of(connection, query, study.name, "the line items cannot be counted")]


def _has(packed: int, flags: Sequence[str], name: str) -> bool:
    return bool(packed >> flags.index(name) & 1)


def _of(kept: Sequence[int]) -> str:
    """SQL over cells: whether they are of line items that are left."""
    return f"{PARTITION} in ({', '.join(map(str, kept))})" if kept else "false"


def _varied(connection: duckdb.DuckDBPyConnection, scan: RowScan, plan: CellPlan, cells: str) -> list[bool] | None:
    """Per ``Varied``, whether one of its values differs between line items; None where the cells leave that open."""
    last, outcome = len(plan.features), as_sql(plan.outcome, {})
    spread = f'bool_or("cross.{last}.{last}" > {SURELY**2} * n * "mean.{last}" * "mean.{last}")'
    differs = {f"{TABLE}.{quote(name)}": f"min({quote('g.' + name)}) is distinct from max({quote('g.' + name)})" for name in plan.groups}
    differs |= {f"{TABLE}.{quote(part.name)}": _label_differs(part) for part in plan.labels if isinstance(part, Column)} | {outcome: spread}
    if any(value not in differs for one in scan.varied for value in one.values):
        return None
    picks = ", ".join(f"coalesce({' or '.join(differs[value] for value in one.values)}, false)" for one in scan.varied)
    row = connection.execute(f"select {picks or 'true'} from {cells}").fetchone() or ()
    is_open = any(outcome in one.values and not own for one, own in zip(scan.varied, row, strict=False))
    return None if is_open else [bool(own) for own in row[: len(scan.varied)]]


def _label_differs(part: Column) -> str:
    name = quote(f"c.{expression_label(part)}")
    return f"min({name}) is distinct from max({name})"
