"""The statistics of a run's window: read where they are kept, made where they are not, kept for the next run.

Both kinds are gathered segment by segment: what the line items are before they are checked, their cells once they are. What is missing is
asked of workers; a file whose segment a window cuts is used once and not kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.compression.column_scan import possibly_scattered, scattered_predictors
from groupwise.compression.compress import CompressedStudy, explained
from groupwise.compression.write_query import write_query
from groupwise.retention import remove, rows_of_earlier_runs
from groupwise.run_folder import RUNS, RunFolder
from groupwise.source.describe import Survey, extract
from groupwise.source.fingerprint import Fingerprint
from groupwise.source.relation import Relation, connect, open_source
from groupwise.source.time_limit import HOUR, TABLE_FIRST, close, time_limit
from groupwise.statistics.additive import why_whole
from groupwise.statistics.job import Job, Statistics, parquet_bytes
from groupwise.statistics.keep import Keep, keep_of
from groupwise.statistics.merged import merge
from groupwise.statistics.one_scan import scan_window
from groupwise.statistics.part_facts import SURVEY
from groupwise.statistics.partition_cells import job_plan, kinds
from groupwise.statistics.partition_facts import FACTS, PARTITION_NAME, QUARANTINE, WindowFacts, quarantine_table, study_schema
from groupwise.statistics.partitions import Segment, partition_by, rows_of_segments, segment_from
from groupwise.statistics.recipe import recipe
from groupwise.statistics.spans import Span, is_span, spans_of
from groupwise.statistics.sums import sum_sql
from groupwise.statistics.survey import Check, Surveyed, folder_of, survey
from groupwise.study.study import Study
from groupwise.validation.row_scan import QUARANTINE_FILE, Counts, RowScan
from groupwise.validation.suite import load_rules
from groupwise.validation.window_counts import COUNTS, count_window

logger = logging.getLogger("groupwise.run")

SEGMENTS, FOLDER = "segments", "statistics"
"""What a run notes of its segments, and where in its folder their statistics are."""

type Ask = Callable[[Job], Sequence[Statistics]]
"""Has the statistics of a job made, in one part or several; all of them, or an error."""


def counting(study: Study, folder: Path) -> Survey:
    """A ``Survey`` that reads every line item in the window, and leaves in ``folder`` what the scan counts: cells too, if it can."""

    def whole(connection: duckdb.DuckDBPyConnection, relation: Relation, names: Sequence[str], check: Check) -> Fingerprint:
        check(relation)
        found = scan_window(connection, study, relation, names, folder)
        return count_window(connection, study, relation, names, folder / COUNTS) if found is None else found

    return whole


def describe(run: RunFolder, as_of: date | None, today: date, *, writes: bool = True) -> Relation:
    """``extract``, for a study that keeps statistics: line items whose files are as they were are not read again.

    Notes the segments of the window in the run's folder; of a study whose statistics do not add, why its line items are read whole.
    ``writes`` : whether what is found is kept, and what is no longer so removed.
    """
    study = run.study()
    whole = counting(study, run.path)

    def by_partition(connection: duckdb.DuckDBPyConnection, relation: Relation, names: Sequence[str], check: Check) -> Fingerprint:
        reasons = why_whole(study, load_rules(study, relation.columns), relation.columns)
        if reasons:
            logger.warning("%s: the line items are read whole: %s.", study.name, "; ".join(reasons))
            run.write_json(SEGMENTS, {"whole": reasons})
            return whole(connection, relation, names, check)
        keep, own = keep_of(study), recipe(study, relation.columns, names)
        found = survey(connection, study, relation, names, check, keep, own, writes=writes)
        known = {*found.folders, f"{own}/{SURVEY}"}
        gone = [folder for folder in keep.folders() if folder not in known]
        changed = _changed(own, partition_by(study), gone, found)
        if writes:
            keep.remove(gone)
            for old in rows_of_earlier_runs(RUNS, study.name, run.run_id) if changed else ():
                remove(old)
        content = {"recipe": own, "names": list(names), "segments": [one.to_json() for one in found.segments], "changed": changed}
        run.write_json(SEGMENTS, {**content, "n_read": found.n_read})
        return found.fingerprint

    return extract(study, as_of, run.path, today=today, survey=whole if study.statistics is None else by_partition)


def _changed(recipe: str, partition: str, gone: Sequence[str], found: Surveyed) -> list[dict[str, object]]:
    """The partitions that are in the source otherwise than statistics of them were kept, as far as the window is of them."""
    now = {one.folder: one.fingerprint.rows for one in found.segments if one.is_whole}
    changed: list[dict[str, object]] = []
    for folder in gone:
        own, name, fingerprint = folder.split("/") if folder.count("/") == 2 else ("", "", "")
        if own == recipe and not is_span(partition, name):
            changed.append({"partition": name, "line_items_before": int(fingerprint.split("-")[0]), "line_items_now": now.get(name)})
    return changed


@dataclass(frozen=True)
class Gathered:
    """The segments of a run's window and what there is of them. ``fresh`` : names of those that this run has read."""

    run: RunFolder
    study: Study
    relation: Relation
    segments: tuple[Segment, ...]
    recipe: str
    names: tuple[str, ...]
    keep: Keep
    fresh: set[str] = field(default_factory=set)

    @property
    def job(self) -> Job:
        """All of them."""
        return Job(self.study, self.relation, self.segments, self.names)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Months and years of the window, and the segments that are in none."""
        return spans_of(partition_by(self.study), self.relation, self.segments)

    @cached_property
    def rows(self) -> dict[str, Mapping[str, Any]]:
        """The facts of every segment that has some, by its name: to be asked once they are there."""
        rows = [row for path in self.paths(FACTS) for row in _table(path).to_pylist()]
        return {row[PARTITION_NAME]: row for row in rows}

    def facts(self) -> WindowFacts:
        """Of the whole window."""
        return WindowFacts(self.job, list(self.rows.values()))

    def paths(self, what: str) -> list[Path]:
        """The files of a kind of statistics, in the run's folder, which are those of all segments that have it."""
        return [path for one in self.spans if (path := self._path(one.segment, what)).exists()]

    def quarantined(self) -> list[Segment]:
        """The segments with line items that broke a rule."""
        return [one for one in self.segments if self.count_of(one, "quarantined")]

    def quarantine_tables(self) -> list[pa.Table]:
        """The line items that broke a rule, by segment."""
        return [_table(self._path(one, QUARANTINE)) for one in self.quarantined()]

    def fetch(self, spans: Sequence[Span], whats: Sequence[str]) -> None:
        """Copy what is kept into the run's folder, of a month that is not kept its days; the kinds of a segment together, or none."""
        lacking = [one for one in spans if not self.has(one.segment, whats)]
        while lacking:
            folders = {self._kept_in(one.segment): one for one in lacking if one.segment.is_whole}
            found = self.keep.read((folder, what) for folder in folders for what in whats)
            for folder, one in folders.items():
                if all((folder, what) in found for what in whats):
                    for what in whats:
                        self._write(one.segment, what, found[folder, what])
            parts = [part for one in lacking if not self.has(one.segment, whats) for part in one.parts]
            lacking = [one for one in parts if not self.has(one.segment, whats)]

    def has(self, segment: Segment, whats: Sequence[str]) -> bool:
        """Whether these statistics of a segment are in the run's folder."""
        return all(self._path(segment, what).exists() for what in whats)

    def missing(self, spans: Sequence[Span], whats: Sequence[str]) -> Iterator[Segment]:
        """The segments whose statistics are not there, and are in no span whose statistics are."""
        for one in spans:
            if self.has(one.segment, whats):
                continue
            if one.parts:
                yield from self.missing(one.parts, whats)
            else:
                yield one.segment

    def add(self, segment: Segment, statistics: Mapping[str, bytes], last: str) -> None:
        """Statistics that were made now: into the run's folder, and kept. ``last`` : the kind that says that the others are there."""
        for what, data in sorted(statistics.items(), key=lambda item: item[0] == last):
            self._write(segment, what, data)
            if segment.is_whole:
                self.keep.write(self._kept_in(segment), what, data)

    def add_up(self, spans: Sequence[Span], whats: Sequence[str], added: Callable[[str, Sequence[Path]], bytes]) -> None:
        """Have the statistics of every month and year that are not there from those of their parts; ``added`` : a kind and its files."""
        for one in spans:
            if not one.parts or self.has(one.segment, whats):
                continue
            self.add_up(one.parts, whats, added)
            paths = {what: [path for part in one.parts if (path := self._path(part.segment, what)).exists()] for what in whats}
            if all(paths.values()):
                self.add(one.segment, {what: added(what, own) for what, own in paths.items()}, whats[-1])

    def count_of(self, segment: Segment, name: str) -> int:
        """A count of the line items of one segment, by its name among the facts."""
        return int(self.rows[segment.name][name]) if segment.name in self.rows else 0

    def _kept_in(self, segment: Segment) -> str:
        return folder_of(self.recipe, segment.name, segment.fingerprint)

    def _path(self, segment: Segment, what: str) -> Path:
        return self.run.path / FOLDER / segment.folder / f"{what}.parquet"

    def _write(self, segment: Segment, what: str, data: bytes) -> None:
        path = self._path(segment, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _table(path: Path) -> pa.Table:
    """A small file: the reader of data sets takes ten times as long to begin."""
    with pq.ParquetFile(path) as file:
        return file.read()


def gathered(run: RunFolder, *, cut: bool = True) -> Gathered | None:
    """What ``describe`` noted; None where line items are read whole. ``cut`` : with the segments that the window cuts."""
    noted = run.read_json(SEGMENTS)
    if "recipe" not in noted:
        return None
    study = run.study()
    segments = tuple(one for one in map(segment_from, noted["segments"]) if cut or one.is_whole)
    fresh = set(noted.get("fresh", ()))
    return Gathered(run, study, run.relation(), segments, noted["recipe"], tuple(noted["names"]), keep_of(study), fresh)


def gather_facts(run: RunFolder, ask: Ask, *, cut: bool = True) -> None:
    """Have what is not known of the line items of every segment counted; ``cut`` : of those that the window cuts too."""
    found = gathered(run, cut=cut)
    if found is None:
        return

    def joined(what: str, paths: Sequence[Path]) -> bytes:
        return parquet_bytes(pa.concat_tables([_table(path) for path in paths], promote_options="permissive"))

    found.fetch(found.spans, [FACTS])
    _ask(found, ask, found.job, list(found.missing(found.spans, [FACTS])), FACTS)
    found.add_up(found.spans, [FACTS], joined)
    broken = [Span(one) for one in found.quarantined()]
    found.fetch(broken, [QUARANTINE])
    _ask(found, ask, found.job, list(found.missing(broken, [QUARANTINE])), FACTS)


def gather_cells(run: RunFolder, ask: Ask, *, cut: bool = True) -> None:
    """Have the cells of every segment made that are not there, once the line items are known to be such as the study needs."""
    found = gathered(run, cut=cut)
    if found is None:
        return
    facts = found.facts()
    counts = facts.counts
    job = replace(found.job, distinct=facts.distinct(), n_ruled_out=counts.quarantined + counts.duplicates)
    job = replace(job, scattered=_scattered(job, counts.left, run.path))
    run.write_json(SEGMENTS, {**run.read_json(SEGMENTS), "scattered": job.scattered})
    whats = kinds(job, job_plan(job)[0])
    spans = [one for one in found.spans if any(found.count_of(leaf, "left") for leaf in one.leaves)]
    found.fetch(spans, whats)
    missing = [one for one in found.missing(spans, whats) if found.count_of(one, "left")]
    _ask(found, ask, job, missing, whats[-1])
    with time_limit(HOUR, found.study.name, TABLE_FIRST), _connection(found) as connection:

        def summed(what: str, paths: Sequence[Path]) -> bytes:
            path = write_query(connection, sum_sql(what, paths), run.path / FOLDER / "sum.parquet")
            data = path.read_bytes()
            path.unlink()
            return data

        found.add_up(spans, whats, summed)


@contextmanager
def _connection(found: Gathered) -> Iterator[duckdb.DuckDBPyConnection]:
    """One that reads the run's folder alone."""
    connection = open_source(None, found.study.name, found.run.path, wishes=found.study.wishes, zone=found.study.zone)
    try:
        yield connection
    finally:
        close(connection)


def _scattered(job: Job, n_rows: int, folder: Path) -> tuple[str, ...]:
    """Predictors that keep their moments although they have few values: decided once, on the whole window, as one scan of it would.

    n_rows : that are left in the window. A pair of a group and a value may be in any partition, so that no sum of kept counts says how
    many there are: where it depends on that, the window's grouping columns and these predictors are read.
    """
    formula, schema = job.study.parsed_formula, replace(study_schema(job), n_rows=n_rows)
    asked = possibly_scattered(schema)
    if not asked:
        return ()
    logger.info("%s: of all line items, the grouping columns and %s are read: how many cells they make.", job.study.name, ", ".join(asked))
    rules = load_rules(job.study, job.relation.columns)
    study_sql = RowScan(job.study, job.relation, rules, {}).study_sql(ruled_out=job.n_ruled_out)
    with time_limit(HOUR, job.study.name, TABLE_FIRST), explained(formula):
        connection = connect(job.relation, folder)
        try:
            return tuple(sorted(scattered_predictors(connection, study_sql, formula, schema)))
        finally:
            close(connection)


def _ask(found: Gathered, ask: Ask, job: Job, missing: Sequence[Segment], last: str) -> None:
    if missing:
        by_name = {one.name: one for one in missing}
        for made in ask(replace(job, segments=tuple(missing))):
            for name, statistics in made.items():
                found.fresh.add(name)
                found.add(by_name[name], statistics, last)
    noted = found.run.read_json(SEGMENTS)
    found.run.write_json(SEGMENTS, {**noted, "fresh": sorted(found.fresh)})


class GatheredCounts:
    """Counts and quarantined rows of a window, from what was gathered: what ``validate`` asks instead of a scan."""

    def __init__(self, found: Gathered) -> None:
        self._found = found

    @cached_property
    def _facts(self) -> WindowFacts:
        return self._found.facts()

    def counts(self) -> Counts:
        """As one scan counts them; DataError for what it would refuse."""
        self._facts.refuse()
        return self._facts.counts

    def means(self) -> dict[str, float]:
        """None: statistics of a study with such columns do not add."""
        return {}

    def write_quarantine(self, scan: RowScan, connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
        """Every quarantined row; of its columns those that the study and its rules name."""
        folder.mkdir(exist_ok=True)
        target = folder / QUARANTINE_FILE
        pq.write_table(quarantine_table(self._found.quarantine_tables()), target, compression="zstd")
        return target


def merge_gathered(run: RunFolder, study_sql: str) -> CompressedStudy | None:
    """The cells of the whole window; None where line items are read whole."""
    found = gathered(run)
    if found is None:
        return None
    job = replace(found.job, distinct=found.facts().distinct(), scattered=tuple(run.read_json(SEGMENTS)["scattered"]))
    with _connection(found) as connection:
        return merge(job, study_sql, found.paths, connection, run.path)


def rows_read(run: RunFolder) -> Relation:
    """The relation of the line items that this run has read, or of the last segment: what is there for a record to sample."""
    found = gathered(run)
    if found is None:
        return run.relation()
    fresh = [one for one in found.segments if one.name in found.fresh] or list(found.segments[-1:])
    return rows_of_segments(found.study, found.relation, fresh)
