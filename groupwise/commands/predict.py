"""``groupwise predict``: the expected outcome at every row of a table, from the saved model of a published version."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
from rich.table import Table

from groupwise.commands import terminal
from groupwise.commands.plain_rows import check_style, write_rows
from groupwise.commands.terminal import text_console
from groupwise.kept_models import SavedModels, reading_saved
from groupwise.predictions import MADE, interval_of, predict_at, write_predictions
from groupwise.study.study_file import load_study

MOST_PRINTED = 40


def show_predictions(
    study_file: str, at: str, *, output: Path | None, interval: str | None, run_id: str | None, style: str = "table"
) -> None:
    """Write or print the expected outcome at every row of a table; in JSON and CSV all rows are printed."""
    check_style(style)
    _, of_next = interval_of(interval)
    study = load_study(study_file)
    with reading_saved(study, run_id) as saved:
        table = predict_at(study, saved, at, interval=interval)
    n_new = sum(bool(value) for value in table.column("is_new").to_pylist())
    console = terminal.console()
    whose = "; intervals are of the next outcome" if of_next else ""
    told = f"{study.title or study.name}: {table.num_rows:,} rows, {n_new:,} with a group never seen, {_named(saved)}{whose}"
    if output is not None:
        write_predictions(table, output)
        console.print(told, soft_wrap=True, markup=False)
        print(output)
        return
    if style != "table":
        write_rows(table.to_pylist(), table.column_names, style)
        text_console(sys.stderr).print(told, soft_wrap=True, markup=False)
        return
    console.print(_predictions(table.slice(0, MOST_PRINTED)))
    more = f"; the first {MOST_PRINTED} are shown, all of them with --output FILE" if table.num_rows > MOST_PRINTED else ""
    console.print(told + more, soft_wrap=True, markup=False)


def _named(saved: SavedModels) -> str:
    return f"as of {saved.version.as_of}, run {saved.version.run_id}"


def _predictions(table: pa.Table) -> Table:
    own = [name for name in table.column_names if name not in MADE]
    rows = [[_cell(value) for value in row.values()] for row in table.to_pylist()]
    return terminal.table([name.replace("_", " ") if name in MADE else name for name in table.column_names], rows, text=own)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
