"""The statistics of a run's window: read where they are kept, made where they are not, kept for the next run.

Both kinds are gathered segment by segment: what the line items are before they are checked, their cells once they are. What is missing is
asked of workers; a file whose segment a window cuts is used once and not kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
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
from groupwise.retention import remove, rows_of_earlier_runs
from groupwise.run_folder import RUNS, RunFolder
from groupwise.source.describe import extract
from groupwise.source.fingerprint import Fingerprint
from groupwise.source.relation import Relation, connect
from groupwise.source.time_limit import HOUR, TABLE_FIRST, close, time_limit
from groupwise.statistics.additive import why_whole
from groupwise.statistics.job import Job, Statistics
from groupwise.statistics.keep import Keep, keep_of
from groupwise.statistics.merged import merge
from groupwise.statistics.part_facts import SURVEY
from groupwise.statistics.partition_cells import job_plan, kinds
from groupwise.statistics.partition_facts import FACTS, QUARANTINE, WindowFacts, quarantine_table, study_schema
from groupwise.statistics.partitions import Segment, rows_of_segments, segment_from
from groupwise.statistics.recipe import recipe
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


def describe(run: RunFolder, as_of: date | None, today: date, *, writes: bool = True) -> Relation:
    """``extract``, for a study that keeps statistics: line items whose files are as they were are not read again.

    Notes the segments of the window in the run's folder; of a study whose statistics do not add, why its line items are read whole.
    ``writes`` : whether what is found is kept, and what is no longer so removed.
    """
    study = run.study()

    def whole(connection: duckdb.DuckDBPyConnection, relation: Relation, names: Sequence[str], check: Check) -> Fingerprint:
        check(relation)
        return count_window(connection, study, relation, names, run.path / COUNTS)

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
        changed = _changed(own, gone, found)
        if writes:
            keep.remove(gone)
            for old in rows_of_earlier_runs(RUNS, study.name, run.run_id) if changed else ():
                remove(old)
        content = {"recipe": own, "names": list(names), "segments": [one.to_json() for one in found.segments], "changed": changed}
        run.write_json(SEGMENTS, {**content, "n_read": found.n_read})
        return found.fingerprint

    return extract(study, as_of, run.path, today=today, survey=whole if study.statistics is None else by_partition)


def _changed(recipe: str, gone: Sequence[str], found: Surveyed) -> list[dict[str, object]]:
    """The partitions that are in the source otherwise than statistics of them were kept, as far as the window is of them."""
    now = {one.folder: one.fingerprint.rows for one in found.segments if one.is_whole}
    changed: list[dict[str, object]] = []
    for folder in gone:
        own, name, fingerprint = folder.split("/") if folder.count("/") == 2 else ("", "", "")
        if own == recipe:
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
    _read: dict[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def job(self) -> Job:
        """All of them."""
        return Job(self.study, self.relation, self.segments, self.names)

    def facts(self) -> WindowFacts:
        """Of the whole window."""
        return WindowFacts(self.job, [row for one in self.segments if (row := self._facts_of(one)) is not None])

    def tables(self, what: str) -> list[pa.Table]:
        """A kind of statistics, of every segment that has it."""
        paths = [self._path(one, what) for one in self.segments]
        return [_table(path) for path in paths if path.exists()]

    def fetch(self, segments: Sequence[Segment], whats: Sequence[str]) -> None:
        """Copy what is kept of segments into the run's folder; the kinds of a segment together, or none of them."""
        lacking = {self._kept_in(one): one for one in segments if one.is_whole and not self.has(one, whats)}
        found = self.keep.read((folder, what) for folder in lacking for what in whats)
        for folder, segment in lacking.items():
            if all((folder, what) in found for what in whats):
                for what in whats:
                    self._write(segment, what, found[folder, what])

    def has(self, segment: Segment, whats: Sequence[str]) -> bool:
        """Whether these statistics of a segment are in the run's folder."""
        return all(self._path(segment, what).exists() for what in whats)

    def add(self, segment: Segment, statistics: Mapping[str, bytes], last: str) -> None:
        """Statistics that were made now: into the run's folder, and kept. ``last`` : the kind that says that the others are there."""
        self.fresh.add(segment.name)
        for what, data in sorted(statistics.items(), key=lambda item: item[0] == last):
            self._write(segment, what, data)
            if segment.is_whole:
                self.keep.write(self._kept_in(segment), what, data)

    def count_of(self, segment: Segment, name: str) -> int:
        """A count of the line items of one segment, by its name among the facts."""
        row = self._facts_of(segment)
        return 0 if row is None else int(row[name])

    def _facts_of(self, segment: Segment) -> Mapping[str, Any] | None:
        """Its facts, read once; None where there are none yet."""
        path = self._path(segment, FACTS)
        if segment.name not in self._read and path.exists():
            self._read[segment.name] = _table(path).to_pylist()[0]
        return self._read.get(segment.name)

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

    found.fetch(found.segments, [FACTS])
    found.fetch([one for one in found.segments if found.has(one, [FACTS]) and found.count_of(one, "quarantined")], [QUARANTINE])

    def is_there(segment: Segment) -> bool:
        return found.has(segment, [FACTS]) and (not found.count_of(segment, "quarantined") or found.has(segment, [QUARANTINE]))

    _ask(found, ask, found.job, is_there, FACTS)


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
    left = tuple(one for one in found.segments if found.count_of(one, "left"))
    found.fetch(left, whats)
    _ask(found, ask, replace(job, segments=left), lambda segment: found.has(segment, whats), whats[-1])


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


def _ask(found: Gathered, ask: Ask, job: Job, is_there: Callable[[Segment], bool], last: str) -> None:
    missing = tuple(one for one in job.segments if not is_there(one))
    if missing:
        by_name = {one.name: one for one in missing}
        for made in ask(replace(job, segments=missing)):
            for name, statistics in made.items():
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

    def write_quarantine(self, scan: RowScan, connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
        """Every quarantined row; of its columns those that the study and its rules name."""
        folder.mkdir(exist_ok=True)
        target = folder / QUARANTINE_FILE
        pq.write_table(quarantine_table(self._found.tables(QUARANTINE)), target, compression="zstd")
        return target


def merge_gathered(run: RunFolder, study_sql: str) -> CompressedStudy | None:
    """The cells of the whole window; None where line items are read whole."""
    found = gathered(run)
    if found is None:
        return None
    job = replace(found.job, distinct=found.facts().distinct(), scattered=tuple(run.read_json(SEGMENTS)["scattered"]))
    return merge(job, study_sql, found.tables, run.path)


def rows_read(run: RunFolder) -> Relation:
    """The relation of the line items that this run has read, or of the last segment: what is there for a record to sample."""
    found = gathered(run)
    if found is None:
        return run.relation()
    fresh = [one for one in found.segments if one.name in found.fresh] or list(found.segments[-1:])
    return rows_of_segments(found.study, found.relation, fresh)
