"""The versions of a study: list them, go back to one, remove old ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from multilevel.errors import PublishError
from multilevel.tables.catalogue import TABLES
from tasks.object_storage.address import Address
from tasks.publishing import durable
from tasks.publishing.layout import Layout
from tasks.publishing.manifest import parse_manifest
from tasks.publishing.publish import point_at, turn


@dataclass(frozen=True)
class Version:
    """One published version. ``folder`` holds its tables; ``published_at`` is an ISO timestamp in UTC."""

    as_of: str
    run_id: str
    published_at: str
    folder: Path | Address
    is_latest: bool


def versions(layout: Layout) -> list[Version]:
    """Published versions, newest as_of first, then newest published; a folder without a manifest is none."""
    latest = layout.latest()
    pointed = None if latest is None else (latest["as_of"], latest["run_id"])
    return in_order(_version(path, layout, pointed) for path in layout.manifests.glob("*/*.json"))


def rollback(layout: Layout, run_id: str, waiting: Callable[[str], None] | None = None) -> Version:
    """Make an earlier version the latest one; the only way by which the pointer moves to an earlier as_of.

    Raises PublishError where no version has this run id, or the disk refuses.
    """
    _require_home(layout)
    with turn(layout, waiting):
        wanted = find_version(versions(layout), layout.study, run_id)
        folder = layout.version(wanted.as_of, run_id)
        missing = [name for name in TABLES if not (folder / f"{name}.parquet").is_file()]
        if missing:
            raise PublishError(f"{layout.study}: version {folder} has no {', '.join(missing)}; it was removed by hand.")
        try:
            point_at(layout, wanted.as_of, run_id)
        except OSError as error:
            raise PublishError(f"{layout.study}: cannot move the pointer in {layout.home}: {error.strerror or error}.") from error
    return wanted


def prune(layout: Layout, keep: int, waiting: Callable[[str], None] | None = None) -> list[Version]:
    """Remove all but the ``keep`` newest versions, and never the latest one; returns what was removed."""
    check_keep(layout.study, keep)
    _require_home(layout)
    with turn(layout, waiting):
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
    """Newest as_of first, then newest published."""
    return sorted(found, key=lambda version: (version.as_of, version.published_at, version.run_id), reverse=True)


def _version(path: Path, layout: Layout, pointed: tuple[str, str] | None) -> Version:
    manifest = parse_manifest(path.read_bytes(), path)
    as_of, run_id = str(manifest["as_of"]), str(manifest["run_id"])
    return Version(as_of, run_id, str(manifest["published_at"]), layout.home / manifest["version"], (as_of, run_id) == pointed)


def _require_home(layout: Layout) -> None:
    if not layout.home.is_dir():
        raise PublishError(f"{layout.study}: nothing is published in {layout.root} yet; run groupwise estimate first.")
