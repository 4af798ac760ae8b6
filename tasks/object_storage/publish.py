"""Publishing to object storage: everything of a version under names that nobody has yet, verified, then its manifest, and last the pointer.

There is no lock. Runs never write the same object, except for the pointer, which is replaced under a condition (``object_pointer``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from multilevel.errors import PublishError
from tasks.object_storage.catalog import follow_pointer
from tasks.object_storage.claim import claim, release_claim
from tasks.object_storage.pointer import ObjectLayout, move_pointer
from tasks.object_storage.store import ObjectStore
from tasks.object_storage.sweep import DEAD_AFTER, parts, sweep
from tasks.publishing import durable
from tasks.publishing.contract import contract_text
from tasks.publishing.manifest import manifest_of
from tasks.publishing.publish import Publication, check_contract, check_run_id
from tasks.publishing.stage import Beside, Staged, placed, stage

# A run that took longer than this to upload may have been taken for dead; it stops before its manifest makes the version count.
LONGEST_UPLOAD_SECONDS = DEAD_AFTER.total_seconds() / 2
WEAK = "does not know conditional writes: runs of a study that publish at the same moment are not kept apart (docs/publishing-to-s3.md)"


@dataclass(frozen=True)
class _Version:
    as_of: date
    run_id: str
    provenance: Mapping[str, Any]


def publish_objects(
    layout: ObjectLayout,
    tables: Mapping[str, pa.Table],
    *,
    as_of: date,
    run_id: str,
    provenance: Mapping[str, Any],
    beside: Beside,
    waiting: Callable[[str], None] | None = None,
) -> Publication:
    """Put a run's tables in place as one version; parameters and errors as of ``tasks.publishing.publish.publish``."""
    check_run_id(layout.study, run_id)
    check_contract(tables)
    store, version = layout.store, _Version(as_of, run_id, provenance)
    if not store.is_conditional and waiting is not None:
        waiting(f"{layout.study}: {store.root} {WEAK}")
    if _is_there(layout, version):
        raise PublishError(f"{layout.study}: version {_address(layout, version)} exists already; a run publishes once.")
    started, now = time.monotonic(), claim(layout, run_id)
    try:
        sweep(layout, now)
        contract = contract_text(layout.study, provenance.get("study_definition", {}), tables)
        with TemporaryDirectory(prefix="groupwise-") as folder:
            _upload(layout, version, stage(tables, beside, contract, Path(folder)), started)
    except BaseException as error:
        _withdraw(layout, version, error)
        raise
    return _point(layout, version)


def _upload(layout: ObjectLayout, version: _Version, staged: Staged, started: float) -> None:
    store, of = layout.store, (version.as_of, version.run_id)
    files = [pair for source, place in placed(layout.paths, staged, *of) for pair in _files(source, place)]
    for source, name in files:
        store.upload(source, name)
    for source, name in files:
        _verify(store, name, durable.sha256(source))
    content = manifest_of(
        layout.paths, *of, staged.files, version.provenance, contract=staged.contract, joint=staged.joint, posterior=staged.posterior
    )
    content |= {"conditional_writes": store.is_conditional}
    if time.monotonic() - started > LONGEST_UPLOAD_SECONDS:
        raise PublishError(f"{layout.study}: uploading took over {LONGEST_UPLOAD_SECONDS / 3600:.0f} hours; nothing is published.")
    text = json.dumps(content, indent=1, default=str).encode()
    manifest = layout.paths.manifest(*of).as_posix()
    store.create(manifest, text)
    found = store.read(manifest)
    if found is None or found.data != text:
        raise PublishError(f"{store.address(manifest)} does not read back as it was written; look at the store. Nothing is published.")


def _files(source: Path, place: Path) -> Iterator[tuple[Path, str]]:
    """A staged file, or every file of a staged folder, with its name in the store."""
    if source.is_dir():
        for file in sorted(source.iterdir()):
            yield file, (place / file.name).as_posix()
    else:
        yield source, place.as_posix()


def _verify(store: ObjectStore, name: str, wanted: str) -> None:
    if store.sha256(name) != wanted:
        raise PublishError(f"{store.address(name)} does not read back as it was uploaded; look at the store. Nothing is published.")


def _point(layout: ObjectLayout, version: _Version) -> Publication:
    """From the manifest on the version counts, whether the pointer names it or not."""
    of = (version.as_of, version.run_id)
    try:
        is_latest = move_pointer(layout, str(version.as_of), version.run_id, may_go_back=False)
    except PublishError as error:
        raise PublishError(
            f"{error} Version {version.run_id} is whole; to make it the latest: groupwise rollback STUDY --to {version.run_id}"
        ) from error
    try:
        follow_pointer(layout)
        release_claim(layout, version.run_id)
    except PublishError as error:
        raise PublishError(
            f"{error} Version {version.run_id} is published all the same; "
            "catalog.sql and contract.odcs.yaml may speak of the one before until the next run."
        ) from error
    report = layout.paths.report(*of).as_posix()
    return Publication(
        folder=_address(layout, version),
        manifest=layout.store.address(layout.paths.manifest(*of).as_posix()),
        report=layout.store.address(report) if report in layout.store.names(report) else None,
        is_latest=is_latest,
    )


def _address(layout: ObjectLayout, version: _Version) -> Any:
    return layout.store.address(layout.paths.version(version.as_of, version.run_id).as_posix())


def _is_there(layout: ObjectLayout, version: _Version) -> bool:
    of = (version.as_of, version.run_id)
    version_folder, manifest = layout.paths.version(*of).as_posix(), layout.paths.manifest(*of).as_posix()
    return any(layout.store.names(name) for name in (f"{version_folder}/", manifest))


def _withdraw(layout: ObjectLayout, version: _Version, error: BaseException) -> None:
    """Take back a version that did not get as far as the pointer; where the store does not let us, a later run sweeps it."""
    try:
        for name in parts(layout, str(version.as_of), version.run_id):
            layout.store.remove(name)
        release_claim(layout, version.run_id)
    except PublishError as second:
        error.add_note(f"What was uploaded could not be removed ({second}); a later run removes it. It is no version without its manifest.")
