"""Partitions of line items, by day, month or file, and the part of each that a window leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import Any

from groupwise.source.fingerprint import Fingerprint
from groupwise.source.relation import Relation, literal, quote
from groupwise.source.source_table import FILE_COLUMN
from groupwise.study.study import Study
from multilevel.errors import DataError

NOTHING = Fingerprint()
PARTITION_COLUMN = "groupwise: partition"
"""Column of ``rows_of_segments`` with the value of ``partition_sql``."""
NO_DATE = "no-date"
"""Names the line items that have no date, where no window leaves them out."""
FORMATS = {"day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True)
class Segment:
    """A partition, or the part of it that a window leaves: from ``start`` up to ``end``, not included; None: no such bound.

    ``name`` : day, month, file, or ``NO_DATE``. ``is_whole`` : no window cuts it. ``fingerprint`` : of its line items.
    """

    name: str
    start: date | None
    end: date | None
    is_whole: bool
    fingerprint: Fingerprint = NOTHING

    @property
    def folder(self) -> str:
        """A name for it that is a folder's: of a file, a digest of its path."""
        return self.name if "/" not in self.name else f"file-{hashlib.sha256(self.name.encode()).hexdigest()[:16]}"

    def to_json(self) -> dict[str, Any]:
        """What ``segment_from`` reads back."""
        return asdict(self)


def segment_from(content: dict[str, Any]) -> Segment:
    """The inverse of ``to_json``, its dates as ISO text."""
    days = {name: date.fromisoformat(str(content[name])) if content[name] else None for name in ("start", "end")}
    return Segment(**{**content, **days, "fingerprint": Fingerprint(**content["fingerprint"])})


def partition_by(study: Study) -> str:
    """Day, month or file; TypeError of a study that keeps no statistics."""
    if study.statistics is None:
        raise TypeError(f"{study.name} keeps no statistics")
    return study.statistics.partition


def partition_sql(study: Study, table: str = "") -> str:
    """SQL over a line item: the first day of its partition, or its file; ``partition_name`` makes a name of it."""
    of = f"{table}." if table else ""
    if study.partition_column is None:
        return f"{of}{quote(FILE_COLUMN)}"
    return f"cast(date_trunc({literal(partition_by(study))}, {of}{quote(study.partition_column)}) as date)"


def partition_name(study: Study, value: date | str | None) -> str:
    """The name of the partition with this value of ``partition_sql``."""
    if value is None:
        return NO_DATE
    return value if isinstance(value, str) else value.strftime(FORMATS[partition_by(study)])


def bounds_of(study: Study, name: str) -> tuple[date | None, date | None]:
    """First day of a partition and the day after its last; DataError for a name that is no day of the calendar."""
    if name == NO_DATE or study.partition_column is None:
        return None, None
    try:
        if len(name) == len("2024-01"):
            first = date.fromisoformat(f"{name}-01")
            return first, (first.replace(day=28) + timedelta(days=4)).replace(day=1)
        first = date.fromisoformat(name)
        return first, first + timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{study.name}: {study.partition_column} holds {name}, which is no day that a partition can be of; leave such line items "
            "out in the line_items query."
        ) from error


def window_segments(study: Study, start: date, end: date) -> Iterator[Segment]:
    """The partitions of the calendar that meet a window, oldest first."""
    day = start
    while day < end:
        name = day.strftime(FORMATS[partition_by(study)])
        first, after = bounds_of(study, name)
        if first is None or after is None:
            raise TypeError(f"{name} is no period")
        yield Segment(name, max(first, start), min(after, end), first >= start and after <= end)
        day = after


def whole_range(segments: Sequence[Segment]) -> tuple[date, date] | None:
    """From the first to the last of the whole segments; None where a window cuts them all."""
    days = [(one.start, one.end) for one in segments if one.is_whole and one.start is not None and one.end is not None]
    return (days[0][0], days[-1][1]) if days else None


def rows_of_segments(study: Study, relation: Relation, segments: Sequence[Segment]) -> Relation:
    """The relation of the line items of ``segments``, whatever its window, with ``PARTITION_COLUMN`` besides its own columns."""
    condition = " or ".join(f"({_condition(study, relation, one)})" for one in _joined(segments)) or "false"
    return replace(
        relation,
        line_items=f"select *, {partition_sql(study)} as {quote(PARTITION_COLUMN)} from (\n{relation.line_items}\n) where {condition}",
        window_column=None,
        start=None,
        end=None,
    )


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    """Segments that follow each other as one, so that a condition on three years of days is short."""
    found: list[Segment] = []
    for one in segments:
        last = found[-1] if found else None
        if last is not None and last.end is not None and last.end == one.start and "/" not in one.name:
            found[-1] = replace(last, end=one.end)
        else:
            found.append(one)
    return found


def _condition(study: Study, relation: Relation, segment: Segment) -> str:
    if study.partition_column is None:
        own = f"{quote(FILE_COLUMN)} = {literal(segment.name)}"
        return own if segment.is_whole else f"{own} and {relation.window_condition()}"
    column = quote(study.partition_column)
    if segment.start is None or segment.end is None:
        return f"{column} is null"
    return f"{column} >= date '{segment.start}' and {column} < date '{segment.end}'"
