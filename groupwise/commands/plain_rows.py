"""Rows that a command prints: a table for people, JSON or CSV for programs."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from groupwise.commands import terminal
from multilevel.errors import StudyError

STYLES = ("table", "json", "csv")


def check_style(style: str) -> None:
    """Raise StudyError unless ``style`` is one of ``STYLES``."""
    if style not in STYLES:
        raise StudyError(f"--format {style[:40]}: write {', '.join(STYLES[:-1])} or {STYLES[-1]}.")


def write_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], style: str, *, text: Sequence[str] = ()) -> None:
    """Print rows with the same ``columns``; ``text``: those that are aligned to the left in a table. CSV always has its header."""
    check_style(style)
    if style == "json":
        write_json([{name: row[name] for name in columns} for row in rows])
    elif style == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([plain(row[name]) for name in columns] for row in rows)
    else:
        shown = [[_shown(row[name]) for name in columns] for row in rows]
        named = [name.replace("_", " ") for name in columns]
        terminal.console().print(terminal.table(named, shown, text=[name.replace("_", " ") for name in text]))


def write_json(content: object) -> None:
    """Print JSON that every reader takes: days and times as text, and null for a number that is none."""
    print(json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False))


def plain(value: object) -> Any:
    """A value in what JSON has: numbers that are not finite become None, days and times ISO text, tuples lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
