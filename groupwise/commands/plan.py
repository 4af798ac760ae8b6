"""``groupwise plan``: the dry run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax

from groupwise.commands import terminal
from groupwise.commands.plain_rows import check_style, write_json, write_rows
from groupwise.commands.working_folder import working_folder
from groupwise.pipeline.line_items import LineItems, read_line_items
from groupwise.pipeline.run_start import parse_settings
from groupwise.planning.dry_run import plan
from groupwise.planning.planned import Plan, PlannedGroup, PlannedTerm
from groupwise.progress import reading_progress
from groupwise.publishing.target import open_target
from groupwise.source.source_checks import unnamed
from groupwise.source.time_limit import HOUR, MORE_TIME, time_limit
from groupwise.starting.study_profile import data_lines
from groupwise.statistics.additive import keeping
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from groupwise.validation.validate import Validated
from multilevel.errors import DataError

SQL = "SQL"
TAKES_HOURS = (
    "That is hours: leave out the grouping factor with the most levels, bin a continuous predictor, or write engine: likelihood, which "
    "takes a fraction of it."
)


type Sections = dict[str, Sequence[str]]


def show_plan(
    study_file: str,
    *,
    as_of: date | None,
    settings: Sequence[str],
    with_priors: bool = False,
    style: str = "table",
    seconds: float = HOUR,
) -> None:
    """Print the plan; raises GroupwiseError for what the run itself would refuse, and where the queries take longer than ``seconds``."""
    check_style(style)
    study = load_study(study_file, parse_settings(settings))
    open_target(study.publish_to, study.name).check()
    with (
        working_folder("plan") as folder,
        reading_progress() as tell,
        time_limit(seconds, study.name, MORE_TIME),
    ):
        items = read_line_items(study, as_of, folder, tell)
        tell("compressing to cells")
        data = data_lines(study, items.relation, folder)
        made = plan(study, items.relation, items.validated.study_sql, folder=folder, with_priors=with_priors)
    sections = _sections(study, items, data, made)
    if style == "table":
        _print(study, items, sections, made)
    elif style == "csv":
        rows = [{"section": title, "line": line} for title, lines in sections.items() for line in lines]
        write_rows(rows, ("section", "line"), style)
    else:
        write_json(_content(study, items, sections, made))
    if made.refusals:
        raise DataError("\n".join(made.refusals))


def _sections(study: Study, items: LineItems, data: Sequence[str], made: Plan) -> Sections:
    """Title -> its lines, in the order in which they are read; the SQL by itself."""
    size, estimated = [], []
    if made.n_cells is not None and made.n_rows is not None:
        size = [f"{made.n_rows:,} rows in {made.n_cells:,} cells: {made.compression_ratio:,.1f} rows a cell", *made.notes]
        estimated = [f"{made.n_parameters:,} parameters and {made.n_effects:,} group-level effects, engine {made.engine}"]
        estimated += [f"The fit takes {made.cost}, on this machine."] if made.cost is not None else []
        estimated += [TAKES_HOURS] if made.takes_hours else []
    terms = [_term(term) for term in made.terms] + [f"{name}: left out, the others determine it" for name in made.aliased]
    return {
        "Line items": [_counted(items.validated)],
        "Source": items.relation.notes,
        "Data": data,
        "Statistics": keeping(study, items.relation),
        "Model": made.words,
        "In mathematics": () if made.mathematics is None else made.mathematics.text,
        "Terms": terms,
        "Groups": [_group(group) for group in made.groups],
        SQL: () if made.sql is None else (made.sql,),
        "Size": size,
        "To estimate": estimated,
        "Dependence": made.dependence,
        "Priors": made.priors,
        "Before any data": made.prior_predictive,
        "Warnings": [*unnamed(study).values(), *(warning.message for warning in made.warnings)],
    }


def _counted(found: Validated) -> str:
    dropped = f"{found.n_duplicates:,} duplicates dropped, " if found.n_duplicates else ""
    return (
        f"{found.n_rows:,} line items in the window: {found.n_quarantined:,} quarantined, {dropped}"
        f"{found.n_excluded - found.n_duplicates:,} excluded, {found.n_left:,} used"
    )


def _content(study: Study, items: LineItems, sections: Sections, made: Plan) -> dict[str, Any]:
    """What a program asks of a plan: numbers by name, sentences by section."""
    counts = {name: getattr(items.validated, name) for name in ("n_rows", "n_quarantined", "n_duplicates", "n_excluded", "n_left")}
    sizes = {name: getattr(made, name) for name in ("n_cells", "compression_ratio", "n_parameters", "n_effects", "cost", "sql")}
    return {
        "study": study.name,
        "as_of": items.relation.as_of,
        "formula": made.formula,
        "family": made.family,
        "engine": made.engine,
        "line_items": counts,
        **sizes,
        "terms": [asdict(term) for term in made.terms],
        "groups": [asdict(group) for group in made.groups],
        "warnings": list(sections["Warnings"]),
        "refusals": list(made.refusals),
        "sections": {title: list(lines) for title, lines in sections.items() if lines and title not in (SQL, "Warnings")},
    }


def _print(study: Study, items: LineItems, sections: Sections, made: Plan) -> None:
    console = terminal.console()
    console.print(f"[bold]{escape(study.title or study.name)}[/bold]  as of {items.relation.as_of}")
    for title, lines in sections.items():
        if title == "Line items":
            console.print(lines[0], markup=False)
        elif title == SQL and lines:
            console.print(f"\n[bold]{SQL}[/bold]")
            console.print(Syntax(lines[0], "sql", word_wrap=True, background_color="default"))
        else:
            _section(console, title, lines)


def _section(console: Console, title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print(f"\n[bold]{title}[/bold]")
    for line in lines:
        console.print(f"  {line}", markup=False)


def _term(term: PlannedTerm) -> str:
    return f"{term.label}: {term.kind}" + (f", constant within {term.constant_within}" if term.constant_within else "")


def _group(group: PlannedGroup) -> str:
    nested = f", nested in {group.parent}" if group.parent else ""
    return f"{group.factor}: {group.n_levels:,} levels{nested}; varying {', '.join(group.terms)}"
