"""Months and years of a window: kept of all their partitions together, so that three years of days are read as some dozens of files."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from itertools import groupby
from operator import add

from groupwise.source.fingerprint import Fingerprint
from groupwise.source.relation import Relation
from groupwise.statistics.partitions import NO_DATE, NOTHING, Segment

PARTS_OF = {"day": (2, 1), "month": (1,), "file": ()}
"""Partition -> how many parts of a date name the spans that it is in, the shortest span first."""
FEWEST = 2
"""Partitions that make a span worth keeping."""


@dataclass(frozen=True)
class Span:
    """A partition, or a month or year whose ``parts`` are spans. The fingerprint of a month is the sum of those of its days."""

    segment: Segment
    parts: tuple[Span, ...] = ()

    @property
    def leaves(self) -> Iterator[Segment]:
        """Its partitions."""
        if not self.parts:
            yield self.segment
        for part in self.parts:
            yield from part.leaves


def spans_of(partition: str, relation: Relation, segments: Sequence[Segment]) -> tuple[Span, ...]:
    """The longest spans that a window consists of, and the partitions that are in none.

    partition : day, month or file. segments : of the window, oldest first.
    """
    found = tuple(Span(one) for one in segments)
    for n_parts in PARTS_OF[partition]:
        found = tuple(_joined(found, n_parts, relation))
    return found


def span_fingerprints(partition: str, fingerprints: Mapping[str, Fingerprint]) -> dict[str, Fingerprint]:
    """Of every month and year, by name, from those of partitions by name."""
    found: dict[str, Fingerprint] = {}
    for n_parts in PARTS_OF[partition]:
        for name, fingerprint in fingerprints.items():
            if name != NO_DATE:
                span = _span_name(name, n_parts)
                found[span] = found.get(span, NOTHING) + fingerprint
    return found


def is_span(partition: str, name: str) -> bool:
    """Whether the name is that of a month or year that consists of partitions."""
    return name.count("-") + 1 in PARTS_OF[partition] and name != NO_DATE


def together(fingerprints: Iterable[Fingerprint]) -> Fingerprint:
    """Of all line items together."""
    return reduce(add, fingerprints, NOTHING)


def _joined(parts: Sequence[Span], n_parts: int, relation: Relation) -> Iterator[Span]:
    for name, group in groupby(parts, lambda one: _span_name(one.segment.name, n_parts)):
        own = tuple(group)
        if len(own) >= FEWEST and all(one.segment.is_whole for one in own) and _is_covered(name, relation):
            yield Span(Segment(name, None, None, is_whole=True, fingerprint=together(one.segment.fingerprint for one in own)), own)
        else:
            yield from own


def _span_name(name: str, n_parts: int) -> str:
    return "-".join(name.split("-")[:n_parts])


def _is_covered(name: str, relation: Relation) -> bool:
    """Whether the window has every day of a month or year."""
    if relation.start is None or relation.end is None:
        return True
    year, *months = map(int, name.split("-"))
    first, last = (months[0], months[0]) if months else (1, 12)
    return relation.start <= date(year, first, 1) and date(year, last, monthrange(year, last)[1]) < relation.end
