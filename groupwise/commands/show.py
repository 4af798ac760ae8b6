"""``groupwise show``: the published tables, readable in a terminal or by a program."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.markup import escape
from rich.table import Table

from groupwise.commands import terminal
from groupwise.commands.plain_rows import check_style, write_json, write_rows
from groupwise.commands.terminal import text_console
from groupwise.publishing.locate import locate
from groupwise.publishing.target import Target
from groupwise.publishing.version import Version
from groupwise.report.labelled import labelled
from groupwise.study.study import Study
from groupwise.study.study_file import load_study, study_from
from groupwise.study.study_labels import Labels
from groupwise.term_order import FALLBACK, TermOrder
from multilevel.catalogue.headline import with_headline
from multilevel.errors import StudyError

TABLES = ("population_coefficients", "variance_components", "group_estimates", "diagnostics")
"""What is shown, in this order."""
ESTIMATED = ("formula", "family", "source", "where")
"""Fields of a study without which two versions do not speak of the same."""

CONSTANT = ("study", "as_of", "run_id", "engine")
"""Columns that are the same in every row."""


def show_tables(target: str, rows: int, style: str = "table", named: Sequence[str] = ()) -> None:
    """Print a study's latest version, or the version in a folder.

    Parameters
    ----------
    rows : of each long table, in a terminal; programs get all. named : tables to print; none: ``TABLES``, in CSV group_estimates.

    Raises
    ------
    SourceError : nothing is published there. StudyError : no such table or style.
    """
    check_style(style)
    place, version = locate(target)
    tables = place.tables(version)
    unknown = [name for name in named if name not in tables]
    if unknown:
        raise StudyError(f"--table {unknown[0][:60]}: there is no such table; they are {', '.join(tables)}.")
    study = published_study(place, version)
    differing = differing_fields(target, study)
    if differing:
        text_console(sys.stderr).print(
            f"{target} has another {' and another '.join(differing)} than this version, which is {version.run_id}; "
            f"groupwise estimate {target} publishes what the file says.",
            soft_wrap=True,
            markup=False,
        )
    if style == "table":
        _print(place, version, tables, study, rows, tuple(named) or TABLES)
    else:
        _write(tables, study, style, tuple(named) or (TABLES if style == "json" else ("group_estimates",)))


def published_study(place: Target, version: Version) -> Study | None:
    """The study as the version's manifest has it; None where it is one of before its fields were what they are."""
    try:
        return study_from(place.manifest(version).get("study_definition") or {}, version.run_id)
    except StudyError:
        return None


def differing_fields(target: str, published: Study | None) -> list[str]:
    """Fields that say what is estimated, where a study file has other ones than the version that it names; none for a folder."""
    if published is None or not target.lower().endswith((".yaml", ".yml")):
        return []
    own = load_study(target)
    return [field for field in ESTIMATED if getattr(own, field) != getattr(published, field)]


def _write(tables: Mapping[str, pa.Table], study: Study | None, style: str, named: Sequence[str]) -> None:
    if style == "csv":
        if len(named) > 1:
            raise StudyError(f"--format csv is of one table; name one with --table ({', '.join(TABLES)}).")
        write_rows(_ordered(tables[named[0]], named[0], study), tables[named[0]].column_names, style)
        return
    first = tables["diagnostics"].slice(0, 1).to_pylist()[0]
    content = {name: first[name] for name in CONSTANT}
    content |= {"title": "" if study is None else study.title, "unit": None if study is None else study.unit}
    content |= {} if study is None else {"formula": study.formula, "family": study.family, "interval": study.interval}
    for name in named:
        columns = [column for column in tables[name].column_names if column not in CONSTANT]
        content[name] = [{column: row[column] for column in columns} for row in _ordered(tables[name], name, study)]
    write_json(content)


def _print(place: Target, version: Version, tables: Mapping[str, pa.Table], study: Study | None, rows: int, named: Sequence[str]) -> None:
    console = terminal.console()
    labels = Labels() if study is None else study.words
    unit = "" if study is None else _unit(study)
    first = tables["diagnostics"].slice(0, 1).to_pylist()[0]
    if study is not None and study.title:
        console.print(f"[bold]{escape(study.title)}[/bold]", soft_wrap=True)
    share = "" if study is None else f", {100 * study.interval:g} % intervals"
    console.print(f"[bold]{first['study']}[/bold] as of {first['as_of']}, run {first['run_id']}, engine {first['engine']}{share}")
    if study is not None:
        console.print(f"{study.formula}   ({study.family})", markup=False, soft_wrap=True)
    shown = labelled(tables, labels, None if study is None else study.cells)
    for name in named:
        for made in _tables(name, shown, study, labels, unit, rows):
            console.print(made)
    console.print(f"[dim]{escape(str(version.folder))}[/dim]", soft_wrap=True)


