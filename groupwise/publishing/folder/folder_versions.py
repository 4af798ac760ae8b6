"""The versions of a study: list them, go back to one, remove old ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from groupwise.publishing import durable
from groupwise.publishing.folder.folder_publish import locked, point_at
from groupwise.publishing.folder.obstacles import require_clear
from groupwise.publishing.folder.own_files import in_the_way, kind_of
from groupwise.publishing.layout import Layout
from groupwise.publishing.manifest import BrokenManifestError
from groupwise.publishing.verify import check_version, read_manifest
from groupwise.publishing.version import Version, check_keep, find_version, in_order, left_out, version_of
from multilevel.errors import PublishError

log = logging.getLogger("groupwise.publishing")


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
    with locked(layout, waiting):
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
    with locked(layout, waiting):
        require_clear(layout)
        old = [version for version in versions(layout)[keep:] if not version.is_latest]
        for version in old:
            # the manifest goes first: from there on the version does not count, and the next run removes what a crash leaves
            for path in layout.parts(version.as_of, version.run_id):
                durable.remove(path)
                if path.parent.is_dir() and not any(path.parent.iterdir()):
                    path.parent.rmdir()
    return old


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
