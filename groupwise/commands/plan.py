"""``groupwise plan``: the dry run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax

from groupwise.commands import terminal
from groupwise.commands.working_folder import working_folder
from groupwise.pipeline.line_items import read_line_items
from groupwise.pipeline.run_start import parse_settings
from groupwise.planning.dry_run import plan
from groupwise.planning.planned import PlannedGroup, PlannedTerm
from groupwise.progress import reading_progress
from groupwise.publishing.target import open_target
from groupwise.source.source_checks import unnamed
from groupwise.source.time_limit import HOUR, MORE_TIME, time_limit
from groupwise.starting.study_profile import data_lines
from groupwise.statistics.additive import keeping
from groupwise.study.study_file import load_study
from multilevel.errors import DataError

TAKES_HOURS = (
    "That is hours: leave out the grouping factor with the most levels, bin a continuous predictor, or write engine: likelihood, which "
    "takes a fraction of it."
)


def show_plan(study_file: str, *, as_of: date | None, settings: Sequence[str], with_priors: bool = False, seconds: float = HOUR) -> None:
    """Print the plan; raises GroupwiseError for what the run itself would refuse, and where the queries take longer than ``seconds``."""
    study = load_study(study_file, parse_settings(settings))
    open_target(study.publish_to, study.name).check()
    console = terminal.console()
    with (
        working_folder("plan") as folder,
        reading_progress() as tell,
        time_limit(seconds, study.name, MORE_TIME),
    ):
        items = read_line_items(study, as_of, folder, tell)
        relation, validated = items.relation, items.validated
        tell("compressing to cells")
        data = data_lines(study, relation, folder)
        made = plan(study, relation, validated.study_sql, folder=folder, with_priors=with_priors)
    console.print(f"[bold]{escape(study.title or study.name)}[/bold]  as of {relation.as_of}")
    console.print(
        f"{validated.n_rows:,} line items in the window: {validated.n_quarantined:,} quarantined, {validated.n_excluded:,} excluded, "
        f"{validated.n_left:,} used"
    )
    _section(console, "Source", relation.notes)
    _section(console, "Data", data)
    _section(console, "Statistics", keeping(study, relation))
    _section(console, "Model", made.words)
    if made.mathematics is not None:
        _section(console, "In mathematics", made.mathematics.text)
    _section(
        console, "Terms", [_term(term) for term in made.terms] + [f"{name}: left out, the others determine it" for name in made.aliased]
    )
    _section(console, "Groups", [_group(group) for group in made.groups])
    if made.sql is not None:
        console.print("\n[bold]SQL[/bold]")
        console.print(Syntax(made.sql, "sql", word_wrap=True, background_color="default"))
    if made.n_cells is not None and made.n_rows is not None:
        _section(
            console, "Size", [f"{made.n_rows:,} rows in {made.n_cells:,} cells: {made.compression_ratio:,.1f} rows a cell", *made.notes]
        )
        estimated = [f"{made.n_parameters:,} parameters and {made.n_effects:,} group-level effects, engine {made.engine}"]
        if made.cost is not None:
            estimated.append(f"The fit takes {made.cost}, on this machine.")
        if made.takes_hours:
            estimated.append(TAKES_HOURS)
        _section(console, "To estimate", estimated)
    _section(console, "Dependence", made.dependence)
    _section(console, "Priors", made.priors)
    _section(console, "Before any data", made.prior_predictive)
    _section(console, "Warnings", [*unnamed(study).values(), *(warning.message for warning in made.warnings)])
    if made.refusals:
        raise DataError("\n".join(made.refusals))


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