def _tables(name: str, tables: Mapping[str, pa.Table], study: Study | None, labels: Labels, unit: str, rows: int) -> list[Table | str]:
    table = tables[name]
    if name == "population_coefficients":
        columns = _with_part(table, ("pooling", "term", "estimate", "std_error", "lower", "upper"))
        return [_table("Population-level coefficients", _labelled_rows(_ordered(table, name, study), labels), columns, table)]
    if name == "variance_components":
        columns = _with_part(table, ("grouping_factor", "quantity", "term", "other_term", "estimate", "lower", "upper", "variance_share"))
        return [_table("Variance components", _labelled_rows(_ordered(table, name, study), labels), columns, table)]
    if name == "group_estimates":
        places = _order(study).factors
        factors = sorted(map(str, pc.unique(table["grouping_factor"]).to_pylist()), key=lambda factor: places.get(factor, FALLBACK))
        return [_ranked(table, factor, labels, unit, rows) for factor in factors]
    if name == "diagnostics":
        failed = table.filter(pc.invert(table["passed"]))
        if not failed.num_rows:
            return ["All checks passed."]
        return [_table("Checks that did not pass", failed.to_pylist(), ("check", "value", "threshold", "message"), failed)]
    return [_table(name.replace("_", " "), table.slice(0, 2 * rows).to_pylist(), _without_constant(table), table)]


def _unit(study: Study) -> str:
    """What estimates are in: the study's unit, or what the outcome is called."""
    return study.unit or (study.words.column(study.outcome) if study.outcome is not None else "")


def _ordered(table: pa.Table, name: str, study: Study | None) -> list[dict[str, Any]]:
    """The rows in the order in which people read a model."""
    order = _order(study)
    rows: list[dict[str, Any]] = table.to_pylist()
    keys = {"population_coefficients": order.coefficient, "variance_components": order.component}
    return sorted(rows, key=keys[name]) if name in keys else rows


def _order(study: Study | None) -> TermOrder:
    return TermOrder(None, Labels()) if study is None else TermOrder(study.parsed_formula, study.words)


def _labelled_rows(rows: Sequence[Mapping[str, Any]], labels: Labels) -> list[dict[str, Any]]:
    """Rows with terms and grouping factors under their labels."""
    found = []
    for row in rows:
        own = {name: None if row.get(name) is None else labels.term(row[name]) for name in ("term", "other_term") if name in row}
        own |= {"grouping_factor": labels.factor(row["grouping_factor"])} if row.get("grouping_factor") is not None else {}
        found.append({**row, **own})
    return found


def _with_part(table: pa.Table, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns, and in front of them the part where the model has two; versions published before had no such column."""
    has_parts = "part" in table.column_names and table.column("part").null_count < table.num_rows
    return ("part", *columns) if has_parts else columns


def _without_constant(table: pa.Table) -> tuple[str, ...]:
    return tuple(name for name in table.column_names if name not in CONSTANT)


def _ranked(table: pa.Table, factor: str, labels: Labels, unit: str, rows: int) -> Table:
    """The first and last levels of a factor by estimate."""
    seen = pc.and_(pc.equal(table["grouping_factor"], pa.scalar(factor)), pc.invert(table["is_new"]))
    own = with_headline(table.filter(seen)).sort_by([("estimate", "descending")])
    known = ("parent_level", "level", "n", "n_sampled", "observed_mean", "no_pooling_estimate", "estimate", "lower", "upper", "rank_lower")
    columns = tuple(name for name in (*known, "rank_upper") if name in own.column_names)
    title = labels.factor(factor)
    if "headline" in own.column_names and own.num_rows and own["headline"][0].as_py() == "population":
        title += ", a new member"
    title += f", {unit}" if unit else ""
    if own.num_rows <= 2 * rows:
        return _table(title, own.to_pylist(), columns, own)
    ends = pa.concat_tables([own.slice(0, rows), own.slice(own.num_rows - rows)])
    return _table(f"{title}: first and last {rows} of {own.num_rows:,}", ends.to_pylist(), columns, own)


def _table(title: str, rows: Sequence[Mapping[str, Any]], names: tuple[str, ...], table: pa.Table) -> Table:
    shown = [name for name in names if any(row[name] is not None for row in rows)]
    text = [_heading(name) for name in shown if pa.types.is_string(table.schema.field(name).type)]
    return terminal.table(
        [_heading(name) for name in shown], [[_cell(row[name]) for name in shown] for row in rows], title=title, text=text
    )


def _heading(column: str) -> str:
    return column.replace("_", " ")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
