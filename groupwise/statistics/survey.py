"""Which partitions a window is made of, and the fingerprint of each: read from the source only where its files are not as they were.

The source is looked at by its parts: every Parquet file is one where no query joins them, anything else is one as a whole. What is known of
a part as it is now is kept: which days were read, and the fingerprint of every partition in them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from groupwise.source.fingerprint import Fingerprint, fingerprint_of, fingerprint_sums
from groupwise.source.relation import Relation, literal, quote, rows_of
from groupwise.source.source_files import local_files
from groupwise.source.source_table import FILE_COLUMN
from groupwise.statistics.keep import Keep
from groupwise.statistics.part_facts import EVERYTHING, PartFacts, read_facts, write_facts
from groupwise.statistics.partitions import (
    NOTHING,
    Segment,
    bounds_of,
    partition_by,
    partition_name,
    partition_sql,
    rows_of_segments,
    whole_range,
    window_segments,
)
from groupwise.statistics.spans import span_fingerprints, together
from groupwise.study.study import Study

FOOTER = 65_536
"""Bytes at the end of a Parquet file that tell it from another of its size and time: its footer, or the last part of a long one."""

type Check = Callable[[Relation], None]
"""Refuses casts that lose something of a relation's line items."""


@dataclass(frozen=True)
class Surveyed:
    """The segments of a window that have line items, oldest first.

    n_read : line items that were read for it. folders : those of all partitions that are known to be as they are, in the place where
    statistics are kept.
    """

    segments: tuple[Segment, ...]
    n_read: int
    folders: frozenset[str]

    @property
    def fingerprint(self) -> Fingerprint:
        """Of all line items in the window."""
        return together(one.fingerprint for one in self.segments)


def survey(
    connection: duckdb.DuckDBPyConnection,
    study: Study,
    relation: Relation,
    names: Sequence[str],
    check: Check,
    keep: Keep,
    recipe: str,
    *,
    writes: bool = True,
) -> Surveyed:
    """Look at the source, read what is not known of it, and keep what was found.

    Parameters
    ----------
    names : columns that fingerprints are of. check : called with what is read. recipe : the study's. writes : whether anything is kept.
    """
    parts = _parts(study, relation)
    kept = read_facts(keep, recipe)
    before = {name: kept[name, state] for name, state in parts.items() if (name, state) in kept}
    look = (_Files if study.partition_column is None else _Periods)(connection, study, relation, names, check)
    now = look.facts(parts, before)
    segments = look.segments(now)
    facts = {(name, parts[name]): one for name, one in now.items()}
    if writes and facts != kept:
        write_facts(keep, recipe, facts)
    totals = _totals(now)
    totals |= span_fingerprints(partition_by(study), totals)
    return Surveyed(tuple(segments), look.n_read, frozenset(folder_of(recipe, *one) for one in totals.items()))


def folder_of(recipe: str, name: str, fingerprint: Fingerprint) -> str:
    """Where the statistics of a partition with this fingerprint are kept."""
    return f"{recipe}/{Segment(name, None, None, is_whole=True).folder}/{fingerprint.rows}-{fingerprint.checksum}"


