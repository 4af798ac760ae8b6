"""What is refused of cells: too many sums before they are made; then values that nothing can be fitted on, and digits that are lost."""

from __future__ import annotations

from pathlib import Path

import duckdb

from groupwise.compression.cell_query import INEXACT, LOST
from groupwise.source.relation import quote
from groupwise.source.source_files import exactly
from multilevel.cells.cell_plan import CellPlan
from multilevel.errors import DataError, FormulaError
from multilevel.families.registry import statistics_of
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula

MOST_STATES = 7_600
"""Sums and key columns that one group may have.

DuckDB keeps a group in one block of 256 KiB, a covariance takes 32 bytes of it, and a group that does not fit ends the process: SIGFPE from
8,193 covariances, not yet with 8,191 (DuckDB 2.0.0)."""

OTHER_STATES = 10
"""Sums besides moments, keys and level means, in any family."""

SHOWN = 160


def refuse_too_wide(plan: CellPlan, formula: Formula) -> None:
    """Count what the query would keep of every cell, before it is compiled; FormulaError with the number and the way out.

    Gaussian cells keep a covariance of every two numeric terms, so that their number grows with the square of the terms'.
    """
    moments = len(plan.features) + 1 if statistics_of(plan.family).moments else 0
    found = moments + moments * (moments + 1) // 2 + len(plan.keys) + 2 * len(plan.level_means) + OTHER_STATES
    if found <= MOST_STATES:
        return
    if moments <= len(plan.keys):
        raise FormulaError(
            f"`{formula.text[:SHOWN]}`: {found:,} columns join the key of the cells; at most {MOST_STATES:,} can. Leave out predictors or "
            "factors."
        )
    most = max(n for n in range(MOST_STATES) if n * (n + 3) // 2 <= MOST_STATES) - 1
    raise FormulaError(
        f"`{formula.text[:SHOWN]}`: {len(plan.features):,} numeric terms need {found:,} sums for every cell, one for every two of them; at "
        f"most {MOST_STATES:,} can be kept, which is {most} numeric terms. Leave some out, or write bin(x, width) where values are few."
    )


def check_cells(connection: duckdb.DuckDBPyConnection, cells: Path, plan: CellPlan) -> tuple[int, int]:
    """Cells and rows; an empty study or an unusable value is refused here, before anything is fitted."""
    table = connection.sql("select * from read_parquet($path)", params={"path": exactly(str(cells))})
    floats = [name for name, kind in zip(table.columns, table.types, strict=True) if str(kind) == "DOUBLE"]
    # not count(*) filter (...), which takes ten times as long to plan for thousands of columns
    bad = ", ".join(f"count_if(not coalesce(isfinite({quote(name)}), false))" for name in floats)
    texts = [name for name in table.columns if name.startswith(("g.", "c."))]
    wide = [name for name in table.columns if name.startswith(INEXACT)]
    null = "".join(f", count(*) - count({quote(name)})" for name in texts)
    inexact = "".join(f", cast(coalesce(sum({quote(name)}), 0) as bigint)" for name in wide)
    counts = f"select count(*), cast(coalesce(sum(n), 0) as bigint), {bad}{null}{inexact} from read_parquet($path)"
    row = connection.execute(counts, {"path": exactly(str(cells))}).fetchone() or (0, 0)
    n_cells, n_rows = int(row[0]), int(row[1])
    if n_rows == 0:
        cells.unlink()
        raise DataError("There are no rows to compress: the window, `where` or the quarantine left none.")
    _refuse_inexact(cells, dict(zip(wide, row[len(row) - len(wide) :], strict=True)))
    found = row[2 : len(row) - len(wide)]
    wrong = {_plain(name, plan): count for name, count in zip([*floats, *texts], found, strict=True) if count}
    if wrong:
        cells.unlink()
        precision = plan.weights or plan.standard_error
        if precision in wrong:
            raise DataError(
                f"`{precision}` must be positive and finite in every row, as a known precision; in {wrong[precision]:,} cells it is not."
            )
        listed = ", ".join(f"`{name}` ({count:,} cells)" for name, count in list(wrong.items())[:5])
        raise DataError(f"Values that are null or not finite in {listed}. Leave such rows out with `where` or `missing`.")
    return n_cells, n_rows


def has_lost_digits(connection: duckdb.DuckDBPyConnection, cells: Path) -> bool:
    """Whether a cell's moments need the second pass."""
    found = connection.execute(f"select bool_or({LOST}) from read_parquet($path)", {"path": exactly(str(cells))}).fetchone()
    return bool(found and found[0])


def _refuse_inexact(cells: Path, counts: dict[str, int]) -> None:
    """Whole numbers and decimals whose last digits a double would drop, which is all that tells them apart where they are all alike."""
    for column, count in counts.items():
        if count:
            cells.unlink()
            name = column.removeprefix(INEXACT)
            raise DataError(
                f"`{name}` has more digits than a double holds (about 16) in {count:,} rows, so its last digits would be lost. Subtract a "
                f"typical value, or divide, in the line_items query before it becomes a double: {name} - 1700000000000000000 as {name}."
            )


def _plain(name: str, plan: CellPlan) -> str:
    """A column of cells.parquet in the formula's terms."""
    kind, _, rest = name.partition(".")
    if kind in {"mean", "cross"}:
        return (*plan.feature_labels, expression_label(plan.outcome))[int(rest.split(".")[0])]
    if kind in {"g", "c", "x"}:
        return rest
    if name in {"weight", "once.log_weights"}:
        return str(plan.weights or plan.standard_error)
    if name in {"offset", "size", "once.outcome_log_exposure"}:
        return "offset" if plan.offsets else "trials"
    return expression_label(plan.outcome)
