"""Published files held against their manifest whenever they are read: one read of each at the disk's pace, before its content counts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.publishing.folder.own_files import digest_of, open_file, read_file
from groupwise.publishing.layout import Layout
from groupwise.publishing.manifest import Entry, entries, entries_of, entry_of, parse_manifest
from multilevel.catalogue.published_tables import TABLES
from multilevel.errors import PublishError

RESTORE = (
    "Restore it from a backup, publish the day again (groupwise estimate STUDY --as-of DAY), or go to another version (groupwise rollback)."
)


def read_manifest(layout: Layout, as_of: str, run_id: str) -> dict[str, Any]:
    """A version's manifest; PublishError where there is none, or it is damaged."""
    path = layout.manifest(as_of, run_id)
    try:
        text = read_file(path)
    except FileNotFoundError as error:
        raise PublishError(
            f"{layout.study}: version {run_id} has no manifest {path}: it was removed by hand, and its tables cannot be checked. {RESTORE}"
        ) from error
    return parse_manifest(text, path, layout, as_of, run_id)


def latest_manifest(layout: Layout, latest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest that the pointer names; PublishError where it is not the one that was there when the pointer was moved."""
    path = layout.manifest(latest["as_of"], latest["run_id"])
    manifest = read_manifest(layout, str(latest["as_of"]), str(latest["run_id"]))
    wanted = latest.get("manifest_sha256")
    if wanted is not None:
        with open_file(path) as file:
            if digest_of(file) != wanted:
                raise PublishError(f"{layout.study}: {path} is not the manifest that {layout.pointer} names. {RESTORE}")
    return manifest


def read_tables(layout: Layout, manifest: Mapping[str, Any]) -> dict[str, pa.Table]:
    """A version's tables; PublishError names one that is not there, or is not the one that was published."""
    listed = {entry["table"]: entry for entry in manifest["files"]}
    missing = [name for name in TABLES if name not in listed]
    if missing:
        raise PublishError(f"{layout.study}: version {layout.home / manifest['version']} has no {', '.join(missing)} in its manifest.")
    return {Path(entry.path).stem: _table(layout, entry) for entry in entries(manifest) if entry.path.startswith(f"{manifest['version']}/")}


def checked_file(layout: Layout, manifest: Mapping[str, Any], name: str) -> Path | None:
    """A file beside the tables, held against the manifest; None where the version has none."""
    entry = entry_of(manifest, name)
    if entry is None:
        return None
    with checked(layout, entry):
        return layout.home / entry.path


def checked_folder(layout: Layout, manifest: Mapping[str, Any], name: str) -> Path | None:
    """A folder beside the tables, every file of it held against the manifest; None where the version has none."""
    found = entries_of(manifest, name)
    for entry in found:
        with checked(layout, entry):
            pass
    return (layout.home / found[0].path).parent if found else None


def read_average_cells(layout: Layout, manifest: Mapping[str, Any]) -> pa.Table | None:
    """The cells of a version's averages, held against the manifest; None where the version has none."""
    entry = entry_of(manifest, "average_cells")
    return None if entry is None else _table(layout, entry)


def check_version(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Hold every file of a version against its manifest; PublishError names the first that is damaged."""
    for entry in entries(manifest):
        with checked(layout, entry):
            pass


@contextmanager
def checked(layout: Layout, entry: Entry) -> Iterator[IO[bytes]]:
    """A file, open at its beginning, after its size and sha256 were found to be those of the manifest."""
    path = layout.home / entry.path
    try:
        file = open_file(path)
    except FileNotFoundError as error:
        raise PublishError(f"{layout.study}: {path} is not there; it was removed by hand, or its disk is damaged. {RESTORE}") from error
    with file:
        try:
            is_whole = os.fstat(file.fileno()).st_size == entry.bytes and digest_of(file) == entry.sha256
        except OSError as error:
            raise PublishError(f"{layout.study}: {path} cannot be read: {error.strerror or error}. {RESTORE}") from error
        if not is_whole:
            raise PublishError(damaged(layout.study, path))
        yield file


def damaged(study: str, path: object) -> str:
    """What to say of a file whose content is not what was published."""
    return f"{study}: {path} is damaged: its sha256 is not that of its manifest, so that its content is not what was published. {RESTORE}"


def _table(layout: Layout, entry: Entry) -> pa.Table:
    with checked(layout, entry) as file:
        try:
            return pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise PublishError(f"{layout.study}: {layout.home / entry.path} cannot be read as Parquet: {error}") from error
