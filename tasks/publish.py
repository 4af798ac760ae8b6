"""Publish: all tables of a run or none of them. Staged, synced, read again and checked, renamed into place, the pointer last."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from multilevel.errors import PublishError
from multilevel.tables.catalogue import CATALOGUE_VERSION, TABLES, check_table
from tasks import durable
from tasks.catalog_sql import write_catalog
from tasks.publish_layout import MANIFEST_SCHEMA, Layout, check_root

ROW_GROUP = 131_072
LOCK_SECONDS = 3_600.0


@dataclass(frozen=True)
class Publication:
    """One version in place. ``is_latest`` is False where a later as_of is published already (a backfill)."""

    folder: Path
    manifest: Path
    report: Path | None
    is_latest: bool


def publish(
    tables: Mapping[str, pa.Table],
    *,
    publish_to: str,
    study: str,
    as_of: date,
    run_id: str,
    provenance: Mapping[str, Any],
    report: Path | None = None,
    validation_page: Path | None = None,
    quarantine: Path | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Publication:
    """Put a run's tables in place as one version.

    Parameters
    ----------
    tables : exactly the six published tables, by name. publish_to : root folder.
    study, as_of, run_id : name the version.
    provenance : goes into the manifest (source fingerprint, counts, gates, engine); JSON-able.
    report, validation_page, quarantine : files to keep beside.
    waiting : told when another run of the study holds the lock.

    Raises
    ------
    PublishError
        A table breaks its contract, the disk is full or not writable, or the version exists. What was published before is untouched.
    """
    layout = Layout(check_root(publish_to), study)
    _check_contract(tables)
    target = layout.version(as_of, run_id)
    try:
        layout.home.mkdir(parents=True, exist_ok=True)
        with turn(layout, waiting):
            _remove_dead_staging(layout)
            if target.exists():
                raise PublishError(f"{study}: version {target} exists already; a run publishes once.")
            files = _stage(tables, layout.staging / run_id)
            kept_report = _keep_beside(layout, as_of, run_id, (report, validation_page), quarantine)
            manifest = _manifest(layout, as_of, run_id, files, provenance)
            target.parent.mkdir(parents=True, exist_ok=True)
            durable.rename(layout.staging / run_id, target)
            durable.write_whole(layout.manifest(as_of, run_id), json.dumps(manifest, indent=1, default=str))
            is_latest = _point(layout, as_of, run_id)
            write_catalog(layout.root)
    except OSError as error:
        raise PublishError(
            f"{study}: cannot publish to {layout.home}: {error.strerror or error}. Nothing was replaced: the last good version stands."
        ) from error
    return Publication(target, layout.manifest(as_of, run_id), kept_report, is_latest)


def _check_contract(tables: Mapping[str, pa.Table]) -> None:
    if set(tables) != set(TABLES):
        raise PublishError(f"The tables to publish are {', '.join(sorted(TABLES))}; this run has {', '.join(sorted(tables))}.")
    problems = [f"{name}: {problem}" for name, table in tables.items() for problem in check_table(name, table)]
    if problems:
        more = f" (and {len(problems) - 2} more)" if len(problems) > 2 else ""
        raise PublishError("Tables break their contract, nothing is published: " + "; ".join(problems[:2]) + more)


@contextmanager
def turn(layout: Layout, waiting: Callable[[str], None] | None) -> Iterator[None]:
    """Runs of one study take turns; the operating system frees the lock of a run that dies."""
    lock = FileLock(layout.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting is not None:
            waiting(f"{layout.study}: another run is publishing; waiting for its lock {layout.lock}")
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise PublishError(
                f"{layout.study}: another run has held {layout.lock} for {LOCK_SECONDS / 60:.0f} minutes; look for a stuck run."
            ) from error
    try:
        yield
    finally:
        lock.release()


def _remove_dead_staging(layout: Layout) -> None:
    """Whatever lies in staging while we hold the lock belongs to a run that died."""
    if layout.staging.exists():
        shutil.rmtree(layout.staging)


def _stage(tables: Mapping[str, pa.Table], folder: Path) -> list[dict[str, Any]]:
    folder.mkdir(parents=True)
    files = []
    for name, table in sorted(tables.items()):
        path = folder / f"{name}.parquet"
        keys = TABLES[name].sort_key
        pq.write_table(
            table,
            path,
            compression="zstd",
            version="2.6",
            row_group_size=ROW_GROUP,
            write_page_index=True,
            sorting_columns=pq.SortingColumn.from_ordering(table.schema, [(key, "ascending") for key in keys]),
        )
        durable.sync_file(path)
        files.append(_reread(name, path, table))
    durable.sync_folder(folder)
    return files


def _reread(name: str, path: Path, table: pa.Table) -> dict[str, Any]:
    """A file's entry in the manifest, after reading it back."""
    read = pq.read_table(path)
    if not read.equals(table):
        raise PublishError(f"{name}: the file {path} does not read back as it was written; look at the disk.")
    return {"table": name, "path": path.name, "rows": table.num_rows, "bytes": path.stat().st_size, "sha256": durable.sha256(path)}


def _keep_beside(layout: Layout, as_of: date, run_id: str, pages: tuple[Path | None, Path | None], quarantine: Path | None) -> Path | None:
    """Keep report, validation page and quarantined rows of the version; returns the report's place."""
    if quarantine is not None:
        place = layout.quarantine(as_of, run_id)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(quarantine, place / quarantine.name)
    report = layout.report(as_of, run_id)
    places = (report, report.with_suffix(".validation.html"))
    for page, kept in zip(pages, places, strict=True):
        if page is not None and page.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            building = kept.with_name(f".{kept.name}.{os.getpid()}")
            shutil.copyfile(page, building)
            durable.sync_file(building)
            durable.rename(building, kept)
    return report if pages[0] is not None else None


def _manifest(layout: Layout, as_of: date, run_id: str, files: list[dict[str, Any]], provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": MANIFEST_SCHEMA,
        "study": layout.study,
        "as_of": str(as_of),
        "run_id": run_id,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": installed_version("groupwise"),
        "tables_version": CATALOGUE_VERSION,
        "version": str(layout.version(as_of, run_id).relative_to(layout.home)),
        "files": files,
        **provenance,
    }


def _point(layout: Layout, as_of: date, run_id: str) -> bool:
    """Move link and pointer to this version unless a later as_of is there; the pointer goes last."""
    latest = layout.latest()
    if latest is not None and str(latest["as_of"]) > str(as_of):
        return False
    point_at(layout, as_of, run_id)
    return True


def point_at(layout: Layout, as_of: date | str, run_id: str) -> None:
    """Move link and pointer to a version, whatever was the latest; the caller holds the study's turn."""
    target = layout.version(as_of, run_id)
    durable.point_link(layout.current, target)
    pointer = {
        "schema": MANIFEST_SCHEMA,
        "study": layout.study,
        "as_of": str(as_of),
        "run_id": run_id,
        "version": str(target.relative_to(layout.home)),
        "manifest": str(layout.manifest(as_of, run_id).relative_to(layout.home)),
        "report": str(layout.report(as_of, run_id).relative_to(layout.home)),
    }
    durable.write_whole(layout.pointer, json.dumps(pointer, indent=1))
