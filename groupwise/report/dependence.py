"""What a failed check of dependence means for intervals: line items of one customer are alike, and the model does not know it."""

from __future__ import annotations

import re

from groupwise.report.label_words import column_words, plural
from groupwise.report.subject import Subject

_CHECK = re.compile(r"(?:sampled|design_effect)\[(?:(?P<factor>.*), )?(?P<unit>[^,]+)\]")


def units_left_out(subject: Subject, factor: str | None = None) -> list[str]:
    """Sampled columns whose check of dependence failed, of every factor or of one."""
    table = subject.tables.get("diagnostics")
    found = []
    for row in [] if table is None else table.select(["check", "passed"]).to_pylist():
        match = None if row["passed"] else _CHECK.fullmatch(row["check"])
        if match and (factor is None or match["factor"] in {None, factor}):
            found.append(match["unit"])
    return list(dict.fromkeys(found))


def dependence_sentence(subject: Subject, factor: str | None = None) -> str:
    """That the intervals are not to be trusted, and why; empty where no such check failed."""
    units = [column_words(unit) for unit in units_left_out(subject, factor)]
    if not units:
        return ""
    alike = " or ".join(f"one {unit}" for unit in units)
    return (
        f"These intervals take every line item as a new piece of evidence. Line items of {alike} may be alike, and the formula leaves "
        f"{' and '.join(plural(unit) for unit in units)} out: the intervals can be several times too narrow, and ranks less settled than "
        "they look."
    )


def with_dependence(subject: Subject, words: str, factor: str | None = None) -> str:
    """What intervals speak of, and behind it what a failed check means for them."""
    units = [column_words(unit) for unit in units_left_out(subject, factor)]
    alike = " or ".join(f"one {unit}" for unit in units)
    failed = f"They do not know that line items of {alike} may be alike (a check failed), and can be several times too narrow."
    return f"{words} {failed}" if units else words
