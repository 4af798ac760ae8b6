"""``groupwise show``: the published tables, readable in a terminal."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.markup import escape
from rich.table import Table

from groupwise.commands import terminal
from groupwise.publishing.address import Address
from groupwise.publishing.locate import locate
from multilevel.catalogue.headline import with_headline


def show_tables(target: str, rows: int) -> None:
    """Print a study's latest version, or the version in a folder; raises SourceError where there is none."""
    folder, tables = find_tables(target)
    console = terminal.console()
    first = tables["diagnostics"].slice(0, 1).to_pylist()[0]
    console.print(f"[bold]{first['study']}[/bold] as of {first['as_of']}, run {first['run_id']}, engine {first['engine']}")
    console.print(
        _table(
            "Population-level coefficients",
            tables["population_coefficients"],
            _with_part(tables["population_coefficients"], ("pooling", "term", "estimate", "std_error", "lower", "upper")),
        )
    )
    components = ("grouping_factor", "term", "other_term", "quantity", "estimate", "lower", "upper", "variance_share")
    console.print(_table("Variance components", tables["variance_components"], _with_part(tables["variance_components"], components)))
    for factor in pc.unique(tables["group_estimates"]["grouping_factor"]).to_pylist():
        console.print(_ranked(tables["group_estimates"], str(factor), rows))
    failed = tables["diagnostics"].filter(pc.invert(tables["diagnostics"]["passed"]))
    if failed.num_rows:
        console.print(_table("Checks that did not pass", failed, ("check", "value", "threshold", "message")))
    else:
        console.print("All checks passed.")
    console.print(f"[dim]{escape(str(folder))}[/dim]", soft_wrap=True)


def _with_part(table: pa.Table, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns, and in front of them the part where the model has two; versions published before had no such column."""
    has_parts = "part" in table.column_names and table.column("part").null_count < table.num_rows
    return ("part", *columns) if has_parts else columns


def find_tables(target: str) -> tuple[Path | Address, dict[str, pa.Table]]:
    """Where a study's latest version is, or a version by its folder, and its tables; SourceError where nothing is published."""
    place, version = locate(target)
    return version.folder, place.tables(version)


def _ranked(table: pa.Table, factor: str, rows: int) -> Table:
    """The first and last levels of a factor by estimate."""
    seen = pc.and_(pc.equal(table["grouping_factor"], pa.scalar(factor)), pc.invert(table["is_new"]))
    own = with_headline(table.filter(seen)).sort_by([("estimate", "descending")])
    known = ("parent_level", "level", "n", "n_sampled", "observed_mean", "no_pooling_estimate", "estimate", "lower", "upper", "rank_lower")
    columns = tuple(name for name in (*known, "rank_upper") if name in own.column_names)
    if "headline" in own.column_names and own.num_rows and own["headline"][0].as_py() == "population":
        factor += ", a new member"
    if own.num_rows <= 2 * rows:
        return _table(factor, own, columns)
    ends = pa.concat_tables([own.slice(0, rows), own.slice(own.num_rows - rows)])
    return _table(f"{factor}: first and last {rows} of {own.num_rows:,}", ends, columns)


def _table(title: str, table: pa.Table, names: tuple[str, ...]) -> Table:
    shown = [name for name in names if table[name].null_count < table.num_rows]
    text = [_heading(name) for name in shown if pa.types.is_string(table.schema.field(name).type)]
    rows = [[_cell(row[name]) for name in shown] for row in table.select(shown).to_pylist()]
    return terminal.table([_heading(name) for name in shown], rows, title=title, text=text)


def _heading(column: str) -> str:
    return column.replace("_", " ")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
