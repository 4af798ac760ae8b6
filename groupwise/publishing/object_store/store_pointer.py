"""The pointer of a study in object storage: the one object that is ever replaced under a condition, and so the one place where runs meet.

A move reads the pointer, looks whether the version is whole, and replaces the pointer only if it is still the one that was read. Whatever
moved it in between (another run, a rollback, a prune that names what it is about to remove) makes the replacement fail, and the move begins
again. ``generation`` counts the moves, so that no two pointers of a study have the same content.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from groupwise.publishing.layout import Layout
from groupwise.publishing.manifest import parse_manifest
from groupwise.publishing.object_store.content import Tag
from groupwise.publishing.object_store.store import ObjectStore
from groupwise.publishing.pointer import MANIFEST_SCHEMA, as_text, moment_of, outranked, read_pointer
from groupwise.publishing.sealed import sealed
from groupwise.publishing.verify import RESTORE
from multilevel.errors import PublishError

TRIES = 12
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0


@dataclass(frozen=True)
class ObjectLayout:
    """A study's names in a store: those of the local layout, relative to ``publish_to``."""

    store: ObjectStore
    study: str

    @property
    def paths(self) -> Layout:
        """Where everything would be in a folder; only for its names."""
        return Layout(Path(), self.study)

    def latest(self) -> tuple[dict[str, Any] | None, Tag | None]:
        """The pointer's content and its tag; None, None before the first publication."""
        found = self.store.read(self.paths.pointer.as_posix())
        if found is None:
            return None, None
        return read_pointer(found.data, self.store.address(self.paths.pointer.as_posix()), self.study), found.tag


def version_key(as_of: date | str, run_id: str) -> str:
    """How the pointer's ``removing`` names a version."""
    return f"{as_of}/{run_id}"


def move_pointer(layout: ObjectLayout, as_of: str, run_id: str, *, may_go_back: bool) -> str | None:
    """Make a version the latest one. Returns why not, and has changed nothing, where the pointer may not go back and the latest stays.

    Raises
    ------
    PublishError : the version is not whole, is being removed, or other runs moved the pointer at every try.
    """

    why_not: list[str] = []

    def moved(latest: Mapping[str, Any] | None) -> dict[str, Any] | None:
        content = _content(layout, as_of, run_id)
        why = None if may_go_back else outranked(latest, as_of, run_id, moment_of(content["started_at"]) or datetime.now(UTC))
        if why is not None:
            why_not.append(why)
            return None
        removing = [] if latest is None else latest.get("removing", [])
        if version_key(as_of, run_id) in removing:
            raise PublishError(f"{layout.study}: version {run_id} is being removed by groupwise prune; publish again.")
        rolled_back_at = as_text(datetime.now(UTC)) if may_go_back else None
        return content | {"rolled_back_at": rolled_back_at, "removing": removing}

    return None if swap_pointer(layout, moved) else why_not[-1]


def swap_pointer(layout: ObjectLayout, change: Callable[[Mapping[str, Any] | None], dict[str, Any] | None]) -> bool:
    """Replace the pointer by ``change`` of what it is, as often as it takes; False where ``change`` gives None."""
    name = layout.paths.pointer.as_posix()
    for attempt in range(TRIES):
        latest, tag = layout.latest()
        wanted = change(latest)
        if wanted is None:
            return False
        wanted |= {"generation": 1 + (0 if latest is None else int(latest.get("generation", 0)))}
        data = sealed(wanted).encode()
        if layout.store.swap(name, data, tag):
            return True
        found = layout.store.read(name)
        if found is not None and found.data == data:
            # the store had taken it, and the answer was lost
            return True
        time.sleep(random.uniform(0.5, 1.0) * min(FIRST_PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE_SECONDS))
    raise PublishError(f"{layout.study}: other runs moved {layout.store.address(name)} at each of {TRIES} tries; try again.")


def _content(layout: ObjectLayout, as_of: str, run_id: str) -> dict[str, Any]:
    paths, of = layout.paths, (as_of, run_id)
    manifest, digest = _manifest_and_digest(layout, as_of, run_id)
    files = require_whole(layout, manifest)
    report = paths.report(*of)
    has_report = report.as_posix() in layout.store.names(report.as_posix())
    return {
        "schema": MANIFEST_SCHEMA,
        "tables_version": str(manifest["tables_version"]),
        "study": layout.study,
        "as_of": as_of,
        "run_id": run_id,
        "started_at": manifest.get("started_at"),
        "version": paths.version(*of).relative_to(paths.home).as_posix(),
        "manifest": paths.manifest(*of).relative_to(paths.home).as_posix(),
        "manifest_sha256": digest,
        "report": report.relative_to(paths.home).as_posix() if has_report else None,
        "tables": sorted(str(entry["table"]) for entry in files),
    }


def read_manifest(layout: ObjectLayout, as_of: str, run_id: str) -> dict[str, Any]:
    """A version's manifest; PublishError where there is none, or it is damaged, or not the one that the pointer names."""
    manifest, digest = _manifest_and_digest(layout, as_of, run_id)
    latest, _ = layout.latest()
    if latest is not None and (latest["as_of"], latest["run_id"]) == (as_of, run_id) and latest.get("manifest_sha256", digest) != digest:
        name = layout.store.address(layout.paths.manifest(as_of, run_id).as_posix())
        raise PublishError(f"{layout.study}: {name} is not the manifest that the pointer names. {RESTORE}")
    return manifest


def _manifest_and_digest(layout: ObjectLayout, as_of: str, run_id: str) -> tuple[dict[str, Any], str]:
    name = layout.paths.manifest(as_of, run_id).as_posix()
    found = layout.store.read(name)
    if found is None:
        raise PublishError(f"{layout.study}: {layout.store.address(name)} is not there; the version was removed.")
    manifest = parse_manifest(found.data, layout.store.address(name), layout.paths, as_of, run_id)
    return manifest, hashlib.sha256(found.data).hexdigest()


def require_whole(layout: ObjectLayout, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a version's tables, all of which are there at their sizes; PublishError otherwise."""
    folder = layout.paths.version(manifest["as_of"], manifest["run_id"]).as_posix()
    there = {name: stored.size for name, stored in layout.store.names(f"{folder}/").items()}
    files: list[dict[str, Any]] = list(manifest["files"])
    missing = [entry["path"] for entry in files if there.get(f"{folder}/{entry['path']}") != entry["bytes"]]
    if missing:
        raise PublishError(
            f"{layout.study}: version {layout.store.address(folder)} has no whole {', '.join(missing)}; it was removed or damaged by hand."
        )
    return files
