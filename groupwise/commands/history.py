"""``groupwise diff``, ``rollback`` and ``prune``: the published versions of a study."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from groupwise.commands import terminal
from groupwise.publishing.difference import CheckChange, Difference, difference
from groupwise.publishing.target import Target, open_target
from groupwise.publishing.version import Version
from groupwise.study.study_file import load_study

MOVED = 2.0
STATES = {True: "passed", False: "did not pass", None: "was not made"}


def target_of(study_file: str) -> Target:
    """Where the study publishes."""
    study = load_study(study_file)
    return open_target(study.publish_to, study.name)


def show_difference(study_file: str, earlier: str | None, later: str | None, rows: int, console: Console | None = None) -> Difference:
    """Print what changed between two versions; raises PublishError where there are not two."""
    console = console or terminal.console()
    found = difference(target_of(study_file), earlier, later, rows)
    console.print(f"from {_named(found.earlier)}\n  to {_named(found.later)}\n", markup=False)
    groups = found.groups
    console.print(f"{groups.n_compared:,} groups in both; {groups.n_moved:,} moved by more than {MOVED:g} standard errors")
    for note in groups.notes:
        console.print(note, soft_wrap=True, markup=False)
    if groups.moves:
        lines = [(f"{move.factor}: {move.level}", move.before, move.after, move.standard_errors) for move in groups.moves]
        console.print(_moves("Groups that moved most", "group", lines))
    if found.coefficients:
        terms = [(move.term, move.before, move.after, move.standard_errors) for move in found.coefficients]
        console.print(_moves("Population-level coefficients", "term", terms))
    for title, names in (
        ("New groups", groups.new),
        ("Groups that are gone", groups.gone),
        ("New terms", found.terms_new),
        ("Terms that are gone", found.terms_gone),
    ):
        if names:
            more = f" and {len(names) - rows:,} more" if len(names) > rows else ""
            console.print(f"{title} ({len(names):,}): {', '.join(names[:rows])}{more}", markup=False)
    console.print("Checks: none changed." if not found.checks else "Checks that changed:")
    for check in found.checks:
        console.print(f"  {_check(check)}", markup=False)
    return found


def roll_back(study_file: str, run_id: str) -> str:
    """Point at the version of ``run_id``; returns a sentence."""
    target = target_of(study_file)
    version = target.rollback(run_id, print)
    return f"{target.study}: the latest version is now that of run {run_id} as of {version.as_of}; a later run publishes over it."


def prune_versions(study_file: str, keep: int) -> str:
    """Remove old versions; returns a sentence."""
    target = target_of(study_file)
    done = target.prune(keep, print)
    removed = ", ".join(version.run_id for version in done[:5]) + (", ..." if len(done) > 5 else "")
    return f"{target.study}: {len(target.versions()):,} versions kept, {len(done):,} removed" + (f" ({removed})." if removed else ".")


def _named(version: Version) -> str:
    return f"run {version.run_id} as of {version.as_of}" + (" (latest)" if version.is_latest else "")


def _check(change: CheckChange) -> str:
    return f"{change.check}: {STATES[change.before]} before, {STATES[change.after]} now" + (f": {change.message}" if change.message else "")


def _moves(title: str, subject: str, lines: list[tuple[str, float, float, float]]) -> Table:
    rows = [(label, f"{before:,.4g}", f"{after:,.4g}", f"{moved:+.2f}") for label, before, after, moved in lines]
    return terminal.table((subject, "before", "after", "standard errors"), rows, title=title, text=(subject,))
