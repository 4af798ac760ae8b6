"""``groupwise init``: a first study for a table."""

from __future__ import annotations

from pathlib import Path

from groupwise.commands import terminal
from groupwise.commands.working_folder import working_folder
from groupwise.progress import reading_progress
from groupwise.source.time_limit import HOUR, MORE_TIME, time_limit
from groupwise.starting.start import start, write_started


def init_study(
    data: str, *, name: str | None, table: str | None, line_items: Path | None, output: Path, force: bool, seconds: float = HOUR
) -> None:
    """Write a study, starter rules and a query where one is needed; print the profile, the proposal and what to type next."""
    console = terminal.console()
    with working_folder("init") as folder, reading_progress() as tell, time_limit(seconds, data, MORE_TIME):
        query = None if line_items is None else str(line_items)
        made = start(data, name=name, output=output, folder=folder, tell=tell, table=table, line_items=query)
    write_started(made, force=force)
    console.print("[bold]Data[/bold]")
    for line in (*made.profile.lines(), *made.notes):
        console.print(f"  {line}", markup=False)
    console.print("\n[bold]Proposed[/bold]")
    console.print(f"  {made.proposal.formula}   ({made.proposal.family})", markup=False)
    for field, why in made.proposal.reasons:
        console.print(f"  {field}: {why}", markup=False)
    console.print("\n[bold]Written[/bold]")
    for path in made.files:
        console.print(f"  {path}", markup=False)
    console.print(
        f"\nNext: groupwise estimate {output}, then groupwise show {output}; groupwise plan {output} says first what a run would do",
        markup=False,
    )
