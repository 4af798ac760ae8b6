"""Where a study publishes: a local folder or object storage, behind the few things that commands and the flow do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from multilevel.errors import PublishError
from multilevel.tables.catalogue import TABLES
from tasks.object_storage.address import has_scheme, read_address
from tasks.publishing.layout import STUDY_NAME, Layout, open_layout
from tasks.publishing.publish import Publication, publish
from tasks.publishing.stage import Beside
from tasks.publishing.versions import Version, prune, rollback, versions

if TYPE_CHECKING:
    from tasks.object_storage.pointer import ObjectLayout

type Waiting = Callable[[str], None] | None


class Target(Protocol):
    """The publications of one study. Every method raises PublishError where the place refuses."""

    @property
    def study(self) -> str:
        """The study's name."""

    @property
    def place(self) -> str:
        """The study's ``publish_to``, for messages."""

    def latest(self) -> Version | None:
        """The version that the pointer names; None before the first publication."""

    def versions(self) -> list[Version]:
        """Published versions, newest as_of first, then newest published."""

    def tables(self, version: Version) -> dict[str, pa.Table]:
        """A version's tables by name."""

    def joint(self, version: Version, folder: Path) -> Path | None:
        """A version's kept joint distribution as a local file, fetched into ``folder`` if need be; None where none is kept."""

    def publish(
        self, tables: Mapping[str, pa.Table], *, as_of: date, run_id: str, provenance: Mapping[str, Any], beside: Beside, waiting: Waiting
    ) -> Publication:
        """Put a run's tables in place as one version, all of them or none."""

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
        folder = Path(str(version.folder))
        missing = [name for name in TABLES if not (folder / f"{name}.parquet").is_file()]
        if missing:
            raise PublishError(
                f"{self.study}: version {folder} has no {', '.join(missing)}; it was removed by hand, or its disk is damaged."
            )
        return {path.stem: pq.read_table(path, partitioning=None) for path in sorted(folder.glob("*.parquet"))}

    def joint(self, version: Version, folder: Path) -> Path | None:
        """Where it lies."""
        path = self.layout.joint(version.as_of, version.run_id)
        return path if path.is_file() else None

    def publish(
        self, tables: Mapping[str, pa.Table], *, as_of: date, run_id: str, provenance: Mapping[str, Any], beside: Beside, waiting: Waiting
    ) -> Publication:
        """Staged, synced, renamed; then the pointer."""
        return publish(
            tables,
            publish_to=self.place,
            study=self.study,
            as_of=as_of,
            run_id=run_id,
            provenance=provenance,
            beside=beside,
            waiting=waiting,
        )

    def rollback(self, run_id: str, waiting: Waiting = None) -> Version:
        """Under the lock."""
        return rollback(self.layout, run_id, waiting)

    def prune(self, keep: int, waiting: Waiting = None) -> list[Version]:
        """Under the lock."""
        return prune(self.layout, keep, waiting)


@dataclass(frozen=True)
class ObjectStorage:
    """A bucket: new names, checksums, a pointer replaced under a condition. It takes no turns, so nobody waits."""

    layout: ObjectLayout

    @property
    def study(self) -> str:
        """The study's name."""
        return self.layout.study

    @property
    def place(self) -> str:
        """The bucket and prefix."""
        return str(self.layout.store.root)

    def latest(self) -> Version | None:
        """The version that the pointer names."""
        pointer, _ = self.layout.latest()
        if pointer is None:
            return None
        folder = self.layout.store.address(f"{self.study}/{pointer['version']}")
        return Version(pointer["as_of"], pointer["run_id"], "", folder, True)

    def versions(self) -> list[Version]:
        """All of them."""
        from tasks.object_storage.versions import object_versions

        return object_versions(self.layout)

    def tables(self, version: Version) -> dict[str, pa.Table]:
        """A version's tables."""
        from tasks.object_storage.versions import object_tables

        return object_tables(self.layout, version)

    def joint(self, version: Version, folder: Path) -> Path | None:
        """Downloaded."""
        content = self.layout.store.read(self.layout.paths.joint(version.as_of, version.run_id).as_posix())
        if content is None:
            return None
        path = folder / f"{version.run_id}.npz"
        path.write_bytes(content.data)
        return path

    def publish(
        self, tables: Mapping[str, pa.Table], *, as_of: date, run_id: str, provenance: Mapping[str, Any], beside: Beside, waiting: Waiting
    ) -> Publication:
        """Uploaded, verified; then the pointer."""
        from tasks.object_storage.publish import publish_objects

        return publish_objects(self.layout, tables, as_of=as_of, run_id=run_id, provenance=provenance, beside=beside, waiting=waiting)

    def rollback(self, run_id: str, waiting: Waiting = None) -> Version:
        """Through the pointer."""
        from tasks.object_storage.versions import object_rollback

        return object_rollback(self.layout, run_id)

    def prune(self, keep: int, waiting: Waiting = None) -> list[Version]:
        """The pointer names them first."""
        from tasks.object_storage.versions import object_prune

        return object_prune(self.layout, keep)


def open_target(publish_to: str, study: str) -> Target:
    """Where a study publishes; PublishError for a place or a name that cannot be one, or where s3fs is not installed."""
    if not has_scheme(publish_to):
        return LocalFolder(open_layout(publish_to, study))
    from tasks.object_storage.pointer import ObjectLayout
    from tasks.object_storage.store import ObjectStore

    if not STUDY_NAME.fullmatch(study):
        raise PublishError(f"study {study!r}: a published name has letters, digits, underscores and hyphens, beginning with a letter.")
    try:
        root = read_address(publish_to)
    except ValueError as error:
        raise PublishError(f"publish_to: {error}.") from error
    return ObjectStorage(ObjectLayout(ObjectStore(root), study))
