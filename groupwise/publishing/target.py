"""Where a study publishes: a local folder or object storage, behind the few things that commands and the flow do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from groupwise.publishing.address import has_scheme, read_address
from groupwise.publishing.folder.folder_publish import Run, publish
from groupwise.publishing.folder.folder_versions import prune, rollback, versions
from groupwise.publishing.folder.obstacles import require_clear
from groupwise.publishing.folder.repair import repair
from groupwise.publishing.folder.report_index import write_index
from groupwise.publishing.folder.trial import require_publishable
from groupwise.publishing.layout import STUDY_NAME, Layout, open_layout
from groupwise.publishing.publication import Confirm, Publication, nobody_asks
from groupwise.publishing.stage import Attachments
from groupwise.publishing.verify import (
    check_version,
    checked_file,
    checked_folder,
    latest_manifest,
    read_average_cells,
    read_manifest,
    read_tables,
)
from groupwise.publishing.version import Version
from multilevel.errors import PublishError

if TYPE_CHECKING:
    from groupwise.publishing.object_store.store_pointer import ObjectLayout

type Waiting = Callable[[str], None] | None


class Target(Protocol):
    """The publications of one study. Every method raises PublishError where the place refuses."""

    @property
    def study(self) -> str:
        """The study's name."""

    @property
    def place(self) -> str:
        """The study's ``publish_to``, for messages."""

    def check(self) -> None:
        """Raise PublishError where nothing could be published: found out before a run spends anything."""

    def latest(self) -> Version | None:
        """The version that the pointer names; None before the first publication."""

    def versions(self) -> list[Version]:
        """Published versions, newest as_of first, then newest published."""

    def manifest(self, version: Version) -> dict[str, Any]:
        """A version's manifest."""

    def verify(self, version: Version) -> None:
        """Raise PublishError unless every file of the version is what its manifest says."""

    def tables(self, version: Version) -> dict[str, pa.Table]:
        """A version's tables by name, each held against the manifest."""

    def attachment(self, version: Version, name: str, folder: Path) -> Path | None:
        """A file beside a version's tables (``manifest.ATTACHMENTS``), fetched into ``folder`` if need be; None where it has none."""

    def joint(self, version: Version, folder: Path) -> Path | None:
        """A version's saved joint distribution as a local folder of tables, or a file of versions from before; fetched into ``folder`` if
        need be; None where none was saved."""

    def average_cells(self, version: Version) -> pa.Table | None:
        """The cells of a version's averages, held against the manifest; None where none were kept."""

    def publish(
        self,
        tables: Mapping[str, pa.Table],
        *,
        as_of: date,
        run_id: str,
        provenance: Mapping[str, Any],
        attachments: Attachments,
        waiting: Waiting,
        started_at: datetime | None = None,
        confirm: Confirm = nobody_asks,
    ) -> Publication:
        """Put a run's tables in place as one version, all of them or none; parameters as of ``folder_publish.publish``."""

    def rollback(self, run_id: str, waiting: Waiting = None) -> Version:
        """Make an earlier version the latest one."""

    def prune(self, keep: int, waiting: Waiting = None) -> list[Version]:
        """Remove all but the newest versions, and never the latest; returns what was removed."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder: renames, a lock, a link."""

    layout: Layout

    @property
    def study(self) -> str:
        """The study's name."""
        return self.layout.study

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.layout.root)

    def check(self) -> None:
        """Check for obstacles, try the operations of publishing, and read the pointer."""
        require_clear(self.layout)
        require_publishable(self.layout)
        self.layout.latest()

    def latest(self) -> Version | None:
        """The version that the pointer names."""
        pointer = self.layout.latest()
        if pointer is None:
            return None
        return Version(pointer["as_of"], pointer["run_id"], "", self.layout.home / pointer["version"], True)

    def versions(self) -> list[Version]:
        """All of them."""
        return versions(self.layout)

    def tables(self, version: Version) -> dict[str, pa.Table]:
        """A version's tables."""
        return read_tables(self.layout, self.manifest(version))

    def joint(self, version: Version, folder: Path) -> Path | None:
        """Where it lies."""
        manifest = self.manifest(version)
        return checked_folder(self.layout, manifest, "joint_tables") or checked_file(self.layout, manifest, "joint")

    def attachment(self, version: Version, name: str, folder: Path) -> Path | None:
        """Where it is."""
        return checked_file(self.layout, self.manifest(version), name)

    def average_cells(self, version: Version) -> pa.Table | None:
        """Read."""
        return read_average_cells(self.layout, self.manifest(version))

    def manifest(self, version: Version) -> dict[str, Any]:
        """The one that the pointer names, where the version is the latest."""
        latest = self.layout.latest()
        if latest is not None and (latest["as_of"], latest["run_id"]) == (version.as_of, version.run_id):
            return latest_manifest(self.layout, latest)
        return read_manifest(self.layout, version.as_of, version.run_id)

    def verify(self, version: Version) -> None:
        """One read of every file."""
        check_version(self.layout, self.manifest(version))

    def publish(
        self,
        tables: Mapping[str, pa.Table],
        *,
        as_of: date,
        run_id: str,
        provenance: Mapping[str, Any],
        attachments: Attachments,
        waiting: Waiting,
        started_at: datetime | None = None,
        confirm: Confirm = nobody_asks,
    ) -> Publication:
        """Staged, synced, renamed; then the pointer."""
        return publish(
            tables,
            publish_to=self.place,
            study=self.study,
            as_of=as_of,
            run_id=run_id,
            provenance=provenance,
            attachments=attachments,
            waiting=waiting,
            started_at=started_at,
            confirm=confirm,
        )

    def rollback(self, run_id: str, waiting: Waiting = None) -> Version:
        """Under the lock; then the index."""
        done = rollback(self.layout, run_id, waiting)
        write_index(self.layout.root)
        return done

    def prune(self, keep: int, waiting: Waiting = None) -> list[Version]:
        """Under the lock; then the index."""
        done = prune(self.layout, keep, waiting)
        write_index(self.layout.root)
        return done