class _Look:
    """The queries of one survey; how many line items they read."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, study: Study, relation: Relation, names: Sequence[str], check: Check) -> None:
        self.study = study
        self.relation = relation
        self.n_read = 0
        self._connection = connection
        self._names = names
        self._check = check

    def rows(self, relation: Relation, parts: Sequence[str], own: str) -> list[tuple[str, Fingerprint, dict[str, Any]]]:
        """Part, fingerprint and ``own`` (a select list) by part and by what in ``own`` is no aggregate.

        parts : of the source, to read no other; empty: all.
        """
        self._check(relation)
        by_file = _is_by_file(self.study)
        part = quote(FILE_COLUMN) if by_file else "''"
        chosen = f" where {part} in ({', '.join(map(literal, parts))})" if parts and by_file else ""
        sums = fingerprint_sums(self._names, relation.columns)
        query = f"select {part} as part, {sums}, {own} from ({relation.sql}){chosen} group by all"
        rows = rows_of(self._connection, query, self.study.name, "the line items cannot be read")
        found = [(str(row["part"]), fingerprint_of(row), row) for row in rows]
        self.n_read += sum(fingerprint.rows for _, fingerprint, _ in found)
        return found


class _Periods(_Look):
    """Partitions by day or month."""

    def facts(self, parts: Mapping[str, str], before: Mapping[str, PartFacts]) -> dict[str, PartFacts]:
        """What is known of every part; days that are not are read."""
        days = self._days()
        if days is None:
            return dict(before)
        lacking = {part: _lacking(before.get(part), days) for part in parts}
        # where nothing joins on to what is known, all of the days are read, and that is forgotten
        found: dict[str, dict[str, Fingerprint]] = {part: dict(before[part].prints) if lacking[part] != [days] else {} for part in parts}
        for between in dict.fromkeys(one for ranges in lacking.values() for one in ranges):
            chosen = [part for part, ranges in lacking.items() if between in ranges]
            for part, name, fingerprint in self._fingerprints(self._between(*between), chosen if len(chosen) < len(parts) else ()):
                found[part][name] = found[part].get(name, NOTHING) + fingerprint
        return {part: PartFacts(_joined(before.get(part), days, lacking[part]), found[part]) for part in parts}

    def segments(self, now: Mapping[str, PartFacts]) -> list[Segment]:
        """Those of the window; partitions that it cuts are read."""
        total = _totals(now)
        start, end = self.relation.start, self.relation.end
        if start is None or end is None:
            return [
                Segment(name, *bounds_of(self.study, name), is_whole=True, fingerprint=fingerprint)
                for name, fingerprint in sorted(total.items())
                if fingerprint.rows
            ]
        found = [
            replace(one, fingerprint=total.get(one.name, NOTHING) if one.is_whole else self._of_cut(one))
            for one in window_segments(self.study, start, end)
        ]
        return [one for one in found if one.fingerprint.rows]

    def _days(self) -> tuple[date, date] | None:
        """From the first to the last whole partition of the window; None where it cuts them all."""
        start, end = self.relation.start, self.relation.end
        if start is None or end is None:
            return EVERYTHING
        return whole_range(list(window_segments(self.study, start, end)))

    def _between(self, start: date, end: date) -> Relation:
        if (start, end) == EVERYTHING:
            return replace(self.relation, window_column=None, start=None, end=None)
        return replace(self.relation, window_column=self.study.partition_column, start=start, end=end)

    def _of_cut(self, segment: Segment) -> Fingerprint:
        part = rows_of_segments(self.study, self.relation, [segment])
        return together(fingerprint for _, _, fingerprint in self._fingerprints(part, ()))

    def _fingerprints(self, relation: Relation, parts: Sequence[str]) -> list[tuple[str, str, Fingerprint]]:
        """By part and partition."""
        found = self.rows(relation, parts, f"{partition_sql(self.study)} as partition")
        return [(part, partition_name(self.study, row["partition"]), fingerprint) for part, fingerprint, row in found]


class _Files(_Look):
    """Every file a partition."""

    def facts(self, parts: Mapping[str, str], before: Mapping[str, PartFacts]) -> dict[str, PartFacts]:
        """Every file's fingerprint, and its days where there is a window; files that are not known are read."""
        found = {name: before.get(name, PartFacts(EVERYTHING, {name: NOTHING})) for name in parts}
        lacking = [name for name in parts if name not in before]
        if not lacking:
            return found
        column = self.relation.window_column
        own = "null as first_day, null as last_day, 1 as undated"
        if column is not None:
            day = f"{quote(column)}::date"
            own = f"min({day}) as first_day, max({day}) as last_day, count(*) - count({quote(column)}) as undated"
        whole = replace(self.relation, window_column=None, start=None, end=None)
        for name, fingerprint, row in self.rows(whole, lacking if len(lacking) < len(parts) else (), own):
            dated = None if row["undated"] else (row["first_day"], row["last_day"])
            found[name] = PartFacts(EVERYTHING, {name: fingerprint}, dated)
        return found

    def segments(self, now: Mapping[str, PartFacts]) -> list[Segment]:
        """The files with line items in the window; those that it cuts are read."""
        start, end = self.relation.start, self.relation.end
        found = []
        for name, facts in sorted(now.items()):
            fingerprint, dated = facts.prints[name], facts.dated
            if start is None or end is None or (dated is not None and start <= dated[0] and dated[1] < end):
                found.append(Segment(name, None, None, is_whole=True, fingerprint=fingerprint))
            elif dated is None or (start <= dated[1] and dated[0] < end):
                cut = Segment(name, start, end, is_whole=False)
                rows = self.rows(rows_of_segments(self.study, self.relation, [cut]), (), "1 as one")
                found.append(replace(cut, fingerprint=together(own for _, own, _ in rows)))
        return [one for one in found if one.fingerprint.rows]


def _totals(now: Mapping[str, PartFacts]) -> dict[str, Fingerprint]:
    """By partition, over all parts of the source."""
    total: dict[str, Fingerprint] = {}
    for facts in now.values():
        for name, fingerprint in facts.prints.items():
            total[name] = total.get(name, NOTHING) + fingerprint
    return total


def _is_by_file(study: Study) -> bool:
    return study.source.kind == "parquet" and study.source.line_items is None


def _parts(study: Study, relation: Relation) -> dict[str, str]:
    """Part of the source -> what it is known by."""
    if not _is_by_file(study):
        return {"": relation.state}
    files = dict.fromkeys(str(file.absolute()) for pattern in relation.files for file in local_files(pattern))
    return {file: _file_state(Path(file)) for file in files}


def _file_state(file: Path) -> str:
    status = file.stat()
    with file.open("rb") as content:
        content.seek(-min(FOOTER, status.st_size), os.SEEK_END)
        footer = hashlib.sha256(content.read()).hexdigest()
    return hashlib.sha256(f"{status.st_size}\t{status.st_mtime_ns}\t{status.st_ino}\t{footer}".encode()).hexdigest()[:16]


def _lacking(facts: PartFacts | None, days: tuple[date, date]) -> list[tuple[date, date]]:
    """Which of the days are not known; all of them where those that are known do not join on to them."""
    if facts is None or facts.days[0] > days[1] or days[0] > facts.days[1] or days == EVERYTHING != facts.days:
        return [days]
    before, after = (days[0], facts.days[0]), (facts.days[1], days[1])
    return [(first, last) for first, last in (before, after) if first < last]


def _joined(facts: PartFacts | None, days: tuple[date, date], lacking: Sequence[tuple[date, date]]) -> tuple[date, date]:
    if facts is None or list(lacking) == [days]:
        return days
    return min(days[0], facts.days[0]), max(days[1], facts.days[1])
