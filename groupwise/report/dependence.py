"""What a failed check of dependence means for intervals: line items of one customer are alike, and the model does not know it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from groupwise.report.label_words import listed, plural
from groupwise.report.subject import Subject

_CHECK = re.compile(r"(?:sampled|design_effect)\[(?:(?P<factor>.*), )?(?P<unit>[^,\]]+)\](?:\[\w+\])?")
_TIMES = re.compile(r"are about (\d+(?:\.\d+)?) times too narrow")
ENOUGH = "about wide enough all the same"
"""In a message of ``multilevel.checking.design_effects``: lines are alike, but this factor's intervals hardly suffer from it."""


@dataclass(frozen=True)
class LeftOut:
    """A sampled column that the formula leaves out. factor : the one that was checked; None: no factor could be.

    times : how many times too narrow that factor's intervals are, as the check says it; empty where it does not know.
    """

    unit: str
    factor: str | None
    times: str


def is_of_dependence(row: Mapping[str, object]) -> bool:
    """Whether a row of diagnostics is one of these checks."""
    return _CHECK.fullmatch(str(row["check"])) is not None


def consequence(row: Mapping[str, object]) -> str:
    """What a check of dependence says before its details, in which levels are named."""
    return str(row.get("message") or "").partition(". In detail")[0]


def left_out(subject: Subject) -> list[LeftOut]:
    """What failed checks say of every factor whose intervals suffer."""
    table = subject.tables.get("diagnostics")
    rows = [] if table is None else [row for row in table.select(["check", "passed", "message"]).to_pylist() if not row["passed"]]
    found: list[LeftOut] = []
    for row in rows:
        match, said = _CHECK.fullmatch(row["check"]), consequence(row)
        if match and ENOUGH not in said:
            times = _TIMES.search(said)
            found.append(LeftOut(match["unit"], match["factor"], times[1] if times else ""))
    return found


def dependence_line(subject: Subject) -> str:
    """For the top of the page, of all factors together: whose intervals are how much too narrow, and why; empty where no check failed."""
    found = left_out(subject)
    if not found:
        return ""
    known = {subject.levels_words(each.factor): each.times for each in found if each.factor is not None and each.times}
    ordered = sorted(known.items(), key=lambda item: -float(item[1]))
    narrow = ", ".join(f"of {words} about {times} times" for words, times in ordered)
    much = f"Intervals are too narrow ({narrow})" if narrow else "Intervals can be several times too narrow"
    return f"{much}, and ranks look more settled than they are: {_why(subject, [each.unit for each in found])}."


def dependence_sentence(subject: Subject, factor: str) -> str:
    """For the answer: that a factor's intervals are not to be trusted, and why; empty where no such check failed of it."""
    found = _of(subject, factor)
    if not found:
        return ""
    return (
        f"These intervals take every line item as a new piece of evidence, but {_why(subject, [each.unit for each in found])}: they are "
        f"{_much(found)} too narrow, and ranks less settled than they look."
    )


def with_dependence(subject: Subject, words: str, factor: str | None = None) -> str:
    """What intervals speak of, and behind it what a failed check means for them; ``factor`` None: for those of no single factor."""
    found = left_out(subject) if factor is None else _of(subject, factor)
    if not found:
        return words
    much = "may be too narrow" if factor is None else f"are {_much(found)} too narrow"
    return f"{words} They {much}: {_why(subject, [each.unit for each in found])}."


def _of(subject: Subject, factor: str) -> list[LeftOut]:
    return [each for each in left_out(subject) if each.factor in {None, factor}]


def _much(found: Sequence[LeftOut]) -> str:
    known = [each.times for each in found if each.times]
    return f"about {max(known, key=float)} times" if known else "perhaps several times"


def _why(subject: Subject, units: Sequence[str]) -> str:
    words = [subject.column(unit) for unit in dict.fromkeys(units)]
    alike = " or ".join(f"one {unit}" for unit in words)
    return f"line items of {alike} are alike, and the formula leaves {listed([plural(unit) for unit in words])} out"