@dataclass(frozen=True)
class ObjectStorage:
    """A bucket: new names, checksums, a pointer replaced under a condition. It has no lock, so nobody waits."""

    layout: ObjectLayout

    @property
    def study(self) -> str:
        """The study's name."""
        return self.layout.study

    @property
    def place(self) -> str:
        """The bucket and prefix."""
        return str(self.layout.store.root)

    def check(self) -> None:
        """Read the pointer: the place is there, and may be read."""
        self.layout.latest()

    def latest(self) -> Version | None:
        """The version that the pointer names."""
        pointer, _ = self.layout.latest()
        if pointer is None:
            return None
        folder = self.layout.store.address(f"{self.study}/{pointer['version']}")
        return Version(pointer["as_of"], pointer["run_id"], "", folder, True)

    def versions(self) -> list[Version]:
        """All of them."""
        from groupwise.publishing.object_store.store_versions import object_versions

        return object_versions(self.layout)

    def manifest(self, version: Version) -> dict[str, Any]:
        """Downloaded."""
        from groupwise.publishing.object_store.store_pointer import read_manifest as read_stored_manifest

        return read_stored_manifest(self.layout, version.as_of, version.run_id)

    def verify(self, version: Version) -> None:
        """Every file is downloaded."""
        from groupwise.publishing.object_store.store_versions import require_undamaged

        require_undamaged(self.layout, self.manifest(version))

    def tables(self, version: Version) -> dict[str, pa.Table]:
        """A version's tables."""
        from groupwise.publishing.object_store.store_versions import object_tables

        return object_tables(self.layout, version)

    def joint(self, version: Version, folder: Path) -> Path | None:
        """Downloaded."""
        from groupwise.publishing.object_store.store_versions import object_folder

        tables = object_folder(self.layout, version, "joint_tables")
        if not tables:
            return self.attachment(version, "joint", folder)
        for name, data in tables.items():
            (folder / name).write_bytes(data)
        return folder

    def attachment(self, version: Version, name: str, folder: Path) -> Path | None:
        """Downloaded."""
        from groupwise.publishing.object_store.store_versions import object_attachment

        data = object_attachment(self.layout, version, name)
        if data is None:
            return None
        path = folder / f"{version.run_id}.{name}"
        path.write_bytes(data)
        return path

    def average_cells(self, version: Version) -> pa.Table | None:
        """Downloaded."""
        from groupwise.publishing.object_store.store_versions import object_average_cells

        return object_average_cells(self.layout, version)

    def publish(
        self,
        tables: Mapping[str, pa.Table],
        *,
        as_of: date,
        run_id: str,
        provenance: Mapping[str, Any],
        attachments: Attachments,
        waiting: Waiting,
        started_at: datetime | None = None,
        confirm: Confirm = nobody_asks,
    ) -> Publication:
        """Uploaded, verified; then the pointer."""
        from groupwise.publishing.object_store.store_publish import publish_objects

        run = Run(tables, as_of, run_id, started_at or datetime.now(UTC), provenance, attachments, confirm)
        return publish_objects(self.layout, run, waiting)

    def rollback(self, run_id: str, waiting: Waiting = None) -> Version:
        """Through the pointer."""
        from groupwise.publishing.object_store.store_versions import object_rollback

        return object_rollback(self.layout, run_id)

    def prune(self, keep: int, waiting: Waiting = None) -> list[Version]:
        """The pointer names them first."""
        from groupwise.publishing.object_store.store_versions import object_prune

        return object_prune(self.layout, keep)


def open_target(publish_to: str, study: str) -> Target:
    """Where a study publishes; PublishError for a place or a name that cannot be one, or where obstore is not installed."""
    if not has_scheme(publish_to):
        layout = open_layout(publish_to, study)
        repair(layout)
        return LocalFolder(layout)
    from groupwise.publishing.object_store.store import ObjectStore
    from groupwise.publishing.object_store.store_pointer import ObjectLayout

    if not STUDY_NAME.fullmatch(study):
        raise PublishError(f"study {study!r}: a published name has letters, digits, underscores and hyphens, beginning with a letter.")
    try:
        root = read_address(publish_to)
    except ValueError as error:
        raise PublishError(f"publish_to: {error}.") from error
    return ObjectStorage(ObjectLayout(ObjectStore(root), study))
