"""``groupwise diff``: what changed between two published versions of a study, in words, or a row for every group."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from groupwise.commands import terminal
from groupwise.commands.plain_rows import check_style, write_rows
from groupwise.publishing.difference import CheckChange, Difference, difference
from groupwise.publishing.target import open_target
from groupwise.publishing.version import Version
from groupwise.report.change_words import PARTS, amount, counted, first_sentence, part_amounts, probability_words
from groupwise.report.changes import Changes, Level, Move
from groupwise.study.moved import read_threshold
from groupwise.study.study_file import load_study

STATES = {True: "passed", False: "did not pass", None: "was not made"}
ROWS = 12
"""Groups that the table names."""

COLUMNS = (
    "status",
    "grouping_factor",
    "parent_level",
    "level",
    "of",
    "before",
    "after",
    "change",
    *PARTS,
    "probability",
    "threshold",
    "is_sampled",
    "from_run",
    "to_run",
)


def show_difference(
    study_file: str, earlier: str | None, later: str | None, rows: int | None = None, style: str = "table", console: Console | None = None
) -> Difference:
    """Print what changed between two versions; raises PublishError where there are not two.

    Parameters
    ----------
    rows : groups to name; None: 12 in a table, all in the other styles. style : table, json or csv.
    """
    check_style(style)
    study = load_study(study_file)
    target = open_target(study.publish_to, study.name)
    is_table = style == "table"
    most = (rows or ROWS) if is_table else None
    found = difference(target, earlier, later, most, read_threshold(study.diff.moved), study.sampled)
    if is_table:
        _show(found, rows or ROWS, console or terminal.console())
    else:
        write_rows(_rows(found)[:rows], COLUMNS, style)
        for note in found.groups.notes:
            print(note, file=sys.stderr)
    return found


def _show(found: Difference, rows: int, console: Console) -> None:
    groups = found.groups
    console.print(first_sentence(groups), soft_wrap=True, markup=False)
    console.print(f"\nfrom {_named(found.earlier)}\n  to {_named(found.later)}\n", markup=False)
    if groups.moves:
        console.print(counted(groups), soft_wrap=True, markup=False)
    for note in groups.notes:
        console.print(note, soft_wrap=True, markup=False)
    if groups.moves:
        console.print(_groups(groups))
    if found.coefficients:
        terms = [(move.term, move.before, move.after, move.standard_errors) for move in found.coefficients]
        console.print(_moves("Population-level coefficients", "term", terms))
    for title, names in (
        ("New groups", tuple(map(str, groups.new))),
        ("Groups that are gone", tuple(map(str, groups.gone))),
        ("New terms", found.terms_new),
        ("Terms that are gone", found.terms_gone),
    ):
        if names:
            more = f" and {len(names) - rows:,} more" if len(names) > rows else ""
            console.print(f"{title} ({len(names):,}): {', '.join(names[:rows])}{more}", markup=False)
    console.print("Checks: none changed." if not found.checks else "Checks that changed:")
    for check in found.checks:
        console.print(f"  {_check(check)}", markup=False, soft_wrap=True)


def _named(version: Version) -> str:
    return f"run {version.run_id} as of {version.as_of}" + (" (latest)" if version.is_latest else "")


def _check(change: CheckChange) -> str:
    return f"{change.check}: {STATES[change.before]} before, {STATES[change.after]} now" + (f": {change.message}" if change.message else "")


def _groups(groups: Changes) -> Table:
    """Levels that moved: the change and its parts in percent of the earlier estimate, or in units where an estimate is below zero."""
    are_split = any(move.parts is not None for move in groups.moves)
    rows = [
        (
            f"{move.factor}: {move.level}",
            f"{move.before:,.4g}",
            f"{move.after:,.4g}",
            amount(move, move.change),
            *(text for text, _ in part_amounts(move) if are_split),
            probability_words(move.probability),
        )
        for move in groups.moves
    ]
    columns = ("group", "before", "after", "change", *(PARTS if are_split else ()), "probability")
    in_points = "; parts in points of the earlier estimate" if are_split and all(move.is_relative for move in groups.moves) else ""
    return terminal.table(columns, rows, title=f"Groups that moved{in_points}", text=("group",))


def _moves(title: str, subject: str, lines: list[tuple[str, float, float, float]]) -> Table:
    rows = [(label, f"{before:,.4g}", f"{after:,.4g}", f"{moved:+.2f}") for label, before, after, moved in lines]
    return terminal.table((subject, "before", "after", "standard errors"), rows, title=title, text=(subject,))


def _rows(found: Difference) -> list[dict[str, Any]]:
    """Every group of either version, with the keys ``COLUMNS``: those that moved, those that did not, those that came or went."""
    runs = {"threshold": str(found.groups.threshold), "from_run": found.earlier.run_id, "to_run": found.later.run_id}
    rows = [_compared(move) for move in found.groups.moves]
    rows += [_alone(level, "new", "after") for level in found.groups.new] + [_alone(level, "gone", "before") for level in found.groups.gone]
    return [{name: (row | runs).get(name) for name in COLUMNS} for row in rows]


def _compared(move: Move) -> dict[str, Any]:
    parts = {name: None if move.parts is None else getattr(move.parts, name) for name in PARTS}
    return {
        "status": "moved" if move.has_moved else "same",
        "grouping_factor": move.factor,
        "parent_level": move.parent,
        "level": move.level,
        "of": move.of,
        "before": move.before,
        "after": move.after,
        "change": move.change,
        "probability": move.probability,
        "is_sampled": move.is_sampled,
        **parts,
    }


def _alone(level: Level, status: str, when: str) -> dict[str, Any]:
    return {"status": status, "grouping_factor": level.factor, "parent_level": level.parent, "level": level.level, when: level.estimate}
