"""Rows that a command prints: a table for people, JSON or CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from groupwise.commands import terminal
from multilevel.errors import StudyError

STYLES = ("table", "json", "csv")


def check_style(style: str) -> None:
    """Raise StudyError unless ``style`` is one of ``STYLES``."""
    if style not in STYLES:
        raise StudyError(f"--format {style[:40]}: write {', '.join(STYLES)}.")


def write_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], style: str, *, text: Sequence[str] = ()) -> None:
    """Print rows with the same ``columns``; ``text``: those that are aligned to the left in a table. CSV always has its header."""
    check_style(style)
    if style == "json":
        print(json.dumps([{name: row[name] for name in columns} for row in rows], indent=1, ensure_ascii=False))
    elif style == "csv":
        writer = csv.DictWriter(sys.stdout, list(columns), lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    else:
        shown = [[_shown(row[name]) for name in columns] for row in rows]
        named = [name.replace("_", " ") for name in columns]
        terminal.console().print(terminal.table(named, shown, text=[name.replace("_", " ") for name in text]))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
