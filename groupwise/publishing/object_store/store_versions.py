"""The versions of a study in object storage: list them, read one, go back to one, remove old ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.publishing.manifest import BrokenManifestError, Entry, entries, entries_of, entry_of, parse_manifest
from groupwise.publishing.object_store.store_catalog import follow_pointer
from groupwise.publishing.object_store.store_clean_up import parts
from groupwise.publishing.object_store.store_pointer import (
    ObjectLayout,
    move_pointer,
    read_manifest,
    require_whole,
    swap_pointer,
    version_key,
)
from groupwise.publishing.verify import RESTORE, damaged
from groupwise.publishing.version import Version, check_keep, find_version, in_order, left_out, version_of
from multilevel.errors import PublishError

# manifests/DAY/RUN.json
MANIFEST = re.compile(r"[^/]+/manifests/(?P<as_of>[^/]+)/(?P<run_id>[^/]+)[.]json")


def object_versions(layout: ObjectLayout) -> list[Version]:
    """Published versions, newest as_of first, then the run that started last; those that a prune is removing are none.

    What lies among the manifests and is none is named in the log, and left out.
    """
    latest, _ = layout.latest()
    pointed = None if latest is None else (latest["as_of"], latest["run_id"])
    removing = [] if latest is None else latest.get("removing", [])
    manifests = layout.store.read_all(layout.store.names(f"{layout.paths.manifests.as_posix()}/"))
    found = [_version(layout, name, data, pointed) for name, data in manifests.items()]
    return in_order(version for version in found if version is not None and version_key(version.as_of, version.run_id) not in removing)


def object_tables(layout: ObjectLayout, version: Version) -> dict[str, pa.Table]:
    """A version's tables; PublishError where one is not there, or is not the one that was published."""
    manifest = read_manifest(layout, version.as_of, version.run_id)
    require_whole(layout, manifest)
    tables = {entry.path.rpartition("/")[2].removesuffix(".parquet"): entry for entry in entries(manifest) if _is_table(manifest, entry)}
    return {name: _table(layout, entry) for name, entry in tables.items()}


def object_attachment(layout: ObjectLayout, version: Version, name: str) -> bytes | None:
    """A file beside a version's tables; None where it has none, PublishError where it is damaged."""
    entry = entry_of(read_manifest(layout, version.as_of, version.run_id), name)
    return None if entry is None else _checked(layout, entry)


def object_folder(layout: ObjectLayout, version: Version, name: str) -> dict[str, bytes]:
    """The files of a folder beside a version's tables by name; none where it has none, PublishError where one is damaged."""
    found = entries_of(read_manifest(layout, version.as_of, version.run_id), name)
    return {entry.path.rsplit("/", 1)[-1]: _checked(layout, entry) for entry in found}


def object_average_cells(layout: ObjectLayout, version: Version) -> pa.Table | None:
    """The cells of a version's averages; None where none were kept, PublishError where they are damaged."""
    entry = entry_of(read_manifest(layout, version.as_of, version.run_id), "average_cells")
    return None if entry is None else _table(layout, entry)


def require_undamaged(layout: ObjectLayout, manifest: Mapping[str, Any]) -> None:
    """Hold every file of a version against its manifest; PublishError names the first that is gone or damaged."""
    require_whole(layout, manifest)
    for entry in entries(manifest):
        if layout.store.sha256(_name(layout, entry)) != entry.sha256:
            raise PublishError(damaged(layout.study, layout.store.address(_name(layout, entry))))


def object_rollback(layout: ObjectLayout, run_id: str) -> Version:
    """Make an earlier version the latest one; the only way by which the pointer moves to an earlier as_of."""
    wanted = find_version(object_versions(layout), layout.study, run_id)
    require_undamaged(layout, read_manifest(layout, wanted.as_of, run_id))
    move_pointer(layout, wanted.as_of, run_id, may_go_back=True)
    follow_pointer(layout)
    return wanted


def object_prune(layout: ObjectLayout, keep: int) -> list[Version]:
    """Remove all but the ``keep`` newest versions, and never the latest one; returns what was removed.

    The pointer first names what will be removed, so that no rollback can make one of these the latest meanwhile; a prune that dies is
    finished by the next.
    """
    check_keep(layout.study, keep)
    doomed: list[Version] = []

    def marked(latest: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if latest is None:
            raise PublishError(f"{layout.study}: nothing is published in {layout.store.root} yet; run groupwise estimate first.")
        old = {version_key(version.as_of, version.run_id): version for version in object_versions(layout)[keep:]}
        old.pop(version_key(latest["as_of"], latest["run_id"]), None)
        doomed[:] = old.values()
        removing = sorted({*old, *latest.get("removing", [])})
        return {**latest, "removing": removing} if removing else None

    def cleared(latest: Mapping[str, Any] | None) -> dict[str, Any] | None:
        return None if latest is None else {**latest, "removing": sorted(set(latest.get("removing", [])) - removed)}

    if not swap_pointer(layout, marked):
        return []
    latest, _ = layout.latest()
    removed = set() if latest is None else set(latest.get("removing", []))
    for key in sorted(removed):
        # the manifest goes first: from there on the version does not count
        for name in parts(layout, *key.split("/")):
            layout.store.remove(name)
    swap_pointer(layout, cleared)
    return doomed


def _version(layout: ObjectLayout, name: str, data: bytes, pointed: tuple[str, str] | None) -> Version | None:
    found = MANIFEST.fullmatch(name)
    try:
        if found is None:
            raise BrokenManifestError(f"{layout.store.address(name)} is no manifest (manifests/<as_of>/<run>.json); remove it.")
        manifest = parse_manifest(data, layout.store.address(name), layout.paths, found["as_of"], found["run_id"])
    except BrokenManifestError as error:
        left_out(layout.study, error)
        return None
    return version_of(manifest, layout.store.address(f"{layout.study}/{manifest['version']}"), pointed)


def _is_table(manifest: Mapping[str, Any], entry: Entry) -> bool:
    return entry.path.startswith(f"{manifest['version']}/")


def _name(layout: ObjectLayout, entry: Entry) -> str:
    return (layout.paths.home / entry.path).as_posix()


def _checked(layout: ObjectLayout, entry: Entry) -> bytes:
    name = _name(layout, entry)
    found = layout.store.read(name)
    if found is None:
        raise PublishError(f"{layout.study}: {layout.store.address(name)} is not there; the version was removed meanwhile. {RESTORE}")
    if hashlib.sha256(found.data).hexdigest() != entry.sha256:
        raise PublishError(damaged(layout.study, layout.store.address(name)))
    return found.data


def _table(layout: ObjectLayout, entry: Entry) -> pa.Table:
    return pq.read_table(pa.BufferReader(_checked(layout, entry)))
