"""The versions of a study in object storage: list them, read one, go back to one, remove old ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from multilevel.errors import PublishError
from tasks.object_storage.catalog import follow_pointer
from tasks.object_storage.pointer import ObjectLayout, move_pointer, read_manifest, require_whole, swap_pointer, version_key
from tasks.object_storage.sweep import parts
from tasks.publishing.manifest import parse_manifest
from tasks.publishing.versions import Version, check_keep, find_version, in_order


def object_versions(layout: ObjectLayout) -> list[Version]:
    """Published versions, newest as_of first, then newest published; those that a prune is removing are none."""
    latest, _ = layout.latest()
    pointed = None if latest is None else (latest["as_of"], latest["run_id"])
    removing = [] if latest is None else latest.get("removing", [])
    manifests = layout.store.read_all(layout.store.names(f"{layout.paths.manifests.as_posix()}/"))
    found = [_version(layout, name, data, pointed) for name, data in manifests.items()]
    return in_order(version for version in found if version_key(version.as_of, version.run_id) not in removing)


def object_tables(layout: ObjectLayout, version: Version) -> dict[str, pa.Table]:
    """A version's tables; PublishError where one is not there, or is not the one that was published."""
    entries = require_whole(layout, read_manifest(layout, version.as_of, version.run_id))
    folder = layout.paths.version(version.as_of, version.run_id)
    return {entry["table"]: _table(layout, (folder / entry["path"]).as_posix()) for entry in entries}


def object_rollback(layout: ObjectLayout, run_id: str) -> Version:
    """Make an earlier version the latest one; the only way by which the pointer moves to an earlier as_of."""
    wanted = find_version(object_versions(layout), layout.study, run_id)
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


def _version(layout: ObjectLayout, name: str, data: bytes, pointed: tuple[str, str] | None) -> Version:
    manifest = parse_manifest(data, layout.store.address(name))
    as_of, run_id = str(manifest["as_of"]), str(manifest["run_id"])
    folder = layout.store.address(layout.paths.version(as_of, run_id).as_posix())
    return Version(as_of, run_id, str(manifest["published_at"]), folder, (as_of, run_id) == pointed)


def _table(layout: ObjectLayout, name: str) -> pa.Table:
    found = layout.store.read(name)
    if found is None:
        raise PublishError(f"{layout.study}: {layout.store.address(name)} is not there; the version was removed meanwhile.")
    return pq.read_table(pa.BufferReader(found.data))
