"""``groupwise show``: the published tables, readable in a terminal."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.markup import escape
from rich.table import Table

from groupwise.commands import terminal
from groupwise.publishing.address import Address, has_scheme
from groupwise.publishing.layout import STUDY_NAME, open_layout
from groupwise.publishing.target import open_target
from groupwise.publishing.verify import read_manifest, read_tables
from groupwise.study.study_file import load_study
from multilevel.catalogue.headline import with_headline
from multilevel.errors import SourceError


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
    path = Path(target)
    if path.is_dir():
        return _by_folder(path)
    if has_scheme(target):
        return _by_address(target)
    study = load_study(path)
    place = open_target(study.publish_to, study.name)
    latest = place.latest()
    if latest is None:
        raise SourceError(f"{study.name}: nothing is published in {study.publish_to} yet; run: groupwise estimate {target}")
    return latest.folder, place.tables(latest)


def _by_folder(folder: Path) -> tuple[Path | Address, dict[str, pa.Table]]:
    """``publish_to/<study>``, its latest version, or ``.../versions/dt=.../rev=<run_id>`` (or ``current``), held against the manifest."""
    place = folder.resolve()
    if place.name.startswith("rev=") and place.parent.name.startswith("dt="):
        home = place.parents[2]
        layout = open_layout(str(home.parent), home.name)
        return folder, read_tables(layout, read_manifest(layout, place.parent.name.removeprefix("dt="), place.name.removeprefix("rev=")))
    local = open_target(str(place.parent), place.name) if STUDY_NAME.fullmatch(place.name) else None
    latest = None if local is None else local.latest()
    if local is None or latest is None:
        raise SourceError(f"{folder}: no published tables here; name a study file, publish_to/<study>, or .../rev=<run_id>.")
    return latest.folder, local.tables(latest)


def _by_address(target: str) -> tuple[Path | Address, dict[str, pa.Table]]:
    """``s3://.../<study>``, its latest version, or ``s3://.../<study>/versions/dt=.../rev=<run_id>``."""
    home, _, inside = target.rstrip("/").partition("/versions/")
    root, _, study = home.rpartition("/")
    place = open_target(root, study)
    wanted = place.latest() if not inside else next((known for known in place.versions() if str(known.folder) == target.rstrip("/")), None)
    if wanted is None:
        raise SourceError(f"{target}: no published version here; name s3://.../<study>, or a folder .../rev=<run_id> below it.")
    return wanted.folder, place.tables(wanted)


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
