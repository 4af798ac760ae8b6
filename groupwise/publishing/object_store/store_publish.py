"""Publishing to object storage: everything of a version under names that nobody has yet, verified, then its manifest, and last the pointer.

There is no lock. Runs never write the same object, except for the pointer, which is replaced under a condition (``object_pointer``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from groupwise.publishing import durable
from groupwise.publishing.contract import contract_text
from groupwise.publishing.folder.folder_publish import Run
from groupwise.publishing.manifest import ATTACHMENTS, FOLDERS, manifest_of
from groupwise.publishing.object_store.claim import claim, release_claim
from groupwise.publishing.object_store.store import ObjectStore
from groupwise.publishing.object_store.store_catalog import follow_pointer
from groupwise.publishing.object_store.store_clean_up import DEAD_AFTER, clean_up, parts
from groupwise.publishing.object_store.store_pointer import ObjectLayout, move_pointer
from groupwise.publishing.publication import Publication, check_contract, check_run_id, unconfirmed
from groupwise.publishing.sealed import sealed
from groupwise.publishing.stage import Staged, placed, stage
from multilevel.errors import PublishError

# A run that took longer than this to upload may have been taken for dead; it stops before its manifest makes the version count.
LONGEST_UPLOAD_SECONDS = DEAD_AFTER.total_seconds() / 2
WEAK = "does not know conditional writes: runs of a study that publish at the same moment are not kept apart (docs/publishing-to-s3.md)"


def publish_objects(layout: ObjectLayout, version: Run, waiting: Callable[[str], None] | None = None) -> Publication:
    """Put a run's tables in place as one version; errors as of ``groupwise.publishing.folder.folder_publish.publish``."""
    store, run_id = layout.store, version.run_id
    check_run_id(layout.study, run_id)
    check_contract(version.tables)
    if not store.is_conditional and waiting is not None:
        waiting(f"{layout.study}: {store.root} {WEAK}")
    if _is_there(layout, version):
        raise PublishError(f"{layout.study}: version {_address(layout, version)} exists already; a run publishes once.")
    started, now = time.monotonic(), claim(layout, run_id)
    try:
        clean_up(layout, now)
        contract = contract_text(layout.study, version.provenance.get("study_definition", {}), version.tables)
        with TemporaryDirectory(prefix="groupwise-") as folder:
            unsure = _upload(layout, version, stage(version.tables, version.attachments, contract, Path(folder)), started)
    except BaseException as error:
        _withdraw(layout, version, error)
        raise
    if unsure is not None:
        release_claim(layout, run_id)
        raise PublishError(unconfirmed(layout.study, run_id, unsure))
    return _point(layout, version)


def _upload(layout: ObjectLayout, version: Run, staged: Staged, started: float) -> str | None:
    """Everything, the manifest last; returns why nobody can tell whether the run is still wanted, None where it is."""
    store, of = layout.store, (version.as_of, version.run_id)
    files = [pair for source, place in placed(layout.paths, staged, *of) for pair in _files(source, place)]
    for source, name in files:
        store.upload(source, name)
    for source, name in files:
        _verify(store, name, durable.sha256(source))
    attachments = {name: getattr(staged, name) for name in ATTACHMENTS}
    content = manifest_of(
        layout.paths,
        *of,
        staged.files,
        version.provenance,
        started_at=version.started_at,
        attachments=attachments,
        folders={name: getattr(staged, name) for name in FOLDERS},
    )
    content |= {"conditional_writes": store.is_conditional}
    if time.monotonic() - started > LONGEST_UPLOAD_SECONDS:
        raise PublishError(f"{layout.study}: uploading took over {LONGEST_UPLOAD_SECONDS / 3600:.0f} hours; nothing is published.")
    unsure = version.confirm()
    text = sealed(content).encode()
    manifest = layout.paths.manifest(*of).as_posix()
    store.create(manifest, text)
    found = store.read(manifest)
    if found is None or found.data != text:
        raise PublishError(f"{store.address(manifest)} does not read back as it was written; look at the store. Nothing is published.")
    return unsure


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


def _point(layout: ObjectLayout, version: Run) -> Publication:
    """From the manifest on the version counts, whether the pointer names it or not."""
    of = (version.as_of, version.run_id)
    try:
        why_not = move_pointer(layout, str(version.as_of), version.run_id, may_go_back=False)
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
        why_not_latest=why_not,
    )


def _address(layout: ObjectLayout, version: Run) -> Any:
    return layout.store.address(layout.paths.version(version.as_of, version.run_id).as_posix())


def _is_there(layout: ObjectLayout, version: Run) -> bool:
    of = (version.as_of, version.run_id)
    version_folder, manifest = layout.paths.version(*of).as_posix(), layout.paths.manifest(*of).as_posix()
    return any(layout.store.names(name) for name in (f"{version_folder}/", manifest))


def _withdraw(layout: ObjectLayout, version: Run, error: BaseException) -> None:
    """Take back a version that did not get as far as the pointer; where the store does not let us, a later run removes it."""
    try:
        for name in parts(layout, str(version.as_of), version.run_id):
            layout.store.remove(name)
        release_claim(layout, version.run_id)
    except PublishError as second:
        error.add_note(f"What was uploaded could not be removed ({second}); a later run removes it. It is no version without its manifest.")
