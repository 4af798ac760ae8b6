"""The versions of a study: list them, go back to one, remove old ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from multilevel.errors import PublishError
from tasks.object_storage.address import Address
from tasks.publishing import durable
from tasks.publishing.layout import Layout
from tasks.publishing.manifest import BrokenManifestError
from tasks.publishing.obstacles import require_clear
from tasks.publishing.own_files import in_the_way, kind_of
from tasks.publishing.pointer import moment_of
from tasks.publishing.publish import point_at, turn
from tasks.publishing.verify import check_version, read_manifest

log = logging.getLogger("groupwise.publishing")


@dataclass(frozen=True)
class Version:
    """One published version. ``folder`` holds its tables; ``published_at`` and ``started_at`` are ISO timestamps in UTC.

    ``started_at`` is empty for a version from before manifests had it.
    """

    as_of: str
    run_id: str
    published_at: str
    folder: Path | Address
    is_latest: bool
    started_at: str = ""


def versions(layout: Layout) -> list[Version]:
    """Published versions, newest as_of first, then the run that started last; a folder without a manifest is none.

    What lies among the manifests and is none is named in the log, and left out.
    """
    latest = layout.latest()
    pointed = None if latest is None else (latest["as_of"], latest["run_id"])
    found = [_version(path, layout, pointed) for path in sorted(layout.manifests.glob("*/*.json"))]
    return in_order(version for version in found if version is not None)


def rollback(layout: Layout, run_id: str, waiting: Callable[[str], None] | None = None) -> Version:
    """Make an earlier version the latest one; the only way by which the pointer moves to an earlier as_of.

    Raises PublishError where no version has this run id, a file of it is damaged, something is in the way, or the disk refuses.
    """
    _require_home(layout)
    with turn(layout, waiting):
        require_clear(layout)
        wanted = find_version(versions(layout), layout.study, run_id)
        check_version(layout, read_manifest(layout, wanted.as_of, run_id))
        try:
            point_at(layout, wanted.as_of, run_id, rolled_back_at=datetime.now(UTC))
        except OSError as error:
            raise PublishError(f"{layout.study}: cannot move the pointer in {layout.home}: {error.strerror or error}.") from error
    return wanted


def prune(layout: Layout, keep: int, waiting: Callable[[str], None] | None = None) -> list[Version]:
    """Remove all but the ``keep`` newest versions, and never the latest one; returns what was removed."""
    check_keep(layout.study, keep)
    _require_home(layout)
    with turn(layout, waiting):
        require_clear(layout)
        old = [version for version in versions(layout)[keep:] if not version.is_latest]
        for version in old:
            # the manifest goes first: from there on the version does not count, and the next run removes what a crash leaves
            for path in layout.parts(version.as_of, version.run_id):
                durable.remove(path)
                if path.parent.is_dir() and not any(path.parent.iterdir()):
                    path.parent.rmdir()
    return old


def find_version(known: Sequence[Version], study: str, run_id: str) -> Version:
    """The one that a run published; PublishError names the newest of those there are."""
    found = next((version for version in known if version.run_id == run_id), None)
    if found is None:
        newest = ", ".join(version.run_id for version in known[:5]) or "none"
        raise PublishError(f"{study}: no version has the run id {run_id}; the newest are {newest}.")
    return found


def check_keep(study: str, keep: int) -> None:
    """Raise PublishError where nothing would be kept."""
    if keep < 1:
        raise PublishError(f"{study}: --keep {keep}: keep at least one version.")


def in_order(found: Iterable[Version]) -> list[Version]:
    """Newest as_of first, then the run that started last, or was published last where no start is known."""
    return sorted(found, key=lambda version: (version.as_of, _moment(version), version.published_at, version.run_id), reverse=True)


def version_of(manifest: Mapping[str, Any], folder: Path | Address, pointed: tuple[str, str] | None) -> Version:
    """The version that a manifest describes; ``pointed`` is the one that the pointer names."""
    of = (str(manifest["as_of"]), str(manifest["run_id"]))
    return Version(*of, str(manifest["published_at"]), folder, of == pointed, str(manifest.get("started_at") or ""))


def left_out(study: str, error: PublishError) -> None:
    """Name in the log what lies among the manifests and is none."""
    log.warning("%s: left out: %s", study, error)


def _moment(version: Version) -> datetime:
    moment = moment_of(version.started_at or version.published_at)
    return moment if moment is not None else datetime.min.replace(tzinfo=UTC)


def _version(path: Path, layout: Layout, pointed: tuple[str, str] | None) -> Version | None:
    try:
        if kind_of(path) != "a file":
            raise BrokenManifestError(in_the_way(path, "a file"))
        manifest = read_manifest(layout, path.parent.name, path.stem)
    except BrokenManifestError as error:
        left_out(layout.study, error)
        return None
    return version_of(manifest, layout.home / manifest["version"], pointed)


def _require_home(layout: Layout) -> None:
    if not layout.home.is_dir():
        raise PublishError(f"{layout.study}: nothing is published in {layout.root} yet; run groupwise estimate first.")
